"""What is typed into a shell, held against the program that would hear it; nothing is run."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandError
from django.urls import Resolver404, resolve

from tests.docs.snippets import ROOT

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
# Programs that are others': that they are spelled so is all that is known of them here.
OTHERS = {
    ".ci/run", ".venv/bin/pre-commit", "apt", "apt-get", "aws", "brew", "cat", "cd", "cp", "createdb", "django-admin",
    "dmesg", "docker", "export", "git", "gunicorn", "helm", "install", "journalctl", "kill", "kubectl", "ls", "mkdir",
    "nox", "npm", "npx", "nvidia-smi", "pg_dump", "pg_restore", "pg_upgrade", "podman", "pre-commit", "promtool",
    "psql", "redis-cli", "rm", "source", "sphinx-build", "sudo", "systemctl", "tensorboard", "twine", "useradd",
    "vacuumdb", "valkey-cli", "wagtail",
}  # fmt: skip


class Wrong(AssertionError):
    """A line that its program would not take."""


def look_at(text: str) -> int:
    """Hold each line of a block against its program; returns how many there were.

    Where lines begin with a prompt, ``$``, the others are what the program answers.

    Raises:
        Wrong: the command, an option or an address is not there.
    """
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    commands = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    commands = [line for line in commands if line.startswith("$ ")] or commands
    for line in commands:
        for part in re.split(r"\s(?:&&|\|\||\|)\s", line.removeprefix("$ ")):
            _look_at_one(part)
    return len(commands)


def _look_at_one(line: str) -> None:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise Wrong(f"{line}: {error}") from error
    words = words[: next((place for place, word in enumerate(words) if word in (">", ">>", "2>", "&", "<")), None)]
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words and words[0] in ("sudo", "env"):
        words = words[1:]
    if not words:
        return
    program = Path(words[0]).name if words[0].startswith((".venv/", "$", "/")) else words[0]
    looks: dict[str, Callable[[list[str]], None]] = {
        "manage.py": _manage,
        "make": _make,
        "pip": _pip,
        "celery": _celery,
        "curl": _curl,
        "python": _python,
        "python3": _python,
    }
    if look := looks.get(program):
        try:
            look(words[1:])
        except Wrong as error:
            raise Wrong(f"{line}\n{error}") from error
    elif program not in OTHERS:
        raise Wrong(f"{line}\nNobody here knows the program {program!r}: is it one of OTHERS in tests/docs/shell.py?")


def _python(words: list[str]) -> None:
    if words[:1] == ["manage.py"]:
        _manage(words[1:])
    elif words[:2] == ["-m", "pip"]:
        _pip(words[2:])
    elif words[:1] == ["-m"] and words[1] not in ("venv", "build", "twine", "pytest"):
        _module(words[1], words[2:])
    elif words[:1] not in (["-m"], ["-c"]):
        raise Wrong(f"What is python {words[0]}?")


def _manage(words: list[str]) -> None:
    name, *arguments = [word for word in words if word not in ("...", "…")]
    app = get_commands().get(name)
    if name == "NAME":
        return
    if app is None:
        raise Wrong(f"There is no command {name}.")
    command = load_command_class(app, name) if isinstance(app, str) else app
    parser = command.create_parser("manage.py", name)
    # Half an option's name would be taken, and might mean another one some day.
    parser.allow_abbrev = False
    for action in parser._actions:
        if "--database" in action.option_strings:
            # The aliases are the reader's.
            action.choices = None
    if len(arguments) < len(words) - 1:
        # Left out: what is required may be among it.
        for action in parser._actions:
            action.required = False
            action.nargs = action.nargs if action.option_strings else "*"
    try:
        # Raises, for no shell has called it.
        command._called_from_command_line = False
        parser.called_from_command_line = False
        parser.parse_args([argument for argument in arguments if not re.fullmatch(r"\[.*\]", argument)])
    except CommandError as error:
        # A name in capitals stands for a value of the reader's, which a number can be.
        if "invalid" in str(error) and re.search(r"'[A-Z_]+'", str(error)):
            return
        raise Wrong(str(error)) from error


def _make(words: list[str]) -> None:
    for word in words:
        if "=" in word:
            if not re.search(rf"\b{word.partition('=')[0]}\b", _MAKEFILE):
                raise Wrong(f"The Makefile knows no {word.partition('=')[0]}.")
        elif not re.search(rf"^{re.escape(word)}:", _MAKEFILE, re.MULTILINE):
            raise Wrong(f"The Makefile has no target {word}.")


def _pip(words: list[str]) -> None:
    for before, word in zip(["", *words], words, strict=False):
        own = re.fullmatch(r"(?:\.|.*/shop-similarity|shop-similarity|shop_similarity[^\[]*)\[([\w,-]+)\].*", word)
        for extra in own[1].split(",") if own else ():
            if extra not in _PROJECT["optional-dependencies"]:
                raise Wrong(f"pyproject.toml has no extra {extra}.")
        if before == "-r" and not (ROOT / word).exists():
            raise Wrong(f"There is no file {word}.")


def _celery(words: list[str]) -> None:
    from celery.bin.celery import celery as program

    context = program.make_context("celery", list(words), resilient_parsing=True)
    (name, *arguments) = [*context._protected_args, *context.args]
    command = program.get_command(context, name)
    if command is None:
        raise Wrong(f"Celery has no command {name}.")
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for option in (argument.partition("=")[0] for argument in arguments if argument.startswith("-")):
        if option not in known:
            raise Wrong(f"celery {name} has no option {option}.")
    app = words[words.index("-A") + 1] if "-A" in words else ""
    if app.startswith("shop_similarity") and importlib.util.find_spec(app) is None:
        raise Wrong(f"There is no {app}.")


def _module(name: str, arguments: list[str]) -> None:
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.origin is None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    if spec is None or spec.origin is None:
        raise Wrong(f"There is no module {name}.")
    folder = Path(spec.origin)
    files = [folder] if folder.name != "__init__.py" else [*folder.parent.glob("*.py")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    for option in {argument.partition("=")[0] for argument in arguments if argument.startswith("--")} - {"--help"}:
        in_a_loop = 'f"--{' in text and f'"{option[2:]}"' in text
        if f'"{option}"' not in text and not in_a_loop:
            raise Wrong(f"{name} has no option {option}.")


def _curl(words: list[str]) -> None:
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith(("http://", "https://")):
            try:
                resolve(urlsplit(word).path)
            except Resolver404 as error:
                raise Wrong(f"No address of the reference shop is {urlsplit(word).path}.") from error
        elif before in ("-d", "--data"):
            try:
                json.loads(word)
            except ValueError as error:
                raise Wrong(f"{word} is no JSON: {error}") from error
