"""The plugin in German and French: that nothing is left out, and that pages show it."""

import pytest
from django.template import engines
from django.test import RequestFactory
from django.urls import reverse
from django.utils import translation

from tests.catalog.html_page import Page
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.support.translations import LANGUAGES
from tests.vectors import random_vectors


@pytest.fixture(autouse=True)
def _language_of_this_test_alone():
    """A request leaves its language behind, active for the thread."""
    yield
    translation.deactivate()


def test_plurals_follow_the_language():
    words = {}
    for language in ("en", *LANGUAGES):
        with translation.override(language):
            words[language] = [
                translation.ngettext("%(count)d product", "%(count)d products", count) % {"count": count}
                for count in (0, 1, 2)
            ]
    assert words == {
        "en": ["0 products", "1 product", "2 products"],
        "de": ["0 Produkte", "1 Produkt", "2 Produkte"],
        "fr": ["0 produit", "1 produit", "2 produits"],
    }


@pytest.mark.django_db
@pytest.mark.parametrize(("language", "heading"), [("de", "Ähnliche Produkte"), ("fr", "Produits similaires")])
def test_the_widget_speaks_the_language_of_the_request(language, heading):
    products = [make_product(f"Lamp {number}") for number in range(3)]
    store_vectors(make_version(), make_photos_without_files(products, 1), random_vectors(3))
    template = engines["django"].from_string("{% load shop_similarity %}{% similar_products product %}")
    with translation.override(language):
        html = template.render({"product": products[0], "request": RequestFactory().get("/")})
    page = Page(html)
    assert page.one("h2").text.strip() == heading
    assert len([item for item in page.all("li") if item["data-similarity-product"]]) == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wished", "language", "choose"),
    [
        ("de", "de", "Foto auswählen oder aufnehmen"),
        ("fr-CH, de;q=0.5", "fr", "Choisir ou prendre une photo"),
        ("sv", "en", "Choose or take a photo"),
    ],
)
def test_search_by_photo_speaks_the_browsers_language(client, wished, language, choose):
    make_version()
    response = client.get(reverse("shop_similarity:visual-search"), headers={"accept-language": wished})
    page = Page(response.content.decode())
    assert page.one("html")["lang"] == language
    assert choose in response.content.decode()
    assert "Accept-Language" in response["Vary"]


@pytest.mark.django_db
def test_numbers_that_programs_read_keep_their_point(client):
    products = [make_product(f"Lamp {number}", price="15.25") for number in range(3)]
    store_vectors(make_version(), make_photos_without_files(products, 1), random_vectors(3))
    response = client.get(
        products[0].get_absolute_url(), {"similar_price_max": "19.5"}, headers={"accept-language": "de"}
    )
    html = response.content.decode()
    assert "15,25" in html
    assert Page(html).one("input", name="similar_price_max")["value"] == "19.5"
