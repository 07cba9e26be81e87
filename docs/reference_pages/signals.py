"""Signals: those that the plugin sends, and those of Django's and Celery's that it listens to."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

from .markdown import code, of_docstring, table
from .source import called, trees

_NONE = (
    "None: what a shop may want to know stands in the database. Rows of `OutboxEntry` say which photos wait or failed, "
    "`ModelVersion.state` which version is active."
)


def page() -> str:
    sent = [(code(name), text) for name, text in sent_signals()]
    heard = [(code(module), ", ".join(map(code, names))) for module, names in heard_signals()]
    return "\n\n".join(
        [
            "# Signals, all of them",
            "## Sent",
            table(("signal", "when"), sent) if sent else _NONE,
            "## Heard",
            "What each module listens to. Writes that send none are found by a sweep.",
            table(("module", "signals"), heard),
        ]
    )


def sent_signals() -> Iterator[tuple[str, str]]:
    """Dotted path of each ``name = Signal()`` at the top of a module, and the string below it, which says when."""
    for file, tree in trees():
        for node, below in itertools.zip_longest(tree.body, tree.body[1:]):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and called(node.value) == "Signal":
                if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
                    raise ValueError(f"{file}: write a string below the signal that says when it is sent.")
                text = " ".join(str(below.value.value).split())
                yield f"{_module(file)}.{ast.unparse(node.targets[0])}", of_docstring(text)


def heard_signals() -> Iterator[tuple[str, list[str]]]:
    """Each module that imports signals, and their names."""
    for file, tree in trees():
        names = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").endswith("signals")
            for alias in node.names
            if alias.name.islower()
        }
        if names:
            yield _module(file), sorted(names)


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts if parts[0] == "shop_similarity" else ("shop_similarity", *parts))
