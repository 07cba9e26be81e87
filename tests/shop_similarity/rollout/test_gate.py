"""The comparison of a candidate with the active version, by figures as evaluate_mildnet stores them."""

from __future__ import annotations

import pytest

from shop_similarity.models import ModelVersion
from shop_similarity.rollout.gate import beats


def _version(name: str, evaluation: dict | None) -> ModelVersion:
    return ModelVersion(name=name, metrics={} if evaluation is None else {"evaluation": evaluation})


def _evaluation(precision: float, recall: float = 0.9, codes: float = 1.0, photos: str = "a" * 64, **retrieval) -> dict:
    return {
        "set": photos,
        "retrieval": {
            "min_relevance": 1,
            "mean_average_precision": precision,
            "recall_at_1": recall,
            "intervals": {
                "mean_average_precision": [precision - 0.02, precision + 0.02],
                "recall_at_1": [recall - 0.01, recall + 0.01],
            },
            **retrieval,
        },
        "codes": {"recall": {"10": 0.7, "100": 0.9, "200": codes}},
    }


def _verdict(new: dict | None, old: dict | None):
    return beats(_version("new", new), _version("old", old))


def test_a_better_one_passes_with_its_figures():
    verdict = _verdict(_evaluation(0.81), _evaluation(0.80))
    assert verdict.better
    assert "new has a mean average precision of 0.8100 (0.7900 to 0.8300), old of 0.8000" in str(verdict)


@pytest.mark.parametrize("precision", [0.80, 0.79])
def test_one_that_is_not_better_is_refused(precision):
    verdict = _verdict(_evaluation(precision), _evaluation(0.80))
    assert not verdict.better
    assert "new does not beat old: its mean average precision" in str(verdict)


def test_first_hit_may_be_lost_within_the_interval_only():
    assert _verdict(_evaluation(0.81, recall=0.891), _evaluation(0.80)).better
    verdict = _verdict(_evaluation(0.81, recall=0.889), _evaluation(0.80))
    assert not verdict.better
    assert "recall at 1 is 0.8890" in str(verdict)


def test_codes_that_serve_the_search_worse_are_refused():
    assert _verdict(_evaluation(0.81, codes=0.991), _evaluation(0.80)).better
    # As good as the shop has now is good enough.
    assert _verdict(_evaluation(0.81, codes=0.95), _evaluation(0.80, codes=0.94)).better
    verdict = _verdict(_evaluation(0.81, codes=0.98), _evaluation(0.80))
    assert not verdict.better
    assert "only 0.980" in str(verdict)


def test_codes_are_judged_by_the_candidates_that_this_shop_looks_at(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CANDIDATES": 100}
    assert not _verdict(_evaluation(0.81), _evaluation(0.80) | {"codes": None}).better


@pytest.mark.parametrize(
    "new, old, who",
    [
        (None, _evaluation(0.8), "new was not"),
        (_evaluation(0.8), None, "old was not"),
        (None, None, "new and old were not"),
        ({"set": "x", "triplets": {"accuracy": 1}}, _evaluation(0.8), "new was not"),
    ],
)
def test_without_an_evaluation_it_says_which_command_to_run(new, old, who):
    verdict = _verdict(new, old)
    assert not verdict.better
    assert who in str(verdict)
    assert "manage.py evaluate_mildnet --model new --model old --retrieval FOLDER --store" in str(verdict)


def test_figures_of_different_photos_or_of_different_hits_are_not_compared():
    for other in (_evaluation(0.5, photos="b" * 64), _evaluation(0.5, min_relevance=2)):
        verdict = _verdict(_evaluation(0.9), other)
        assert not verdict.better
        assert "different photos" in str(verdict)


def test_what_else_was_measured_does_not_matter():
    # The whole evaluation's name differs where one has triplets too; the retrieval set's own decides.
    new = _evaluation(0.81, photos="b" * 64, set="s")
    assert _verdict(new, _evaluation(0.80, set="s")).better


def test_figures_with_their_interval_inside_are_read_too():
    inside = {"set": "s", "retrieval": {"mean_average_precision": {"value": 0.82, "low": 0.8, "high": 0.84}}}
    plain = {"set": "s", "retrieval": {"mean_average_precision": 0.8}}
    assert _verdict(inside, plain).better
    assert not _verdict(plain, inside).better


def test_triplets_decide_where_there_is_no_retrieval_set():
    def measured(accuracy: float, photos: str = "b" * 64) -> dict:
        return {"set": "c" * 64, "triplets": {"set": photos, "accuracy": accuracy}, "codes": {"recall": {"200": 1.0}}}

    verdict = _verdict(measured(0.91), measured(0.90))
    assert verdict.better
    assert "new has a triplet accuracy of 0.9100, old of 0.9000" in str(verdict)
    assert not _verdict(measured(0.90), measured(0.90)).better
    assert "different photos" in str(_verdict(measured(0.91), measured(0.90, "d" * 64)))
    # A version that was measured by retrieval is not let through by less.
    assert "old was not evaluated" in str(_verdict(_evaluation(0.8) | measured(0.91), measured(0.90)))
