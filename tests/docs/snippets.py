"""Every fenced block of the documents, and every command that stands within a line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>```+|~~~+)[ \t]*(?P<info>[^\n`]*)\n(?P<text>.*?)^[ \t]*(?P=fence)[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"(?<!`)`((?:python )?manage\.py [^`]+|make [a-z][^`]*|python -m [^`]+)`(?!`)")


@dataclass(frozen=True)
class Snippet:
    """A block of a page.

    Attributes:
        page: below the repository's root.
        line: of the page, where the text begins.
        language: as the fence names it; "" where it names none.
    """

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    return sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})


def snippets() -> Iterator[Snippet]:
    """All blocks, in the order of the pages; directives of Sphinx, whose name stands in braces, are none."""
    for file in pages():
        text = file.read_text(encoding="utf-8")
        for match in _BLOCK.finditer(text):
            language = match["info"].split()[0] if match["info"].strip() else ""
            if not language.startswith("{"):
                line = text.count("\n", 0, match.start("text")) + 1
                yield Snippet(_name(file), line, language, textwrap.dedent(match["text"]))


def inline_commands() -> Iterator[Snippet]:
    """What stands within a line and is a command to be typed."""
    for file in pages():
        text = _BLOCK.sub(lambda match: "\n" * match[0].count("\n"), file.read_text(encoding="utf-8"))
        for match in _INLINE.finditer(text):
            yield Snippet(_name(file), text.count("\n", 0, match.start()) + 1, "sh", " ".join(match[1].split()))


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()
