"""Every template tag and filter."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from .markdown import of_docstring
from .source import trees

# Of the plugin's own pages alone.
_PRIVATE = {"shop_similarity_admin"}


def page() -> str:
    parts = ["# Template tags and filters, all of them"]
    for library, file, functions in libraries():
        contrib = file.parts[2] if "contrib" in file.parts else ""
        where = f" With `shop_similarity.contrib.{contrib}` among the apps." if contrib else ""
        parts += [f"## {library}", f"`{{% load {library} %}}`{where}"]
        for function, kind in functions:
            parts += [f"### {function.name}", f"```text\n{_usage(function, kind)}\n```", _explanation(function)]
    return "\n\n".join(parts)


def libraries() -> Iterator[tuple[str, Path, list[tuple[ast.FunctionDef, str]]]]:
    """Each library with its file and what is registered in it: the function, and the name of the decorator."""
    for file, tree in trees():
        if file.parent.name == "templatetags" and file.stem not in {"__init__", *_PRIVATE}:
            yield (
                file.stem,
                file,
                [(node, kind) for node in tree.body if isinstance(node, ast.FunctionDef) and (kind := _kind(node))],
            )


def _kind(function: ast.FunctionDef) -> str:
    for decorator in function.decorator_list:
        name = ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if name.startswith("register."):
            return name.removeprefix("register.")
    return ""


def _usage(function: ast.FunctionDef, kind: str) -> str:
    arguments = function.args
    positional = [argument for argument in arguments.args if argument.arg != "context"]
    if kind == "filter":
        return f"{{{{ {positional[0].arg}|{function.name} }}}}"
    required = len(positional) - len(arguments.defaults)
    written = [argument.arg for argument in positional[:required]]
    defaults = zip(positional[max(required, 0) :], arguments.defaults, strict=True)
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    written += [f"{argument.arg}={_default(value)}" for argument, value in (*defaults, *keywords) if value]
    written += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return " ".join(["{%", function.name, *written, "%}"])


def _default(value: ast.expr) -> str:
    """As it is written, but what has a name in the code and none in a template."""
    return ast.unparse(value) if isinstance(value, ast.Constant) else "…"


def _explanation(function: ast.FunctionDef) -> str:
    """The docstring, whose sections become paragraphs and lists."""
    lines = []
    for line in inspect.cleandoc(ast.get_docstring(function) or "").splitlines():
        text = line.strip()
        if text in ("Args:", "Raises:"):
            lines += [f"**{'Arguments' if text == 'Args:' else 'Raises'}**", ""]
        elif line.startswith("        ") or not line.startswith("    "):
            lines.append(("  " if line.startswith(" ") else "") + text)
        else:
            name, _, rest = text.partition(":")
            lines.append(f"- `{name}`:{rest}" if rest else f"  {text}")
    return of_docstring("\n".join(lines))
