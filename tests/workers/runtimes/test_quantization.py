"""What counts as proof that int8 vectors find as much as exact ones."""

from __future__ import annotations

import io
import json
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from PIL import Image

from catalog.models import Category, Product, ProductPhoto
from shop_similarity.intervals import FEWEST_GROUPS
from shop_similarity.training.evaluation.metrics import estimate_difference
from shop_similarity.training.networks.precision import cpu_multiplies_int8
from shop_similarity.workers.runtimes import quantization


class _Sets:
    """Stands for :class:`Validation`: a figure of each photo is the first number of its vector."""

    def __init__(self, groups: int) -> None:
        self.groups = np.arange(groups)

    def evaluate(self, vectors, candidates=None):
        result = SimpleNamespace(values=vectors[: len(self.groups), 0], groups=self.groups)
        figures = ("ndcg_at_10", "mean_average_precision", "recall_at_1")

        def difference(other):
            estimate = estimate_difference(result.values, other.look_alike.values, self.groups)
            return {"look_alike": dict.fromkeys(figures, estimate)}

        return SimpleNamespace(look_alike=result, retrieval=None, difference=difference)


def _vectors(count: int, figure: float) -> np.ndarray:
    rows = np.full((count, 2), 0.5)
    rows[:, 0] = figure
    return rows


def test_equal_vectors_are_proven_and_the_verdict_is_plain_json():
    exact = _vectors(40, 0.5)
    verdict = quantization.judge(_Sets(40), exact, exact.copy())
    assert (verdict["is_proven"], verdict["reasons"]) == (True, [])
    assert verdict["cosine"] == {"least": 1.0, "mean": 1.0}
    assert set(verdict["differences"]) == {"int8", "mixed"}
    assert set(verdict["differences"]["int8"]["look_alike"]) == {"ndcg_at_10", "mean_average_precision"}
    assert json.loads(json.dumps(verdict, allow_nan=False)) == verdict


def test_figures_that_may_be_more_than_the_margin_lower_are_no_proof():
    exact = _vectors(40, 0.5)
    assert quantization.judge(_Sets(40), exact, _vectors(40, 0.5 - 0.9 * quantization.MARGIN))["is_proven"]
    verdict = quantization.judge(_Sets(40), exact, _vectors(40, 0.5 - 2.1 * quantization.MARGIN))
    assert not verdict["is_proven"]
    # Half of the vectors are exact ones, and their mean is still too low.
    assert any("(mixed)" in reason for reason in verdict["reasons"])
    # A mean that is no lower, of which one can't be sure.
    unsure = _vectors(40, 0.5)
    unsure[:, 0] += np.where(np.arange(40) % 3, 0.3, -0.6)
    assert not quantization.judge(_Sets(40), exact, unsure)["is_proven"]


def test_a_few_queries_prove_nothing():
    exact = _vectors(40, 0.5)
    verdict = quantization.judge(_Sets(FEWEST_GROUPS - 1), exact, exact)
    assert not verdict["is_proven"] and f"{FEWEST_GROUPS - 1} groups" in verdict["reasons"][0]


def test_instructions_for_int8_are_read_of_the_processor(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("flags : avx2 avx512_vnni")
    assert cpu_multiplies_int8(file)
    file.write_text("flags : avx2 avx512f")
    assert not cpu_multiplies_int8(file)
    assert not cpu_multiplies_int8(tmp_path / "missing")


def test_the_command_says_how_to_get_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(CommandError, match=r"nncf.*\[worker.*quantization\]"):
        call_command("quantize_model")


@pytest.mark.skipif(
    find_spec("openvino") is None or find_spec("nncf") is None,
    reason="OpenVINO or NNCF is not installed (the extras openvino and quantization)",
)
@pytest.mark.django_db
@pytest.mark.long
def test_the_command_quantizes_measures_and_stores(tiny_version, shop_of_pairs, capsys):
    version = tiny_version()
    call_command("quantize_model", "--sample", "20")
    version.refresh_from_db()
    entry = version.metrics["int8"]
    assert entry["photos"] == 48 and entry["cosine"]["mean"] > 0.99
    assert version.weights.storage.exists(entry["file"])
    assert ("is no worse" in capsys.readouterr().out) == entry["is_proven"]
    call_command("quantize_model", "--drop")
    version.refresh_from_db()
    assert "int8" not in version.metrics


@pytest.fixture
def shop_of_pairs(settings, tmp_path):
    """Two photos of each of 24 products, in two categories."""
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RUNTIME": "openvino", "WEIGHTS_CACHE": str(tmp_path)}
    draw = np.random.default_rng(5)
    categories = [Category.objects.create(name=name, slug=name) for name in ("one", "two")]
    for number in range(24):
        product = Product.objects.create(
            name=f"{number}", slug=f"{number}", sku=f"{number}", category=categories[number % 2]
        )
        pixels = draw.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        for place in range(2):
            file = io.BytesIO()
            Image.fromarray(pixels).resize((48 + place, 48)).save(file, "PNG")
            content = ContentFile(file.getvalue(), name=f"{number}-{place}.png")
            ProductPhoto.objects.create(product=product, file=content)
