"""Which pages there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from django.utils import translation

from . import checks, commands, endpoints, permissions, settings, signals, template_tags

FOLDER = Path(__file__).parents[1] / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "settings": settings.page,
    "commands": commands.page,
    "template_tags": template_tags.page,
    "endpoints": endpoints.page,
    "signals": signals.page,
    "checks": checks.page,
    "permissions": permissions.page,
}
_NOTE = "<!-- Written by `make reference` from the code: what is changed here is lost. -->\n\n"


def written() -> dict[Path, str]:
    """Every page's file and what has to stand in it. Django has to be set up."""
    with translation.override("en"):
        return {FOLDER / f"{name}.md": _NOTE + page().rstrip() + "\n" for name, page in PAGES.items()}
