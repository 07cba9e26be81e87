"""The two examples of docs/encoders.md, run as they stand there."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

from shop_similarity.models import ModelVersion
from shop_similarity.training import extras
from shop_similarity.training.versions.loading import load_version
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import add_photo, make_product
from tests.training.networks.tiny_presets import save_preset
from tests.training.versions.test_first_version import storages_in_tmp  # noqa: F401

pytestmark = [pytest.mark.long, pytest.mark.django_db]

PAGE = Path(__file__).resolve().parents[3] / "docs" / "encoders.md"


def blocks(kind):
    """What stands between fences of a kind; each fence that opens is followed by one that closes."""
    parts = re.split(r"^```(\w*)$\n", PAGE.read_text(), flags=re.MULTILINE)
    fenced = [(opening, text) for opening, text in zip(parts[1::2], parts[2::2], strict=True)][::2]
    return [text for opening, text in fenced if opening == kind]


def commands():
    """What comes after `manage.py`, a list for each."""
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [line.split()[1:] for line in lines if line.startswith("manage.py")]


@pytest.fixture
def shop(storages_in_tmp):  # noqa: F811
    for drawn in products(10):
        add_photo(make_product(), drawn.photo(), f"{drawn.name}.jpg")


@pytest.mark.skipif(
    not extras.find_spec("keras_hub"),
    reason="keras-hub is not installed: pip install --no-deps -r requirements-encoders.txt",
)
def test_a_preset_is_saved_and_calibrated(shop, tmp_path, monkeypatch):
    """The name of the preset stands for a folder here, for nothing can be fetched."""
    from keras_hub.src.utils import preset_utils

    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(preset_utils.BUILTIN_PRESETS, "dinov2_small")
    save_preset(tmp_path / "dinov2_small", "dinov2")
    (code,) = (block for block in blocks("python") if "PRESET" in block)
    exec(compile(code, str(PAGE), "exec"), {})
    (command,) = (each for each in commands() if "keras-hub:presets/dinov2_small" in each)
    call_command(*command, "--no-aspects", verbosity=0)
    version = ModelVersion.objects.active()
    assert version.config["encoder"]["name"] == "DINOV2Backbone"
    assert load_version(version).output_shape == (None, 4096)


def test_an_encoder_of_one_s_own_is_calibrated(shop, tmp_path, monkeypatch, settings):
    """With a fresh MobileNet of a quarter of the width and 32 pixels, for nothing can be fetched."""
    import keras

    small = functools.partial(keras.applications.MobileNet, alpha=0.25)
    asked = []

    def mobilenet(**options):
        asked.append(options["weights"])
        return small(**{**options, "weights": None})

    monkeypatch.setattr(keras.applications, "MobileNet", mobilenet)
    code, setting = (block for block in blocks("python") if "PRESET" not in block)
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "encoders.py").write_text(code.replace("224", "32"))
    monkeypatch.syspath_prepend(tmp_path)
    said: dict = {}
    exec(compile(setting, str(PAGE), "exec"), said)
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **said["SHOP_SIMILARITY"]}
    (command,) = (each for each in commands() if "shop.encoders.mobile" in each)
    try:
        call_command(*command, "--no-aspects", verbosity=0)
        version = ModelVersion.objects.get()
        assert [tap for tap, _ in version.config["encoder"]["taps"]] == ["edges", "parts", "things"]
        assert load_version(version).output_shape == (None, 4096)
        assert asked == ["imagenet", None, None]
    finally:
        for name in ("shop.encoders", "shop"):
            sys.modules.pop(name, None)
