"""The summary of the measurements, the page that is made of it, and the parts at a size that says nothing."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench import page, summary
from bench.__main__ import ROOT, parts
from bench.goals import REASONS, goals
from bench.photos import small_photos

SUMMARY = json.loads((summary.RESULTS / summary.NAME).read_text())
PARTS = parts(tiny=True)
# Servers, workers and networks, of which other tests know that they run.
_DEAR = {"workers", "backfill", "engines"}
_NEEDS = {"embed": "openvino", "backfill": "gunicorn", "libraries": "usearch"}


def _at(path: str) -> object:
    value = SUMMARY
    for key in path.split("."):
        value = value[key]
    return value


@pytest.mark.parametrize(
    "path", ["search.recall_at_10", "search.p95_ms", "search.speedup_over_exact", "search.whole_p95_ms"]
)
def test_searches_are_summed_up_by_size(path):
    found = _at(path)
    assert list(found) == ["10k", "100k", "1m"]
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())


def test_filters_are_summed_up_by_what_they_admit():
    for share in summary.FILTERS:
        assert set(SUMMARY["search"]["filter"][share]) >= {"recall", "ratio"}
        assert set(SUMMARY["search"]["filter"][share]["ratio"]) == set(summary.SIZES)


def test_all_else_that_was_measured_is_there():
    assert SUMMARY["machine"]["cores"] >= 1
    for path in ("embed.images_per_second", "embed.ratio_to_predict_loop", "embed.share_of_limit"):
        assert _at(path)
    assert isinstance(_at("save.added_ms_p99"), float)
    assert len(_at("backfill.rate_first_and_last")) == 2
    assert "milvus" in _at("engines")


def test_the_summary_is_what_the_parts_found():
    assert json.loads(json.dumps(summary.summarise())) == SUMMARY


def test_the_page_says_what_the_summary_says():
    assert page.PAGE.read_text() == page.text(SUMMARY)


def test_the_plots_of_the_page_are_there():
    plots = re.findall(r"\((images/[\w.-]+)\)", page.text(SUMMARY))
    assert plots
    assert all((page.PAGE.parent / plot).stat().st_size > 1_000 for plot in plots)


def test_each_goal_that_is_missed_has_a_reason_and_no_other_has():
    missed = {goal.name for goal in goals(SUMMARY) if goal.is_met is False}
    assert missed == set(REASONS)


def test_every_part_is_there_and_leaves_its_file(tmp_path):
    for commands in parts(tmp_path).values():
        for module, *arguments in commands:
            assert find_spec(module)
            assert Path(arguments[arguments.index("--json") + 1]).parent == tmp_path


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_at_a_size_that_says_nothing(part, tmp_path):
    if part in _DEAR and "CI" in os.environ:
        pytest.skip(f"takes minutes of a slow machine; whoever changes it runs python -m bench {part} --tiny")
    if (package := _NEEDS.get(part)) and find_spec(package) is None:
        pytest.skip(f"{package} is not installed (requirements-bench.txt)")
    results, photos = tmp_path / "results", small_photos(tmp_path / "photos", 8)
    ran = subprocess.run(
        [sys.executable, "-m", "bench", part, "--tiny", "--results", str(results), "--photos", str(photos)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3_000:]
    assert any(path.name != summary.NAME for path in results.iterdir())
    assert (results / summary.NAME).exists()
