"""The reference shop in German and French."""

from pathlib import Path

import pytest
from django.utils import translation

import catalog
from tests.catalog.html_page import Page
from tests.support.translations import (
    LANGUAGES,
    catalogue,
    compiled,
    key,
    messages_in_source,
    placeholders,
    texts,
)

APP = Path(catalog.__file__).parent


@pytest.fixture(autouse=True)
def _language_of_this_test_alone():
    """A request leaves its language behind, active for the thread."""
    yield
    translation.deactivate()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated_keeps_its_placeholders_and_is_compiled(language):
    entries = list(catalogue(APP, language))
    assert len(entries) > 150
    for entry in entries:
        assert not entry.obsolete and not entry.fuzzy, entry.msgid
        assert all(text.strip() for text in texts(entry)), entry.msgid
        for text in texts(entry):
            assert placeholders(text) == placeholders(entry.msgid_plural or entry.msgid), text
    assert {key(entry): texts(entry) for entry in compiled(APP, language)} == {
        key(entry): texts(entry) for entry in entries
    }


def test_the_catalogues_hold_exactly_the_messages_of_the_source(tmp_path, monkeypatch):
    found = messages_in_source(APP, tmp_path, monkeypatch)
    for language in LANGUAGES:
        held = {key(entry) for entry in catalogue(APP, language)}
        assert held == found, "run makemessages in catalog/, translate what is new, then compilemessages"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "button", "price"),
    [("en", "Add to basket", "$1,299.50"), ("de", "In den Warenkorb", "$1.299,50"), ("fr", "Ajouter au panier", None)],
)
def test_a_products_page_speaks_the_browsers_language(client, make_product, language, button, price):
    product = make_product("Red Tee", price="1299.50")
    response = client.get(product.get_absolute_url(), headers={"accept-language": language})
    page = Page(response.content.decode())
    assert page.one("html")["lang"] == language
    assert button in [found.text.strip() for found in page.all("button")]
    assert price is None or price in response.content.decode()
