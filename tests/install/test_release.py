"""What is published: the wheel as others' tools see it, the version, and the changelog's form."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest
from django.conf import settings

CHANGELOG = (settings.BASE_DIR / "CHANGELOG.md").read_text(encoding="utf-8")
VERSION = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


@pytest.mark.slow
@pytest.mark.parametrize("tool", [("twine", "check", "--strict"), ("check_wheel_contents",)], ids=lambda tool: tool[0])
def test_the_wheel_pleases_the_tools_of_others(wheel, tool):
    pytest.importorskip(tool[0])
    done = subprocess.run(
        [sys.executable, "-m", *tool, str(wheel)],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_changelog_is_kept():
    versions = re.findall(r"^## \[([^\]]+)\](?: - (\S+))?$", CHANGELOG, re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert versions[1][0] == VERSION
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", day) for _, day in versions[1:])
    kinds = re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    # Every line has a kind.
    for section in re.split(r"^## ", CHANGELOG, flags=re.MULTILINE)[1:]:
        assert not re.search(r"^- ", section.partition("\n### ")[0], re.MULTILINE)


def test_templates_for_issues_can_be_read():
    import yaml

    for file in (settings.BASE_DIR / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert file.name == "config.yml" or {"name", "description", "body"} <= set(form)
    config = yaml.safe_load((settings.BASE_DIR / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {hook["id"] for repo in config["repos"] for hook in repo["hooks"]} >= {"ruff-check", "import-contracts"}


def test_a_newcomer_has_the_programs_that_contributing_starts():
    text = (settings.BASE_DIR / "CONTRIBUTING.md").read_text(encoding="utf-8")
    programs = set(re.findall(r"\.venv/bin/([\w-]+)", text))
    assert "pre-commit" in programs
    wanted = re.findall(
        r"^[\w-]+", (settings.BASE_DIR / "requirements-dev.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert programs <= set(wanted)
