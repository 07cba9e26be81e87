"""The categories of the shop as choices, by whatever path the settings name."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Category
from shop_similarity.catalogue.categories import _own_names, category_choices
from tests.shop_similarity.factories import make_product

pytestmark = pytest.mark.django_db


@pytest.fixture
def tops() -> list[Category]:
    """Two categories of one name, the second without a product that may be shown."""
    men, women = (Category.objects.create(name=name, slug=name.lower()) for name in ("Men", "Women"))
    tops = [Category.objects.create(name="Tops", slug=f"{parent.slug}-tops", parent=parent) for parent in (men, women)]
    make_product(category=tops[0], stock=3)
    make_product(category=tops[0], stock=5)
    make_product(category=tops[1], stock=8, is_published=False)
    Category.objects.create(name="Empty", slug="empty")
    return tops


def _choices(path: str | None, settings, **options) -> list[tuple[str, str]]:
    settings.SHOP_SIMILARITY = settings.SHOP_SIMILARITY | {"CATEGORY": path}
    return category_choices(**{"with_hidden": True, "most": 100, "separator": " / "} | options)


def test_categories_have_the_names_of_those_above_them(tops, settings):
    first, second = (str(category.pk) for category in tops)
    men, women = (str(category.parent_id) for category in tops)
    for path in ("category", "category__pk", "category__id"):
        assert _choices(path, settings) == [
            (men, "Men"),
            (first, "Men / Tops"),
            (women, "Women"),
            (second, "Women / Tops"),
        ]
    assert _choices("category", settings, with_hidden=False, separator=" › ") == [(men, "Men"), (first, "Men › Tops")]
    assert len(_choices("category", settings, most=1)) == 1
    assert _choices(None, settings) == []


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (["Women", "Women > Tops", "Women > Tops > Tees"], ["Women", "Tops", "Tees"]),
        (["Women", "Women/Tops"], ["Women", "Tops"]),
        (["Home", "Home office", "Desks"], ["Home", "Home office", "Desks"]),
        (["Men", "Men's shoes"], ["Men", "Men's shoes"]),
        ([], []),
    ],
)
def test_a_category_that_names_its_whole_path_is_not_named_twice(names, own):
    assert _own_names(names) == own


def test_a_path_to_a_text_gives_the_text_and_shared_labels_are_told_apart(tops, settings):
    slugs = ["men", "men-tops", "women", "women-tops"]
    assert _choices("category__slug", settings) == [(slug, slug) for slug in slugs]
    assert _choices("category__name", settings) == [("Tops", "Tops")]
    Category.objects.filter(pk=tops[1].pk).update(name="Men / Tops", parent=None)
    named = {(str(top.pk), f"Men / Tops ({top.pk})") for top in tops}
    assert set(_choices("category", settings)) == {(str(tops[0].parent_id), "Men"), *named}


def test_a_column_of_the_product_itself_is_a_path_too(tops, settings):
    assert _choices("stock", settings) == [("3", "3"), ("5", "5"), ("8", "8")]
    assert _choices("stock", settings, with_hidden=False) == [("3", "3"), ("5", "5")]


def test_categories_are_looked_up_among_the_products_and_no_product_is_read(tops, settings):
    with CaptureQueriesContext(connection) as captured:
        _choices("category", settings)
    statements = [query["sql"] for query in captured.captured_queries]
    assert len(statements) == 2
    assert all(sql.startswith('SELECT "catalog_category"') and "DISTINCT" not in sql for sql in statements)
