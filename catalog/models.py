"""What the reference shop sells: categories, products and their photos."""

import secrets
from pathlib import PurePosixPath

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models.functions import Upper
from django.urls import reverse
from django.utils.text import slugify
from django.utils.translation import gettext_lazy as _

from shop_similarity.photos.model_fields import PhotoField


class Category(models.Model):
    """A node of the category tree. The slug names the whole path, so that it is unique across the tree."""

    name = models.CharField(_("name"), max_length=120)
    slug = models.SlugField(_("slug"), max_length=200, unique=True)
    parent = models.ForeignKey(
        "self", models.CASCADE, verbose_name=_("parent"), related_name="children", null=True, blank=True
    )

    class Meta:
        verbose_name = _("category")
        verbose_name_plural = _("categories")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["parent", "name"], name="catalog_category_unique_name", nulls_distinct=False
            ),
            models.CheckConstraint(
                condition=~models.Q(parent=models.F("id")), name="catalog_category_not_its_own_parent"
            ),
        ]

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("catalog:category", kwargs={"slug": self.slug})


class Product(models.Model):
    """Something to buy. A product without a price is sold on request."""

    name = models.CharField(_("name"), max_length=200)
    slug = models.SlugField(_("slug"), max_length=220, unique=True)
    sku = models.CharField(_("SKU"), max_length=64, unique=True)
    category = models.ForeignKey(Category, models.PROTECT, verbose_name=_("category"), related_name="products")
    price = models.DecimalField(
        _("price"), max_digits=10, decimal_places=2, null=True, blank=True, validators=[MinValueValidator(0)]
    )
    stock = models.PositiveIntegerField(_("stock"), default=0)
    description = models.TextField(_("description"), blank=True)
    is_published = models.BooleanField(_("published"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        ordering = ["name", "pk"]
        indexes = [
            models.Index(fields=["category", "name"], name="catalog_product_category"),
            models.Index(fields=["-created_at"], name="catalog_product_newest"),
            GinIndex(OpClass(Upper("name"), name="gin_trgm_ops"), name="catalog_product_name_trigram"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(price__isnull=True) | models.Q(price__gte=0),
                name="catalog_product_price_not_negative",
            ),
        ]

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("catalog:product", kwargs={"slug": self.slug})

    @property
    def main_photo(self) -> "ProductPhoto | None":
        """The first photo; costs no query where the photos are prefetched."""
        photos = self.photos.all()
        return photos[0] if photos else None


def photo_path(photo: "ProductPhoto", filename: str) -> str:
    """Where a photo is stored: one folder per product, under a name that nobody can guess.

    Who guesses the address of a photo sees it before its product is published, on a shop whose files are served by a
    host that knows nothing of products.
    """
    name = PurePosixPath(filename)
    folder = slugify(photo.product.sku) or photo.product_id
    # Django cuts the end off a name that is too long for its column.
    return f"products/{folder}/{name.stem[:100]}-{secrets.token_urlsafe(16)}{name.suffix[:10]}"


class ProductPhoto(models.Model):
    """One photo of a product; the lowest position is the one shown in lists."""

    product = models.ForeignKey(Product, models.CASCADE, verbose_name=_("product"), related_name="photos")
    file = PhotoField(_("file"), upload_to=photo_path, max_length=255, width_field="width", height_field="height")
    width = models.PositiveIntegerField(_("width"), null=True, blank=True, editable=False)
    height = models.PositiveIntegerField(_("height"), null=True, blank=True, editable=False)
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    caption = models.CharField(_("caption"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("photo")
        verbose_name_plural = _("photos")
        ordering = ["position", "pk"]
        indexes = [
            models.Index(fields=["product", "position"], name="catalog_photo_position"),
            # By the whole name and by its beginning: whose photo is it that a browser asks for?
            models.Index(fields=["file"], opclasses=["varchar_pattern_ops"], name="catalog_photo_file"),
        ]

    def __str__(self):
        return self.caption or f"{self.product} ({self.position + 1})"


class LoadedCatalogue(models.Model):
    """Where the products came from: said at the foot of every page, so that nobody takes a demo for a real offer."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    description = models.CharField(_("description"), max_length=300)
    loaded_at = models.DateTimeField(_("loaded"), auto_now=True)

    class Meta:
        verbose_name = _("loaded catalogue")
        verbose_name_plural = _("loaded catalogues")
        ordering = ["-loaded_at"]

    def __str__(self):
        return self.name
