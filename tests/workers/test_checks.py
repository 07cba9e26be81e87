"""``check`` says what workers lack."""

from __future__ import annotations

from pathlib import Path

from shop_similarity.training.networks.saliency.weights import FILE_NAME
from shop_similarity.workers.checks import check_objects


def test_missing_weights_are_told_with_the_command_that_fetches_them(settings, tmp_path: Path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WEIGHTS_CACHE": str(tmp_path)}
    (found,) = check_objects(databases=["default"])
    assert found.id == "shop_similarity.I002" and "fetch_u2net" in found.hint and str(tmp_path) in found.msg
    assert check_objects() == [], "commands in a web process need no weights"
    (tmp_path / FILE_NAME).touch()
    assert check_objects(databases=["default"]) == []


def test_a_shop_without_search_by_photo_or_objects_is_told_nothing(settings, tmp_path: Path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WEIGHTS_CACHE": str(tmp_path)}
    settings.ROOT_URLCONF = "tests.shop_similarity.no_addresses"
    assert check_objects(databases=["default"]) == []
    settings.ROOT_URLCONF = "catalog.urls"
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_OBJECTS": False}
    assert check_objects(databases=["default"]) == []
