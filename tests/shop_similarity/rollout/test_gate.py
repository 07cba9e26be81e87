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
    photos = "--from-catalog" if new is old is None else "--retrieval FOLDER"
    assert f"manage.py evaluate_mildnet --model new --model old {photos} --store" in str(verdict)


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


def _by_group(values: list[float], groups: int = 40) -> dict:
    """Values of one query per group, in turn."""
    return {"sums": [values[group % len(values)] for group in range(groups)], "counts": [1] * groups}


def _measured(groups: int = 40, **parts: dict[str, list[float]]) -> dict:
    """An evaluation with values by group, from ``part={figure: values}``."""
    evaluation: dict = {"set": "s"}
    for part, figures in parts.items():
        kept = {name: _by_group(values, groups) for name, values in figures.items()}
        means = {name: sum(found["sums"]) / groups for name, found in kept.items()}
        ends = {name: [value - 0.1, value + 0.1] for name, value in means.items()}
        evaluation[part] = {"set": part, "min_relevance": 2, **means, "intervals": ends, "by_group": kept}
    return evaluation


LEVEL = [0.3, 0.5, 0.7, 0.9]


def _shifted(by: float, noise: float = 0.0) -> list[float]:
    """:data:`LEVEL` and so much more, give or take the noise."""
    return [value + by + sign * noise for value, sign in zip(LEVEL, (1, -1, 1, -1), strict=True)]


def _looks(ndcg: list[float], precision: list[float] | None = None, **parts) -> dict:
    figures = {"ndcg_at_10": ndcg, "mean_average_precision": precision or LEVEL}
    return _measured(look_alike=figures, **parts)


def test_look_alikes_lead_and_differences_are_paired():
    # Each figure's own interval is 0.2 wide; that of their difference is not.
    verdict = _verdict(_looks(_shifted(0.01, 0.02)), _looks(LEVEL))
    assert verdict.better
    assert verdict.reasons[0] == (
        "new is better than old by nDCG of ten look-alikes: 0.6100 against 0.6000, a difference of "
        "+0.0100 (+0.0040 to +0.0160)."
    )
    assert verdict.reasons[1].startswith("new is no worse than old by mean average precision of look-alikes: ")
    worse = _verdict(_looks(LEVEL), _looks(_shifted(0.01, 0.02)))
    assert not worse.better and len(worse.reasons) == 2
    assert worse.reasons[0].startswith("new is worse than old by nDCG of ten look-alikes: 0.6000 against 0.6100")


@pytest.mark.parametrize(
    ("by", "noise", "word"),
    [
        (0.03, 0.01, "better than old by"),
        (0.002, 0.03, "no worse than old by"),
        (-0.002, 0.03, "no worse than old by"),
        (0.01, 0.2, "higher than old by nDCG of ten look-alikes, which may be chance"),
        (-0.01, 0.2, "lower than old by nDCG of ten look-alikes, which may be chance"),
        (-0.03, 0.01, "worse than old by"),
    ],
)
def test_the_words_follow_from_the_interval(by, noise, word):
    verdict = _verdict(_looks(_shifted(by, noise)), _looks(LEVEL))
    assert f"new is {word}" in verdict.reasons[0]
    assert verdict.better == (by > 0)
    if not verdict.better and "worse than" not in word:
        assert verdict.reasons[-1] == "new does not beat old: the first of these figures is not higher."


def test_a_loss_that_is_sure_in_anything_else_refuses_it():
    def instances(by: float, noise: float = 0.01) -> dict:
        return {"retrieval": {"mean_average_precision": _shifted(by, noise), "recall_at_1": LEVEL}}

    old = _looks(LEVEL, **instances(0, 0))
    verdict = _verdict(_looks(_shifted(0.05, 0.01), **instances(-0.02)), old)
    assert not verdict.better
    assert "new is worse than old by mean average precision: 0.5800 against 0.6000" in str(verdict)
    # What may be chance does not.
    assert _verdict(_looks(_shifted(0.05, 0.01), **instances(-0.02, 0.2)), old).better
    assert not _verdict(_looks(_shifted(0.05, 0.01), _shifted(-0.02, 0.01)), old).better
    # Instances alone do not make a version whose look-alikes may be worse; where those are no worse, they do.
    assert not _verdict(_looks(_shifted(-0.01, 0.2), **instances(0.1)), old).better
    assert _verdict(_looks(_shifted(-0.002, 0.03), **instances(0.1)), old).better
    assert not _verdict(_looks(_shifted(-0.002, 0.03), **instances(0.01, 0.2)), old).better


