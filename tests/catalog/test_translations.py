"""The reference shop in German and French."""

import pytest
from django.utils import translation

from tests.catalog.html_page import Page


@pytest.fixture(autouse=True)
def _language_of_this_test_alone():
    """A request leaves its language behind, active for the thread."""
    yield
    translation.deactivate()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "button", "price"),
    [
        ("en", "Add to basket", "$1,299.50"),
        ("de", "In den Warenkorb", "1.299,50\xa0$"),
        ("fr", "Ajouter au panier", "299,50\xa0$"),
    ],
)
def test_a_products_page_speaks_the_browsers_language(client, make_product, language, button, price):
    product = make_product("Red Tee", price="1299.50")
    response = client.get(product.get_absolute_url(), headers={"accept-language": language})
    page = Page(response.content.decode())
    assert page.one("html")["lang"] == language
    assert button in [found.text.strip() for found in page.all("button")]
    assert price in response.content.decode()
