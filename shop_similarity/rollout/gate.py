"""The gate: whether a candidate may take over.

Its vectors must be usable, something must speak for it in what both versions were measured at on the same photos, and
nothing against it. Look-alikes lead: pages show them, while photos of the same product again are what a search by photo
asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..conf import get_settings
from ..embedding.vectors import fault_of
from ..intervals import FEWEST_GROUPS, Estimate, GroupSums
from ..models import ModelVersion

# The coded search must find this share of what the exact one finds.
CODE_RECALL = 0.99
# A difference that is sure to be above this is no loss that a shopper could see.
SMALL_LOSS = -0.02

# What is compared, by what counts most. Figures of the retrieval set are looked at beside those of look-alikes;
# triplets decide where there is nothing else.
_BARS = (
    ("look_alike", "ndcg_at_10", gettext_lazy("nDCG of ten look-alikes")),
    ("look_alike", "mean_average_precision", gettext_lazy("mean average precision of look-alikes")),
    ("retrieval", "mean_average_precision", gettext_lazy("mean average precision")),
    ("retrieval", "recall_at_1", gettext_lazy("recall at 1")),
    ("triplets", "accuracy", gettext_lazy("triplet accuracy")),
)
_OPTIONS = {"look_alike": "--look-alike FOLDER", "retrieval": "--retrieval FOLDER", "triplets": "--triplets CSV"}


@dataclass(frozen=True)
class Verdict:
    """What the comparison says.

    Attributes:
        better: whether the candidate may take over.
        reasons: sentences with the figures; where ``better`` is false, what stands against it and what to do.
        is_compared: whether both were measured on the same photos at all; without that nothing speaks against it but
            that nobody knows.
    """

    better: bool
    reasons: tuple[str, ...]
    is_compared: bool = True

    def __str__(self) -> str:
        return " ".join(self.reasons)


def judge(candidate: ModelVersion, active: ModelVersion | None) -> Verdict:
    """What speaks for and against a candidate: :func:`beats`, and whether its vectors can be searched with at all.

    Args:
        candidate: the version that is to take over.
        active: the active version; where there is none, only the vectors count, as far as there are any.
    """
    verdict = Verdict(True, ()) if active is None else beats(candidate, active)
    fault = fault_of(candidate)
    return Verdict(False, (fault, *verdict.reasons)) if fault else verdict


def beats(candidate: ModelVersion, active: ModelVersion) -> Verdict:
    """Compare the evaluations that ``evaluate_mildnet --store`` has put into both versions' metrics.

    The leading figure is that of look-alikes where either version was measured on them, else that of the retrieval set,
    else the share of validation triplets that are right. Figures are compared by their paired difference, from the
    values that both versions keep of every group of queries. A candidate is *better* where the difference's 95 %
    interval lies above 0, *worse* where it lies below, and *no worse* where it holds 0 and ends above
    :data:`SMALL_LOSS`; otherwise what is higher or lower may be chance.

    It may take over if no figure is worse and something speaks for it: the leading figure is higher, or it is no worse
    and another one is better. Its codes must also serve the search as well as before.

    Where a version keeps no values by group, its leading figure must be higher, and the others must not be below the
    lower end of the active version's interval.
    """
    new, old = _evaluation(candidate), _evaluation(active)
    leading = next((bar for bar in _BARS if any(_figure(measured, *bar[:2]) for measured in (new, old))), None)
    part = leading[0] if leading else "look_alike"
    names = {"candidate": candidate.name, "active": active.name}
    photos = _OPTIONS[part] if leading else "--from-catalog"
    command = f"manage.py evaluate_mildnet --model {candidate.name} --model {active.name} {photos} --store"
    missing = [
        version.name
        for version, measured in ((candidate, new), (active, old))
        if leading is None or _figure(measured, *leading[:2]) is None
    ]
    if missing:
        return Verdict(
            False,
            (
                ngettext(
                    "%(names)s was not evaluated, so the two can't be compared: run `%(command)s` first.",
                    "%(names)s were not evaluated, so the two can't be compared: run `%(command)s` first.",
                    len(missing),
                )
                % {"names": _(" and ").join(missing), "command": command},
            ),
            is_compared=False,
        )
    if not _are_of_the_same(new, old, part):
        return Verdict(
            False,
            (
                _(
                    "%(candidate)s and %(active)s were evaluated on different photos, so they can't be compared: run "
                    "`%(command)s`."
                )
                % {**names, "command": command},
            ),
            is_compared=False,
        )
    parts = [part] + (["retrieval"] if part == "look_alike" and _are_of_the_same(new, old, "retrieval") else [])
    compared = [found for bar in _BARS if bar[0] in parts and (found := _compare(bar, new, old, bar is leading))]
    first, *others = compared
    is_worse = any(each.word in ("worse", "too little") for each in compared)
    is_better = first.difference > 0 or (first.word == "no worse" and any(each.word == "better" for each in others))
    reasons = [each.sentence(names) for each in compared]
    if not is_worse and not is_better:
        reasons.append(
            _("%(candidate)s does not beat %(active)s: the first of these figures is not higher.") % names
            if any(each.difference for each in compared)
            else _("%(candidate)s does not beat %(active)s: both find the same.") % names
        )
    if (groups := min(each.groups for each in compared)) < FEWEST_GROUPS:
        reasons.append(
            ngettext(
                "That is known from %(groups)d group of products alone: measure on more to be sure.",
                "That is known from %(groups)d groups of products alone: measure on more to be sure.",
                groups,
            )
            % {"groups": groups}
        )
    ours, theirs = _code_recall(new), _code_recall(old)
    if ours is not None and ours < min(CODE_RECALL, theirs if theirs is not None else CODE_RECALL):
        is_worse = True
        reasons.append(
            _("The search by codes finds only %(recall)s of what the exact one finds with %(candidate)s.")
            % {**names, "recall": _written(ours, 3)}
        )
    return Verdict(is_better and not is_worse, tuple(reasons))


@dataclass(frozen=True)
class _Compared:
    """One figure of both versions.

    Attributes:
        word: ``"better"``, ``"no worse"``, ``"higher"``, ``"lower"`` or ``"worse"``; ``"enough"`` and ``"too little"``
            where it could not be paired.
        difference: ours less theirs.
        groups: that the interval was drawn over.
        figures: texts for the sentence.
    """

    word: str
    difference: float
    groups: int
    figures: Mapping[str, Any]

    def sentence(self, names: Mapping[str, str]) -> str:
        sentences = {
            "better": _("%(candidate)s is better than %(active)s by %(title)s: %(pair)s."),
            "no worse": _("%(candidate)s is no worse than %(active)s by %(title)s: %(pair)s."),
            "higher": _("%(candidate)s is higher than %(active)s by %(title)s, which may be chance: %(pair)s."),
            "lower": _("%(candidate)s is lower than %(active)s by %(title)s, which may be chance: %(pair)s."),
            "worse": _("%(candidate)s is worse than %(active)s by %(title)s: %(pair)s."),
            "enough": _("%(candidate)s has a %(title)s of %(ours)s, %(active)s of %(theirs)s."),
            "too little": _("%(candidate)s does not beat %(active)s: its %(title)s is %(ours)s against %(theirs)s."),
        }
        pair = _("%(ours)s against %(theirs)s, a difference of %(difference)s") % self.figures
        return sentences[self.word] % {**names, **self.figures, "pair": pair}


def _compare(
    bar: tuple[str, str, Any], new: Mapping[str, Any], old: Mapping[str, Any], is_leading: bool
) -> _Compared | None:
    """One of :data:`_BARS`; None where it was not measured of both."""
    part, key, title = bar
    ours, theirs = _figure(new, part, key), _figure(old, part, key)
    if ours is None or theirs is None:
        return None
    new_sums, old_sums = _group_sums(new, part, key), _group_sums(old, part, key)
    if new_sums is None or old_sums is None or not np.array_equal(new_sums.counts, old_sums.counts):
        passed = ours.value > theirs.value if is_leading else ours.value >= theirs.low
        figures = {"title": title, "ours": ours, "theirs": theirs, "difference": ""}
        word = "enough" if passed else "too little"
        return _Compared(word, ours.value - theirs.value, FEWEST_GROUPS, figures)
    paired = new_sums - old_sums
    found = paired.estimate()
    if paired.groups < FEWEST_GROUPS:
        # What is drawn from so few is too narrow, and would refuse a version by chance.
        found = found.widened(paired.groups).within(-1.0, 1.0)
    if found.low > 0 or found.high < 0:
        word = "better" if found.low > 0 else "worse"
    elif found.low > SMALL_LOSS:
        word = "no worse"
    else:
        word = "higher" if found.value > 0 else "lower"
    figures = {
        "title": title,
        "ours": _written(ours.value),
        "theirs": _written(theirs.value),
        "difference": _signed(found),
    }
    return _Compared(word, found.value, paired.groups, figures)


@dataclass(frozen=True)
class Figure:
    """A measured value with the ends of its 95 % interval; both are the value where no interval was kept."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        value = _written(self.value)
        if self.low >= self.high:
            return value
        return _("%(value)s (%(low)s to %(high)s)") % {
            "value": value,
            "low": _written(self.low),
            "high": _written(self.high),
        }


