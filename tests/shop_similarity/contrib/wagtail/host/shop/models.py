from typing import Any

from django.conf import settings
from django.db import models
from django.dispatch import receiver
from modelcluster.fields import ParentalKey
from wagtail import blocks
from wagtail.admin.panels import InlinePanel
from wagtail.fields import StreamField
from wagtail.images.blocks import ImageChooserBlock
from wagtail.models import DraftStateMixin, Orderable, Page, RevisionMixin, TranslatableMixin
from wagtail.signals import page_published
from wagtail.snippets.models import register_snippet

from shop_similarity.contrib.wagtail.blocks import SimilarProductsBlock, SimilarSnippetsBlock
from shop_similarity.contrib.wagtail.panels import PhotoStatesPanel

SimilarBlock = SimilarProductsBlock if settings.HOST_PRODUCTS == "pages" else SimilarSnippetsBlock


class ContentPage(Page):
    body = StreamField(
        [
            ("paragraph", blocks.RichTextBlock()),
            ("similar_products", SimilarBlock()),
        ],
        blank=True,
    )
    content_panels = [*Page.content_panels, "body"]


class ProductPage(Page):
    price = models.DecimalField(max_digits=8, decimal_places=2, default=10)
    body = StreamField([("photo", ImageChooserBlock()), ("similar_products", SimilarBlock())], blank=True)
    content_panels = [
        *Page.content_panels,
        "price",
        InlinePanel("gallery_images", label="Photos"),
        PhotoStatesPanel(),
        "body",
    ]


class ProductPhoto(Orderable):
    page = ParentalKey(ProductPage, on_delete=models.CASCADE, related_name="gallery_images")
    image = models.ForeignKey("wagtailimages.Image", models.CASCADE, related_name="+")
    panels = ["image"]


class StreamPhoto(Orderable):
    page = models.ForeignKey(ProductPage, models.CASCADE, related_name="stream_photos")
    image = models.ForeignKey("wagtailimages.Image", models.CASCADE, related_name="+")


@receiver(page_published, sender=ProductPage)
def write_photos(instance: ProductPage, **kwargs: Any) -> None:
    from shop_similarity.catalogue import get_catalogue
    from shop_similarity.contrib.wagtail.stream_photos import write_stream_photos

    if get_catalogue().image_model is StreamPhoto:
        write_stream_photos(instance, "body")


@register_snippet
class Gadget(TranslatableMixin, DraftStateMixin, RevisionMixin, models.Model):
    name = models.CharField(max_length=100)
    photo = models.ForeignKey("wagtailimages.Image", models.SET_NULL, null=True, related_name="+")
    panels = ["name", "photo", PhotoStatesPanel()]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return f"/gadgets/{self.pk}/"