def test_a_version_that_finds_the_same_gains_nothing():
    verdict = _verdict(_looks(LEVEL), _looks(LEVEL))
    assert not verdict.better and verdict.is_compared
    assert verdict.reasons[-1] == "new does not beat old: both find the same."


def test_few_groups_are_told():
    new, old = ({"look_alike": {"ndcg_at_10": values}} for values in (_shifted(0.05), LEVEL))
    verdict = _verdict(_measured(19, **new), _measured(19, **old))
    assert verdict.better
    assert verdict.reasons[-1] == "That is known from 19 groups of products alone: measure on more to be sure."
    assert "groups" not in str(_verdict(_measured(20, **new), _measured(20, **old)))


def test_a_loss_in_few_groups_may_be_chance():
    def verdict(groups: int, loss: float):
        new, old = (
            _measured(groups, look_alike={"ndcg_at_10": looks}, retrieval={"mean_average_precision": instances})
            for looks, instances in ((_shifted(0.05, 0.01), _shifted(-loss, 0.022)), (LEVEL, LEVEL))
        )
        return _verdict(new, old)

    # Drawn over six groups, the interval of the loss ends below 0, but is too narrow.
    assert verdict(6, 0.02).better and "which may be chance" in str(verdict(6, 0.02))
    for groups, loss in ((40, 0.02), (6, 0.2)):
        assert not verdict(groups, loss).better
        assert "new is worse than old by mean average precision" in str(verdict(groups, loss))


def test_one_group_tells_nothing():
    measured = [_measured(1, look_alike={"ndcg_at_10": [value]}) for value in (0.6, 0.5)]
    assert "higher than old" in str(_verdict(*measured)) and "(-1.0000 to +1.0000)" in str(_verdict(*measured))
    assert not _verdict(*reversed(measured)).better


def test_who_was_measured_on_look_alikes_is_compared_by_them():
    instances = {"retrieval": {"mean_average_precision": LEVEL, "recall_at_1": LEVEL}}
    verdict = _verdict(_measured(**instances), _looks(LEVEL, **instances))
    assert not verdict.better and not verdict.is_compared
    assert "new was not evaluated" in str(verdict) and "--look-alike FOLDER" in str(verdict)
    other = _looks(_shifted(0.1))
    other["look_alike"]["set"] = "other photos"
    assert "different photos" in str(_verdict(other, _looks(LEVEL)))
    # Instances of other photos are not compared, whatever their figures.
    elsewhere = _looks(_shifted(0.05, 0.01), retrieval={"mean_average_precision": [0.0]})
    elsewhere["retrieval"]["set"] = "other photos"
    assert len(_verdict(elsewhere, _looks(LEVEL, **instances)).reasons) == 2


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        {"ndcg_at_10": None},
        {"ndcg_at_10": {"sums": [0.5], "counts": []}},
        {"ndcg_at_10": {"sums": ["x"] * 40, "counts": [1] * 40}},
        {"ndcg_at_10": {"sums": [1.0] * 40, "counts": [0] * 40}},
        {"ndcg_at_10": {"sums": [1.0] * 39, "counts": [1] * 39}},
    ],
)
def test_values_by_group_that_can_not_be_used_leave_the_plain_figures(damaged):
    old = _looks(LEVEL)
    old["look_alike"]["by_group"] = damaged
    verdict = _verdict(_looks(_shifted(0.01)), old)
    assert verdict.better
    assert verdict.reasons[0] == (
        "new has a nDCG of ten look-alikes of 0.6100 (0.5100 to 0.7100), old of 0.6000 (0.5000 to 0.7000)."
    )
    assert not _verdict(_looks(LEVEL), old).better


def test_triplets_are_paired_too():
    new, old = (_measured(triplets={"accuracy": values}) for values in (_shifted(0.02, 0.01), LEVEL))
    assert _verdict(new, old).better
    assert "new is better than old by triplet accuracy" in str(_verdict(new, old))