def _written(value: float, digits: int = 4) -> str:
    # Django's own function cuts digits off.
    return number_format(round(value, digits), digits)


def _signed(difference: Estimate) -> str:
    value, low, high = (
        f"{'+' if number > 0 else ''}{_written(number)}" for number in (difference.value, *difference.interval)
    )
    return _("%(value)s (%(low)s to %(high)s)") % {"value": value, "low": low, "high": high}


def measured(version: ModelVersion) -> dict[str, Figure]:
    """The figures that the comparison looks at, by ``"part.key"``; those that were not measured are left out."""
    evaluation = _evaluation(version)
    figures = {f"{part}.{key}": _figure(evaluation, part, key) for part, key, _title in _BARS}
    return {name: figure for name, figure in figures.items() if figure is not None}


def _evaluation(version: ModelVersion) -> Mapping[str, Any]:
    evaluation = version.metrics.get("evaluation") if isinstance(version.metrics, Mapping) else None
    return evaluation if isinstance(evaluation, Mapping) else {}


def _are_of_the_same(new: Mapping[str, Any], old: Mapping[str, Any], part: str) -> bool:
    """Whether a part of both was measured on the same photos."""
    photos = _measured_on(new, part)
    return photos is not None and photos == _measured_on(old, part)


def _measured_on(evaluation: Mapping[str, Any], part: str) -> tuple | None:
    """What a part was measured on: the photos, and what counted as a hit."""
    figures = evaluation.get(part)
    if not isinstance(figures, Mapping):
        return None
    photos = figures.get("set") or evaluation.get("set")
    return (photos, figures.get("min_relevance")) if photos else None


