"""The gate: whether a candidate may take over.

Its vectors must be usable, and it must be better than the active version by what both were measured at on the same
photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ..conf import get_settings
from ..embedding.vectors import fault_of
from ..models import ModelVersion

# The coded search must find this share of what the exact one finds.
CODE_RECALL = 0.99

# What must be higher than the active version's value, or at least its interval's lower end.
_BARS = (
    ("retrieval", "mean_average_precision", gettext_lazy("mean average precision"), "value"),
    ("retrieval", "recall_at_1", gettext_lazy("recall at 1"), "low"),
    ("triplets", "accuracy", gettext_lazy("triplet accuracy"), "value"),
)


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

    The candidate must have a higher mean average precision, must not find the best match less often than the lower end
    of the active version's interval, and its codes must serve the search as well as before. Where neither was measured
    on a retrieval set, the share of validation triplets that are right decides.
    """
    new, old = _evaluation(candidate), _evaluation(active)
    part, key = "retrieval", "mean_average_precision"
    if all(
        _figure(evaluation, part, key) is None and _figure(evaluation, "triplets", "accuracy") is not None
        for evaluation in (new, old)
    ):
        part, key = "triplets", "accuracy"
    names = {"candidate": candidate.name, "active": active.name}
    command = f"manage.py evaluate_mildnet --model {candidate.name} --model {active.name} --retrieval FOLDER --store"
    missing = [
        version.name
        for version, evaluation in ((candidate, new), (active, old))
        if _figure(evaluation, part, key) is None
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
    if _measured_on(new, part) is None or _measured_on(new, part) != _measured_on(old, part):
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
    reasons, better = [], True
    for group, name, title, bar in _BARS:
        ours, theirs = _figure(new, group, name), _figure(old, group, name)
        if group != part or ours is None or theirs is None:
            continue
        passed = ours.value > theirs.value if bar == "value" else ours.value >= theirs.low
        better &= passed
        reasons.append(
            (
                _("%(candidate)s has a %(title)s of %(ours)s, %(active)s of %(theirs)s.")
                if passed
                else _("%(candidate)s does not beat %(active)s: its %(title)s is %(ours)s against %(theirs)s.")
            )
            % {**names, "title": title, "ours": ours, "theirs": theirs}
        )
    ours, theirs = _code_recall(new), _code_recall(old)
    if ours is not None and ours < min(CODE_RECALL, theirs if theirs is not None else CODE_RECALL):
        better = False
        reasons.append(
            _("The search by codes finds only %(recall)s of what the exact one finds with %(candidate)s.")
            % {**names, "recall": _written(ours, 3)}
        )
    return Verdict(better, tuple(reasons))


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


def measured(version: ModelVersion) -> dict[str, Figure]:
    """The figures that the comparison looks at, by ``"part.key"``; those that were not measured are left out."""
    evaluation = _evaluation(version)
    figures = {f"{part}.{key}": _figure(evaluation, part, key) for part, key, _title, _bar in _BARS}
    return {name: figure for name, figure in figures.items() if figure is not None}


def _evaluation(version: ModelVersion) -> Mapping[str, Any]:
    evaluation = version.metrics.get("evaluation") if isinstance(version.metrics, Mapping) else None
    return evaluation if isinstance(evaluation, Mapping) else {}


def _measured_on(evaluation: Mapping[str, Any], part: str) -> tuple | None:
    """What a part was measured on: the photos, and what counted as a hit."""
    figures = evaluation[part]
    photos = figures.get("set") or evaluation.get("set")
    return (photos, figures.get("min_relevance")) if photos else None


def _figure(evaluation: Mapping[str, Any], part: str, key: str) -> Figure | None:
    """A figure with its interval: beside it under ``intervals``, or in it as ``value``, ``low`` and ``high``."""
    figures = evaluation.get(part)
    entry = figures.get(key) if isinstance(figures, Mapping) else None
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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
