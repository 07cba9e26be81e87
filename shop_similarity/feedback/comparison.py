"""What an experiment says about its two versions, and what it does not say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from enum import Enum
from operator import attrgetter

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import database
from ..models import Event, Experiment, ExperimentGroup, ModelVersion
from .daily_sums import daily_sums, totals
from .experiments import treatment_buckets
from .inference import (
    LOUDEST,
    design_effect,
    division_probability,
    lists_needed,
    loudest,
    newcombe,
    wilson,
)

# The change that an experiment is expected to be able to see, as a share of the control's rate.
RELATIVE_CHANGE = 0.1
# Weekdays differ, so a shorter experiment compares little but days.
MIN_DAYS = 7
# Below this an uneven division is no accident any more; the field's usual bound.
MISMATCH = 0.001


class Verdict(Enum):
    """What the interval says of the treatment."""

    BETTER = "better"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Arm:
    """One version's part of an experiment.

    Attributes:
        version_id, version: key and name of the model version.
        lists: lists shown.
        clicked: of them, those with a click.
        baskets: of them, those with an add-to-basket.
        design_effect: how many times larger the rate's variance is than if all lists were independent, at least 1;
            measured between groups of visitors, 1 where that is not possible. The larger one of groups by cookie and
            by address.
    """

    version_id: int
    version: str
    lists: int
    clicked: int
    baskets: int
    design_effect: float = 1.0

    @property
    def rate(self) -> float:
        """Click-through rate, 0 to 1."""
        return self.clicked / self.lists if self.lists else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval."""
        return wilson(self.clicked / self.design_effect, self.lists / self.design_effect)


