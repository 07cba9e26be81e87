"""Links between the documents, as a code host shows them: each file and each heading is there."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.docs.snippets import _BLOCK, ROOT, pages

_LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")


@functools.cache
def _text(file: Path) -> str:
    """A page without its blocks and what is written as code."""
    return re.sub(r"`[^`\n]+`", lambda m: m[0].strip("`"), _BLOCK.sub("", file.read_text(encoding="utf-8")))


@functools.cache
def _anchors(file: Path) -> set[str]:
    """Headings as code hosts spell them in addresses; of equal ones the later have a number."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", _text(file), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", heading).strip().lower()).replace(
            " ", "-"
        )
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in anchors:
            number += 1
        anchors.add(name)
    return anchors


def test_links_between_pages_lead_somewhere():
    wrong, count = [], 0
    for file in pages():
        for link in _LINK.findall(_text(file)):
            parts = urlsplit(link)
            if parts.scheme:
                continue
            count += 1
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not target.exists():
                wrong.append(f"{file.relative_to(ROOT)}: {link}")
            elif parts.fragment and target.suffix == ".md" and parts.fragment not in _anchors(target):
                wrong.append(f"{file.relative_to(ROOT)}: {link} (no such heading)")
    assert count > 150
    assert not wrong, "\n".join(wrong)
