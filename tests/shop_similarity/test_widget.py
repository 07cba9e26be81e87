"""The template tag and its templates."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection
from django.template import engines
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import shop_similarity
from catalog.models import Product
from tests.shop_similarity.factories import (
    add_photo,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


def _render(source: str, **context) -> str:
    return engines["django"].from_string("{% load shop_similarity %}" + source).render(context)


@pytest.fixture(autouse=True)
def _templates_of_the_plugin(settings):
    """The reference shop puts a card of its own in the place of the plugin's."""
    folder = Path(shop_similarity.__file__).parent / "templates"
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [folder]}]


@pytest.fixture
def no_fallback(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "FALLBACK": None}


def _embedded(count: int, per_product: int = 1) -> list[Product]:
    products = [make_product(f"Lamp {number}") for number in range(count)]
    photos = [photo for product in products for photo in make_photos_without_files([product], per_product)]
    store_vectors(make_version(), photos, random_vectors(len(photos)))
    return products


def test_nothing_and_no_error_while_there_is_no_embedding(no_fallback):
    product = make_product()
    assert _render("{% similar_products product %}", product=product) == ""
    make_version()
    assert _render("{% similar_products product %}", product=product) == ""


def test_shows_the_look_alikes_with_links_and_lazy_pictures():
    products = _embedded(5)
    html = _render("{% similar_products product limit=3 %}", product=products[0])
    assert html.count("<li") == 3
    assert html.count('loading="lazy"') == 3
    assert html.count(" sizes=") == 3
    assert products[0].get_absolute_url() not in html
    assert "<h2" in html
    assert f'aria-labelledby="similar-products-{products[0].pk}"' in html
    assert " style=" not in html
    assert "<script" not in html


def test_fallback_is_shown_and_named_differently():
    product, other = make_product("asked"), make_product("other")
    html = _render("{% similar_products product %}", product=product)
    assert other.name in html
    assert "You may also like" in html
    assert "Similar products" not in html
    assert f'href="{product.get_absolute_url()}"' not in html


def test_card_shows_the_photo_that_looks_alike():
    asked, other = make_product(), make_product()
    query = make_photos_without_files([asked])[0]
    unlike = add_photo(other, b"1", "unlike.jpg", position=0)
    alike = add_photo(other, b"2", "alike.jpg", position=1)
    vectors = random_vectors(2)
    store_vectors(make_version(), [query, unlike, alike], vectors[[0, 1, 0]])
    from shop_similarity.widget import widget_cards

    (card,) = widget_cards(asked, 5)
    assert card.image.name == alike.file.name
    assert card.similarity == pytest.approx(1, abs=1e-3)


def test_names_are_escaped():
    asked = make_product("asked")
    evil = make_product("<script>alert(1)</script>")
    store_vectors(make_version(), make_photos_without_files([asked, evil]), random_vectors(2))
    html = _render("{% similar_products product %}", product=asked)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_heading_and_templates_can_be_overridden(tmp_path):
    products = _embedded(3)
    assert "Looks alike" in _render("{% similar_products product heading='Looks alike' %}", product=products[0])
    folder = tmp_path / "shop_similarity"
    folder.mkdir()
    (folder / "product_card.html").write_text("CARD {{ product.name }}", encoding="utf-8")
    templates = [
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [str(tmp_path)], "APP_DIRS": True}
    ]
    with override_settings(TEMPLATES=templates):
        assert "CARD Lamp" in _render("{% similar_products product %}", product=products[0])


def test_among_narrows_the_choice():
    products = _embedded(6)
    html = _render(
        "{% similar_products product among=few %}",
        product=products[0],
        few=Product.objects.filter(pk__in=[products[2].pk, products[4].pk]),
    )
    assert html.count("<li") == 2


def test_number_of_queries_is_constant():
    from shop_similarity import search_paths

    products = _embedded(30, per_product=2)
    counts = []
    for limit in (3, 25):
        search_paths.forget_paths()
        with CaptureQueriesContext(connection) as queries:
            _render("{% similar_products product limit=limit %}", product=products[0], limit=limit)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 6


def test_style_sheet_is_linked():
    assert 'href="/static/shop_similarity/widget' in _render("{% similar_products_styles %}")
