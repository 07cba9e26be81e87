"""Products that the shop hides are named and pictured to the staff that may see the shop's products, to nobody else."""

from __future__ import annotations

import io

import pytest
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from catalog.models import Product, ProductPhoto
from shop_similarity.models import MerchandisingRule, ModelVersion, OutboxEntry
from tests.shop_similarity.factories import add_photo, make_version

pytestmark = pytest.mark.django_db

PERMISSIONS = [
    f"shop_similarity.{name}" for name in ("view_merchandisingrule", "view_dashboard", "compare_modelversion")
]


@pytest.fixture
def hidden(shop, settings, tmp_path) -> ProductPhoto:
    """A photo of an unpublished product that a rule is about and that could not be embedded."""
    settings.MEDIA_ROOT = tmp_path / "media"
    product: Product = shop["Near"]
    product.name, product.is_published = "Next season's coat", False
    product.save()
    content = io.BytesIO()
    Image.new("RGB", (80, 80), "navy").save(content, "PNG")
    ProductPhoto.objects.filter(product=product).delete()
    photo = add_photo(product, content.getvalue(), "coat.png")
    MerchandisingRule.objects.create(kind="pin", target_product_id=product.pk)
    version = ModelVersion.objects.active()
    make_version("another", state=ModelVersion.State.CANDIDATE)
    OutboxEntry.objects.all().delete()
    OutboxEntry.objects.create(
        version=version, product_id=product.pk, image_id=photo.pk, failed_at=timezone.now(), last_error="Broken."
    )
    return photo


def _pages(hidden: ProductPhoto) -> list[str]:
    return [
        reverse("admin:shop_similarity_merchandisingrule_changelist"),
        reverse("admin:shop_similarity_dashboard"),
        f"{reverse('admin:shop_similarity_compare')}?products={hidden.product_id}",
    ]


def _named(page: str, hidden: ProductPhoto) -> set[str]:
    stem = hidden.file.name.rpartition(".")[0]
    return {name for name, text in (("photo", stem), ("name", "season")) if text in page}


def test_neither_name_nor_photo_for_those_who_may_not_see_products(staff, hidden):
    client = staff(*PERMISSIONS)
    for url in _pages(hidden):
        response = client.get(url)
        assert response.status_code == 200
        assert _named(response.content.decode(), hidden) == set(), url


def test_both_for_those_who_may(staff, hidden):
    client = staff(*PERMISSIONS, "catalog.view_product")
    rules, dashboard, _compare = (client.get(url).content.decode() for url in _pages(hidden))
    assert _named(rules, hidden) == {"photo", "name"}
    assert _named(dashboard, hidden) == {"photo", "name"}


def test_the_pages_of_a_product_are_for_those_who_may_see_it(staff, hidden):
    client = staff(*PERMISSIONS)
    for url in (
        reverse("admin:shop_similarity_products"),
        reverse("admin:shop_similarity_product", args=[hidden.product_id]),
    ):
        assert client.get(url).status_code == 403
