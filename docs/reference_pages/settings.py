"""Every key of SHOP_SIMILARITY."""

from __future__ import annotations

import dataclasses

from shop_similarity.conf import Settings

from .markdown import cell, code, table


def page() -> str:
    return (
        "# Settings, all of them\n\n"
        "Every key of the dict `SHOP_SIMILARITY`, in the order of the code, with what `manage.py check` accepts. Times "
        "are seconds, sizes are bytes. [Settings](../settings.md) has them by subject, with examples.\n\n"
        + table(
            ("key", "type", "default", "range", "what it says"),
            (
                (
                    code(field.name.upper()),
                    code(field.type),
                    "required" if field.default is dataclasses.MISSING else code(repr(field.default)),
                    _range(field),
                    cell(field.metadata["help"]).replace("<", "&lt;"),
                )
                for field in dataclasses.fields(Settings)
            ),
        )
    )


def _range(field: dataclasses.Field) -> str:
    ends = field.metadata["range"]
    return f"{ends[0]:,} to {ends[1]:,}" if ends else ""
