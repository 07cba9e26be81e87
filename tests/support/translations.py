"""What is to be known about an app's translations: its catalogues, and the messages its source holds now."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import polib
import pytest
from django.core.management import call_command

LANGUAGES = ("de", "fr")

# The mapping key and conversion of %-format, and the name of brace format.
_PLACEHOLDERS = re.compile(r"%\((\w+)\)[#0+ -]*[\d.]*([a-zA-Z])|%([a-zA-Z%])|\{(\w*)[^{}]*\}")


def catalogue(app: Path, language: str) -> polib.POFile:
    """The messages of the .po file, without obsolete ones."""
    return polib.pofile(str(app / "locale" / language / "LC_MESSAGES" / "django.po"))


def compiled(app: Path, language: str) -> polib.MOFile:
    """The messages of the .mo file, which is what Django reads."""
    return polib.mofile(str(app / "locale" / language / "LC_MESSAGES" / "django.mo"))


def key(entry: polib.POEntry | polib.MOEntry) -> tuple[str, str, str]:
    """What tells a message from all others: context, text and plural."""
    return entry.msgctxt or "", entry.msgid, entry.msgid_plural or ""


def texts(entry: polib.POEntry | polib.MOEntry) -> list[str]:
    """The translation, or one for each plural form."""
    return [text for _, text in sorted(entry.msgstr_plural.items())] if entry.msgid_plural else [entry.msgstr]


def placeholders(text: str) -> list[tuple[str, ...]]:
    """Name and conversion of each placeholder; a message may show one twice, so they are counted."""
    return sorted(_PLACEHOLDERS.findall(text))


def messages_in_source(app: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str, str]]:
    """The messages that makemessages finds in a copy of ``app`` below ``folder``; skips where gettext is missing."""
    if not shutil.which("xgettext"):
        pytest.skip("xgettext is not installed (Debian: gettext), so the source's messages can't be collected")
    copy = folder / app.name
    # Links stay links, which makemessages does not follow: the rooms behind them have no catalogues.
    shutil.copytree(app, copy, symlinks=True, ignore=shutil.ignore_patterns("locale", "__pycache__"))
    (copy / "locale").mkdir()
    monkeypatch.chdir(copy)
    call_command("makemessages", locale=["de"], no_location=True, stdout=io.StringIO())
    return {key(entry) for entry in catalogue(copy, "de")}
