"""Every system check: its id, what it says, and what it advises."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from .markdown import cell, code, of_docstring, placeholder, table
from .source import called, calls, keyword, trees

_ID = re.compile(r"shop_similarity\w*\.[CEWID]\d{3}")
_LEVELS = {"Critical": "critical", "Error": "error", "Warning": "warning", "Info": "info", "kind": "warning or info"}
# A line of the table in a module's docstring: the id, with or without its app, and a summary.
_SUMMARY = re.compile(r"^(?:(shop_similarity\w*)\.)?([CEWID]\d{3})\s+(\S.*)$", re.MULTILINE)


@dataclass
class Check:
    levels: set[str] = field(default_factory=set)
    summary: str = ""
    messages: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def page() -> str:
    parts = [
        "# System checks, all of them",
        "`manage.py check` runs those on settings, `manage.py check --database default` those on the database too. "
        "What differs from shop to shop in a message is written in capitals. `SILENCED_SYSTEM_CHECKS` takes the ids.",
        table(
            ("id", "level", "what it says"),
            (
                (f"[{code(name)}](#{name.replace('.', '').lower()})", " or ".join(sorted(found.levels)), found.summary)
                for name, found in sorted(all_checks().items())
            ),
        ),
    ]
    for name, found in sorted(all_checks().items()):
        parts += [f"## {name}", f"{found.summary[:1].upper()}{found.summary[1:]}."]
        parts += [f"> {cell(message)}" for message in dict.fromkeys(found.messages)]
        parts += [f"Advice: {cell(hint)}" for hint in dict.fromkeys(found.hints)]
    return "\n\n".join(parts)


def all_checks() -> dict[str, Check]:
    """By id. A check without a line in its module's docstring is an error, and so is a line without a check."""
    checks: dict[str, Check] = {}
    summaries: dict[str, str] = {}
    for file, tree in trees():
        found = [(name, call) for call in calls(tree) if (name := _id(call))]
        for name, call in found:
            check = checks.setdefault(name, Check())
            check.levels.add(_LEVELS[called(call)])
            check.messages += _text(call.args[0] if call.args else keyword(call, "msg"))
            check.hints += _text(keyword(call, "hint"))
        if found:
            for app, number, summary in _SUMMARY.findall(ast.get_docstring(tree) or ""):
                summaries[f"{app or 'shop_similarity'}.{number}"] = of_docstring(cell(summary))
        if missing := {name for name, _ in found} - set(summaries):
            raise ValueError(f"{file}: the table in its docstring lacks {', '.join(sorted(missing))}.")
    if unused := set(summaries) - set(checks):
        raise ValueError(f"No check has the id {', '.join(sorted(unused))}: take it out of the docstring's table.")
    for name, check in checks.items():
        check.summary = summaries[name]
    return checks


def _id(call: ast.Call) -> str:
    given = keyword(call, "id")
    if isinstance(given, ast.Constant) and isinstance(given.value, str) and _ID.fullmatch(given.value):
        return given.value
    return ""


def _text(node: ast.expr | None) -> list[str]:
    """What is written in the code, both ends of a condition; nothing where it is made elsewhere."""
    if isinstance(node, ast.IfExp):
        return [*_text(node.body), *_text(node.orelse)]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        parts = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                parts.append(part.value)
            elif ast.unparse(part.value) == "SETTING":
                parts.append("SHOP_SIMILARITY")
            else:
                parts.append(placeholder(ast.unparse(part.value)))
        return ["".join(parts)]
    return []
