"""The message catalogues of the plugin and of the reference shop: complete, compiled, up to date."""

from pathlib import Path

import pytest

import catalog
import shop_similarity
from tests.support.translations import LANGUAGES, catalogue, compiled, key, messages_in_source, placeholders, texts

# Each with a number of messages below which something has been lost.
APPS = [
    pytest.param(Path(shop_similarity.__file__).parent, 500, id="shop_similarity"),
    pytest.param(Path(catalog.__file__).parent, 150, id="catalog"),
]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("app", "fewest"), APPS)
def test_every_message_is_translated_and_keeps_its_placeholders(app, fewest, language):
    entries = list(catalogue(app, language))
    assert len(entries) > fewest
    for entry in entries:
        assert not entry.obsolete and not entry.fuzzy, entry.msgid
        assert all(text.strip() for text in texts(entry)), entry.msgid
        for text in texts(entry):
            assert placeholders(text) == placeholders(entry.msgid_plural or entry.msgid), text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("app", "fewest"), APPS)
def test_what_django_reads_is_what_was_translated(app, fewest, language):
    written = {key(entry): texts(entry) for entry in catalogue(app, language)}
    assert {key(entry): texts(entry) for entry in compiled(app, language)} == written
    assert compiled(app, language).metadata["Plural-Forms"] == catalogue(app, language).metadata["Plural-Forms"]


@pytest.mark.parametrize(("app", "fewest"), APPS)
def test_the_catalogues_hold_exactly_the_messages_of_the_source(app, fewest, tmp_path, monkeypatch):
    found = messages_in_source(app, tmp_path, monkeypatch)
    for language in LANGUAGES:
        held = {key(entry) for entry in catalogue(app, language)}
        assert held == found, f"run makemessages in {app.name}/, translate what is new, then compilemessages"
