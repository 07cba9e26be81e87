"""The plugin's own files as syntax trees."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# training and workers are linked into the first, and would be met twice.
ROOMS = ("shop_similarity", "training", "workers")


@functools.cache
def trees() -> tuple[tuple[Path, ast.Module], ...]:
    """Each file of the plugin, below the root, with its tree; migrations aside."""
    files = {
        file.resolve().relative_to(ROOT)
        for room in ROOMS
        for file in (ROOT / room).rglob("*.py")
        if "migrations" not in file.parts
    }
    return tuple((file, ast.parse((ROOT / file).read_text(encoding="utf-8"))) for file in sorted(files))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((given.value for given in call.keywords if given.arg == name), None)


def called(call: ast.Call) -> str:
    """The last name of what is called: "Error" of checks.Error(...)."""
    return ast.unparse(call.func).rpartition(".")[2]
