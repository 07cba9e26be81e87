"""What the commands say where the packages of an extra are missing, as they are in a web process."""

from __future__ import annotations

import sys

import pytest
from django.core.management import CommandError, call_command

from shop_similarity.training.extras import ExtraMissing, require


def _remove(monkeypatch, *packages: str) -> None:
    for package in packages:
        # Python's own way to say that a module can't be imported.
        monkeypatch.setitem(sys.modules, package, None)


def test_names_what_is_missing_and_the_extra_that_brings_it(monkeypatch):
    require("tensorflow", "tensorboard", "matplotlib")
    _remove(monkeypatch, "tensorflow")
    with pytest.raises(ExtraMissing, match=r"needs tensorflow, which is not .*\[worker\]"):
        require("tensorflow", "matplotlib")
    _remove(monkeypatch, "matplotlib")
    with pytest.raises(ExtraMissing, match=r"needs tensorflow and matplotlib, which are not .*\[worker,training\]"):
        require("tensorflow", "matplotlib")


# None of them gets as far as the database.
@pytest.mark.parametrize(
    ("command", "package"),
    [
        (["calibrate_mildnet"], "tensorflow"),
        (["fit_aspects"], "tensorflow"),
        (["evaluate_mildnet"], "tensorflow"),
        (["store_epoch", "run", "1"], "tensorflow"),
        (["train_mildnet", "--from-catalog"], "tensorflow"),
        (["train_mildnet", "--from-catalog"], "tensorboard"),
        (["explore_triplets", "--triplets", "missing.csv", "--html", "page.html"], "matplotlib"),
    ],
)
def test_a_command_says_so_before_it_begins(monkeypatch, command, package):
    _remove(monkeypatch, package)
    with pytest.raises(CommandError, match=f"needs {package}, which is not installed here"):
        call_command(*command)