@dataclass(frozen=True)
class Comparison:
    """The figures of an experiment.

    Attributes:
        experiment: the experiment.
        control, treatment: the two arms.
        interval: 95 % interval of the difference (Newcombe), as the treatment's rate minus the control's.
        clustered: whether the intervals take into account that the lists of one visitor are not independent.
        mismatch: probability of a division of the lists at least as uneven as this one, if nothing is wrong with it;
            None where it can't be told.
        days: for how long it has run.
        quiet: the interval without the few groups of clients with the most lists, which must say the same; None where
            no addresses are known.
    """

    experiment: Experiment
    control: Arm
    treatment: Arm
    interval: tuple[float, float]
    clustered: bool
    mismatch: float | None
    days: float
    quiet: tuple[float, float] | None = None

    @property
    def difference(self) -> float:
        """The treatment's click-through rate minus the control's, -1 to 1."""
        return self.treatment.rate - self.control.rate

    @property
    def has_mismatch(self) -> bool:
        """Whether the visitors were not divided as they should have been, so that no figure here can be trusted."""
        return self.mismatch is not None and self.mismatch < MISMATCH

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where the interval excludes 0, the division is sound and the spread is known.

        And only where the same holds without the loudest clients.
        """
        verdict = _verdict(self.interval)
        if self.has_mismatch or not self.clustered or self.is_loud:
            return Verdict.UNDECIDED
        return verdict

    @property
    def is_loud(self) -> bool:
        """Whether a few clients' clicks make the difference."""
        return self.quiet is not None and _verdict(self.interval) not in (Verdict.UNDECIDED, _verdict(self.quiet))

    def more_lists_needed(self, difference: float | None = None) -> int | None:
        """How many more lists, of both arms together, show a difference of ``difference`` with 80 % probability.

        Args:
            difference: of the rates; by default a tenth of the control's. None is returned while nobody has clicked.
        """
        if difference is None:
            difference = RELATIVE_CHANGE * self.control.rate
        if not difference or not self.control.clicked:
            return None
        effect = max(self.control.design_effect, self.treatment.design_effect)
        needed = lists_needed(self.control.rate, difference, self.experiment.share, effect)
        return max(0, needed - self.control.lists - self.treatment.lists)

    @property
    def is_early(self) -> bool:
        """Whether it should go on before anything is decided."""
        return self.days < MIN_DAYS or self.more_lists_needed() != 0

    def sentences(self) -> list[str]:
        """What to know about it, in the reader's language, the most important first."""
        sentences = []
        if self.has_mismatch:
            sentences.append(
                _(
                    "The lists are not divided as they should be: %(lists)s of %(treatment)s, %(others)s of "
                    "%(control)s. Look for the cause, such as a page cache that ignores cookies, before you read the "
                    "figures."
                )
                % {
                    "treatment": self.treatment.version,
                    "control": self.control.version,
                    "lists": _grouped(self.treatment.lists),
                    "others": _grouped(self.control.lists),
                }
            )
        sentences.append(self._difference_sentence())
        if self.is_loud:
            sentences.append(
                _(
                    "A few clients make the difference: without the %(percent)d %% of all groups of addresses with the "
                    "most lists it is not there, so somebody may have clicked for all."
                )
                % {"percent": round(100 * LOUDEST)}
            )
        if not self.clustered:
            sentences.append(
                _(
                    "The interval takes all lists as independent, which those of one visitor are not, so it is too "
                    "narrow: the raw events of too few groups of visitors are there to tell by how much."
                )
            )
        if self.experiment.is_running and self.is_early:
            sentences.append(
                _(
                    "It is too early to decide: an experiment that is stopped as soon as a difference shows finds "
                    "differences that are not there. Let it run for at least %(days)d days and until the number of "
                    "lists that was planned is reached."
                )
                % {"days": MIN_DAYS}
            )
        if not self.experiment.is_running and self.days < MIN_DAYS:
            sentences.append(
                _("It ended after less than %(days)d days: a difference that shows so early may be none.")
                % {"days": MIN_DAYS}
            )
        more = self.more_lists_needed()
        if more and self.experiment.is_running:
            sentences.append(
                ngettext(
                    "%(count)s more list is needed to see a difference of a tenth (%(points)s percentage points) "
                    "with 80 %% probability.",
                    "%(count)s more lists are needed to see a difference of a tenth (%(points)s percentage points) "
                    "with 80 %% probability.",
                    more,
                )
                % {"count": _grouped(more), "points": _points(RELATIVE_CHANGE * self.control.rate)}
            )
        elif more:
            sentences.append(
                ngettext(
                    "It ended early: %(count)s more list would have been needed to see a difference of a tenth "
                    "(%(points)s percentage points) with 80 %% probability.",
                    "It ended early: %(count)s more lists would have been needed to see a difference of a tenth "
                    "(%(points)s percentage points) with 80 %% probability.",
                    more,
                )
                % {"count": _grouped(more), "points": _points(RELATIVE_CHANGE * self.control.rate)}
            )
        elif more is None:
            sentences.append(_("Nobody has clicked on the control version's lists yet."))
        return sentences

    def _difference_sentence(self) -> str:
        templates = {
            Verdict.BETTER: _(
                "%(treatment)s is clicked more often than %(control)s, by %(low)s to %(high)s percentage points "
                "(95 %% interval)."
            ),
            Verdict.WORSE: _(
                "%(treatment)s is clicked less often than %(control)s: the difference lies between %(low)s and "
                "%(high)s percentage points (95 %% interval)."
            ),
            Verdict.UNDECIDED: _(
                "Neither is better by what is known so far: the difference of %(treatment)s to %(control)s lies "
                "between %(low)s and %(high)s percentage points (95 %% interval)."
            ),
        }
        return templates[self.verdict] % {
            "treatment": self.treatment.version,
            "control": self.control.version,
            "low": _points(self.interval[0]),
            "high": _points(self.interval[1]),
        }


def _verdict(interval: tuple[float, float]) -> Verdict:
    low, high = interval
    return Verdict.BETTER if low > 0 else Verdict.WORSE if high < 0 else Verdict.UNDECIDED


def _points(share: float) -> str:
    """A share of 1 in percentage points, as the reader's language writes numbers."""
    return number_format(round(100 * share, 2), 2)


def _grouped(count: int) -> str:
    return number_format(count, 0, force_grouping=True)


