"""Every key of SHOP_SIMILARITY."""

from __future__ import annotations

import dataclasses
from typing import Any

from shop_similarity.conf import Settings

from .markdown import cell, code


def page() -> str:
    parts = [
        "# Settings, all of them",
        "Every key of the dict `SHOP_SIMILARITY`, in the order of the code, with what `manage.py check` accepts. Times "
        "are seconds, sizes are bytes. [Settings](../settings.md) has them by subject, with examples.",
    ]
    for field in dataclasses.fields(Settings):
        help_text = cell(field.metadata["help"]).replace("<", "&lt;")
        parts += [f"## {field.name.upper()}", f"{_values(field)}\n{help_text}"]
    return "\n\n".join(parts)


def _values(field: dataclasses.Field[Any]) -> str:
    """The type, the default and the range, in a line of their own."""
    ends = field.metadata["range"]
    default = "required" if field.default is dataclasses.MISSING else f"default {code(repr(field.default))}"
    told = [code(str(field.type).replace(" | ", " or ")), default, *([f"{ends[0]:,} to {ends[1]:,}"] if ends else [])]
    return ", ".join(told) + ".\\"
