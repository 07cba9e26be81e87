"""The fast tests of the plugin under every Django and Python that it says it runs with: `pip install nox`, `nox`.

TensorFlow is left out: what concerns it runs with one version, in `make test`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lowest"]

WITHOUT = re.compile(r"(django|tensorflow|tensorflow-cpu|tensorboard)(?=[<>=\[; ])")
"""Requirements of development that a session chooses itself, or does without."""
TESTS = ("-m", "pytest", "tests/shop_similarity", "-m", "not long and not slow and not browser")


def requirements() -> list[str]:
    """Of the plugin, the reference shop and the tests."""
    lines = [
        line.partition("#")[0].strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in Path(name).read_text().splitlines()
    ]
    return [line for line in lines if line and not line.startswith("-r") and not WITHOUT.match(line)]


def lowest_versions() -> list[str]:
    """What pyproject.toml allows, as it is: "django==5.2"."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [
        re.sub(r">=([\w.]+).*", r"==\1", requirement)
        for requirement in (*project["dependencies"], *extras["api"], *extras["thumbnails"])
    ]


@nox.session
@nox.parametrize(
    ("python", "django"),
    [("3.11", "5.2"), *((python, django) for python in ("3.12", "3.13") for django in ("5.2", "6.0", "6.1"))],
)
def tests(session: nox.Session, django: str) -> None:
    session.install(*requirements(), f"django~={django}.0")
    session.run("python", *TESTS, *session.posargs)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """With the lowest versions that pyproject.toml allows."""
    # Celery says which Redis client it takes.
    names = {"redis", *(re.match(r"[\w-]+", requirement)[0] for requirement in lowest_versions())}
    others = [line for line in requirements() if re.match(r"[\w-]+", line)[0] not in names]
    session.install(*others, *lowest_versions(), "psycopg[binary]")
    session.run("python", *TESTS, *session.posargs)