def compare(experiment: Experiment, surface: str | None = None) -> Comparison:
    """Compare the click-through rates of an experiment's arms. A handful of statements, whatever there is.

    The visitors are divided, but lists are counted, and those of one visitor are alike. So the variance is measured
    between the groups of visitors that the division is made of (the delta method of Deng et al., "Applying the delta
    method in metric analytics", KDD 2018), and both numbers of the Wilson and Newcombe intervals are divided by how
    many times larger it is than that of independent lists. It needs raw events, so it is known for the last
    ``EVENT_DAYS`` days alone. Who drops the cookie, or makes its own, is in many of those groups at once, so the
    variance is measured between groups by address as well, the larger one counts, and what the loudest groups alone
    have done decides nothing.

    Args:
        experiment: one that was started.
        surface: count only what was shown there.

    Raises:
        ValueError: it was never started.
    """
    if experiment.started_at is None:
        raise ValueError(f"The experiment {experiment.name} has not been started.")
    rows = daily_sums(experiment.started_at.astimezone(UTC).date(), experiment.pk)
    lists = (row for row in rows if row.position == 0 and surface in (None, row.surface))
    sums = totals(lists, key=attrgetter("version_id"))
    groups, clients = _groups(experiment, surface)
    treated = treatment_buckets(experiment.salt, experiment.share)
    effects = [
        design_effect([group for bucket, group in groups.items() if (bucket in treated) == treatment])
        for treatment in (False, True)
    ]
    by_address = [clients.get(version, {}) for version in (experiment.control_id, experiment.treatment_id)]
    if clients:
        known = [design_effect(list(arm.values())) for arm in by_address]
        effects = [
            None if one is None or other is None else max(one, other) for one, other in zip(effects, known, strict=True)
        ]
    clustered = None not in effects

    def arm(version: ModelVersion, effect: float | None) -> Arm:
        lists, clicked, baskets = sums[version.pk]
        known_effect = effect if effect is not None and clustered else 1.0
        return Arm(version.pk, version.name, lists, clicked, baskets, known_effect)

    control, treatment = (
        arm(version, effect)
        for version, effect in zip((experiment.control, experiment.treatment), effects, strict=True)
    )
    interval = _interval(treatment, control)
    quiet = None
    if clients and clustered:
        loud = loudest(by_address)
        quiet = _interval(_without(loud, treatment, by_address[1]), _without(loud, control, by_address[0]))
    ran = (experiment.ended_at or timezone.now()) - experiment.started_at
    return Comparison(
        experiment,
        control,
        treatment,
        interval,
        clustered,
        division_probability({bucket: lists for bucket, (lists, _clicked) in groups.items()}, treated),
        ran / timedelta(days=1),
        quiet,
    )


def _interval(treatment: Arm, control: Arm) -> tuple[float, float]:
    return newcombe(
        treatment.clicked / treatment.design_effect,
        treatment.lists / treatment.design_effect,
        control.clicked / control.design_effect,
        control.lists / control.design_effect,
    )


def _without(loud: Collection[int], arm: Arm, groups: Mapping[int, tuple[int, int]]) -> Arm:
    """What an arm comes to without some of its groups."""
    rest = [counts for group, counts in groups.items() if group not in loud]
    lists, clicked = (sum(column) for column in zip(*rest, strict=True)) if rest else (0, 0)
    return replace(arm, lists=lists, clicked=clicked, design_effect=design_effect(rest) or arm.design_effect)


def _groups(
    experiment: Experiment, surface: str | None
) -> tuple[dict[int, tuple[int, int]], dict[int, dict[int, tuple[int, int]]]]:
    """(lists, lists with a click) of each bucket, from raw events, and of each group of clients, by version."""
    buckets: dict[int, tuple[int, int]] = {}
    clients: dict[int, dict[int, tuple[int, int]]] = defaultdict(dict)
    with database.cursor() as cursor:
        cursor.execute(
            f"SELECT bucket, NULL::bigint, count(*) FILTER (WHERE kind = 'impression'), "  # noqa: S608
            f"count(DISTINCT query_id) FILTER (WHERE kind = 'click') FROM {Event._meta.db_table} "
            "WHERE experiment_id = %(experiment)s AND bucket IS NOT NULL "
            "AND (%(surface)s::text IS NULL OR surface = %(surface)s) GROUP BY bucket "
            "UNION ALL SELECT number, version_id, sum(lists)::bigint, sum(clicked)::bigint "
            f"FROM {ExperimentGroup._meta.db_table} WHERE experiment_id = %(experiment)s "
            "AND (%(surface)s::text IS NULL OR surface = %(surface)s) GROUP BY version_id, number",
            {"experiment": experiment.pk, "surface": surface},
        )
        for number, version, lists, clicked in cursor.fetchall():
            (buckets if version is None else clients[version])[number] = (lists, clicked)
    return buckets, clients