def _figure(evaluation: Mapping[str, Any], part: str, key: str) -> Figure | None:
    """A figure with its interval: beside it under ``intervals``, or in it as ``value``, ``low`` and ``high``."""
    figures = evaluation.get(part)
    entry = figures.get(key) if isinstance(figures, Mapping) else None
    value: Any
    ends: Any
    if isinstance(entry, Mapping):
        value, ends = entry.get("value"), (entry.get("low"), entry.get("high"))
    else:
        intervals = figures.get("intervals") if isinstance(figures, Mapping) else None
        value, ends = entry, intervals.get(key) if isinstance(intervals, Mapping) else None
    if not _is_number(value):
        return None
    if not isinstance(ends, Sequence) or len(ends) != 2 or not all(map(_is_number, ends)):
        ends = (value, value)
    return Figure(float(value), float(ends[0]), float(ends[1]))


def _group_sums(evaluation: Mapping[str, Any], part: str, key: str) -> GroupSums | None:
    """The values by group that a version keeps of a figure; None where it keeps none that can be read."""
    kept = evaluation[part].get("by_group")
    entry = kept.get(key) if isinstance(kept, Mapping) else None
    columns = [entry.get(name) for name in ("sums", "counts")] if isinstance(entry, Mapping) else [None]
    if not all(isinstance(column, Sequence) and column and all(map(_is_number, column)) for column in columns):
        return None
    sums, counts = (np.array(column, dtype=np.float64) for column in columns)
    if sums.shape != counts.shape or counts.min() < 0 or not counts.sum():
        return None
    return GroupSums(sums, counts)


def _code_recall(evaluation: Mapping[str, Any]) -> float | None:
    """Share of the exact results that the coded search finds, with the number of candidates that this shop looks at."""
    codes = evaluation.get("codes")
    recall = codes.get("recall") if isinstance(codes, Mapping) else None
    if not isinstance(recall, Mapping):
        return float(recall) if _is_number(recall) else None
    by_candidates = {int(count): value for count, value in recall.items() if str(count).isdigit() and _is_number(value)}
    if not by_candidates:
        return None
    most = get_settings().candidates
    return float(by_candidates[max((count for count in by_candidates if count <= most), default=min(by_candidates))])


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
