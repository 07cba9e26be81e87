"""Every management command with its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand

from .markdown import cell, code


def page() -> str:
    parts = [
        "# Commands, all of them",
        "Each is called as `python manage.py NAME`. Besides its own arguments each takes those of every command of "
        "Django's (`--settings`, `--verbosity`, `--traceback`, `--no-color`).",
    ]
    for name, parser in parsers():
        parts += [f"## {name}", cell(parser.description or ""), _arguments(parser)]
    return "\n\n".join(part for part in parts if part)


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The plugin's commands by name, those of its training and its workers among them."""
    for name, app in sorted(get_commands().items()):
        label = app if isinstance(app, str) else app.__module__
        if label.startswith("shop_similarity"):
            yield name, load_command_class(label, name).create_parser("manage.py", name)


def _arguments(parser: argparse.ArgumentParser) -> str:
    common = {action.dest for action in BaseCommand().create_parser("manage.py", "")._actions}
    own = [action for action in parser._actions if action.dest not in common and action.help is not argparse.SUPPRESS]
    return "\n".join(_line(parser, action) for action in own)


def _line(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    if action.option_strings:
        written = ", ".join(code(f"{option} {value}".rstrip()) for option in action.option_strings)
    else:
        written = code(formatter._format_args(action, formatter._get_default_metavar_for_positional(action)))
    # By identity, for 0 is a default that is worth telling and equals False.
    is_nothing = any(action.default is nothing for nothing in (None, False, "", argparse.SUPPRESS))
    silent = is_nothing or action.default == [] or isinstance(action, argparse._StoreConstAction)
    text = formatter._expand_help(action) if action.help else ""
    is_required = bool(action.option_strings) and action.required
    default = "required. " if is_required else "" if silent else f"default {code(action.default)}. "
    return f"- {written}: {default}{cell(text).replace('<', '&lt;')}".rstrip(": ")
