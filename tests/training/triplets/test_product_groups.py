import pytest

from shop_similarity.training.triplets.product_groups import group_names, keys_of_the_shop
from tests.shop_similarity.factories import add_photo, make_category, make_product

pytestmark = pytest.mark.django_db


@pytest.fixture
def by(settings):
    def by(path):
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VARIANT_GROUP": path}

    return by


def test_without_the_setting_each_product_is_a_group_of_its_own():
    make_product()
    assert group_names() == {} and keys_of_the_shop() == "catalog.Product"


def test_variants_have_the_name_of_their_group(by):
    one, other = (make_product(category=make_category(name), description="") for name in ("A", "B"))
    by("category")
    assert group_names() == {product.pk: f"category={product.category_id}" for product in (one, other)}
    assert keys_of_the_shop() == "catalog.Product by category"
    by("description")
    assert group_names() == {}, "no value is no group"


def test_a_group_that_is_called_by_a_product_has_that_product_in_it(by):
    product = make_product()
    # What "parent" would give for the variants of this one.
    by("pk")
    assert group_names() == {product.pk: str(product.pk)}


def test_a_product_of_several_groups_is_in_one_of_them_in_every_run(by):
    product = make_product()
    for position in (30, 4):
        add_photo(product, b"", f"{position}.jpg", position)
    by("photos__position")
    assert group_names() == {product.pk: "photos__position=30"}
