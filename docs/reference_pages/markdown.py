"""Cells, tables and words of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def cell(text: object) -> str:
    """Text in one line, with nothing in it that ends a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def code(text: object) -> str:
    return f"`{cell(text)}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def of_docstring(text: str) -> str:
    """A docstring's marks, as Sphinx has them, in Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def placeholder(text: str) -> str:
    """What a person reads for what stands in braces in a message: {alias!r} is ALIAS."""
    words = re.findall(r"[A-Za-z]+", text)
    return (words[-1] if words else "…").upper()
