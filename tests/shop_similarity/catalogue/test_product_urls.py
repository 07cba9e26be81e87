"""Where the shop shows a product."""

from __future__ import annotations

import pytest
from django.template import Context, Template

from catalog.models import Product
from shop_similarity.catalogue import product_url
from tests.relation_shops.models import Leaf, Piece


@pytest.mark.parametrize(
    ("product", "url"), [(Product(slug="mug"), "/product/mug/"), (Leaf(), "/node/"), (Piece(), "")]
)
def test_products_and_pages_say_it_themselves(product, url):
    assert product_url(product) == url
    assert Template("{% load shop_similarity %}{{ product|product_url }}").render(Context({"product": product})) == url


@pytest.mark.parametrize("url", [None, lambda: "/made/"])
def test_what_is_no_text_is_no_address(url):
    # None has a page of Wagtail's that belongs to no site.
    piece = Piece()
    piece.url = url
    assert product_url(piece) == ""
