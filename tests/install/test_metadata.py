"""What the package says of itself: licence, extras, what it runs with, and where it can be had."""

from __future__ import annotations

import re
import tomllib
import zipfile
from email.parser import Parser

import pytest
from django.conf import settings

PROJECT = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def test_the_licence_is_told_and_enclosed():
    assert PROJECT["license"] == "BSD-3-Clause"
    text = (settings.BASE_DIR / "LICENSE").read_text(encoding="utf-8")
    assert "Redistribution and use" in text and "Neither the name" in text


@pytest.mark.slow
def test_the_wheel_holds_the_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        told = Parser().parsestr(archive.read(metadata).decode())
        assert told["License-Expression"] == "BSD-3-Clause"
        assert told.get_all("License-File") == ["LICENSE"]
        assert any(name.endswith("LICENSE") for name in archive.namelist())


def test_a_worker_without_a_gpu_gets_no_gpu_libraries():
    assert any(line.startswith("tensorflow-cpu") and "linux" in line for line in EXTRAS["worker"])
    (gpu,) = EXTRAS["worker-gpu"]
    assert gpu.startswith("tensorflow[and-cuda]")
    assert not any("tensorflow" in line or "worker" in line for line in EXTRAS["training"])


def test_the_extras_that_messages_name_are_there():
    from shop_similarity.training.extras import _EXTRAS

    for package, extra in _EXTRAS.items():
        assert any(line.startswith(package.replace("_", "-")) for line in EXTRAS[extra]), package


def test_files_of_requirements_that_are_named_exist():
    for folder in (settings.BASE_DIR, settings.BASE_DIR / "docs"):
        for file in (*folder.glob("*.md"), *folder.glob("*.txt"), folder / "Makefile", folder / "pyproject.toml"):
            if file.exists():
                for name in re.findall(r"requirements[\w-]*\.txt", file.read_text(encoding="utf-8")):
                    assert (settings.BASE_DIR / name).exists(), f"{file.name} names {name}"


def test_no_sentence_sends_anybody_to_a_name_on_pypi_that_is_not_ours():
    for room in ("shop_similarity", "training", "workers", "catalog"):
        for file in (settings.BASE_DIR / room).rglob("*"):
            if file.suffix in (".py", ".html", ".po"):
                text = file.read_text(encoding="utf-8")
                assert not re.search(r"pip install [\"'`]*shop-similarity", text), file


def test_what_is_told_of_django_and_python_is_what_is_tried():
    tried = (settings.BASE_DIR / "noxfile.py").read_text(encoding="utf-8")
    for classifier in PROJECT["classifiers"]:
        version = classifier.rpartition(" :: ")[2]
        if re.fullmatch(r"\d\.\d+", version):
            assert f'"{version}"' in tried, classifier
