"""Experiments: two model versions shown to different visitors at the same time, divided by a stable hash."""

from __future__ import annotations

import functools
import hashlib
import logging

from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import database
from ..embedding.coverage import coverage
from ..models import Experiment, ModelVersion
from .visitors import BUCKETS

logger = logging.getLogger(__name__)


class ExperimentError(Exception):
    """An experiment can't be started or stopped; the sentence says why and what to do."""


def start(experiment: Experiment) -> None:
    """Show the treatment version to its share of the visitors from now on.

    Raises:
        ExperimentError: it has run before, another one runs, or one of the versions is not embedded for all that pages
            show.
    """
    obstacles = []
    for version in (experiment.control, experiment.treatment):
        # A retired version is told about below; its embeddings are going.
        if version.state in ModelVersion.LIVE:
            obstacles += coverage(version, exactly=True).obstacles()
    if obstacles:
        raise ExperimentError(" ".join(obstacles))
    using = database.write_alias()
    try:
        with database.atomic(using):
            # Neither version may be switched or retired between the look at it and the start.
            database.lock_for_switching(using)
            current = _locked(experiment, using)
            if current.started_at is not None:
                raise ExperimentError(
                    _("The experiment %(name)s has been started before: make a new one.") % {"name": current.name}
                )
            for version in ModelVersion.objects.using(using).filter(pk__in=(current.control_id, current.treatment_id)):
                if version.state not in ModelVersion.LIVE:
                    raise ExperimentError(
                        _("%(name)s is retired and has no embeddings: choose another version, or embed it anew.")
                        % {"name": version.name}
                    )
            if (other := Experiment.objects.using(using).running().first()) is not None:
                raise ExperimentError(_("The experiment %(name)s is running: stop it first.") % {"name": other.name})
            current.started_at = timezone.now()
            current.save(update_fields=["started_at"])
    except IntegrityError as error:
        raise ExperimentError(_("Another experiment is running: stop it first.")) from error
    experiment.refresh_from_db(using=database.write_alias())


def stop(experiment: Experiment, *, note: str = "") -> None:
    """Show the active version to everybody again. An experiment that was stopped stays so; its figures are kept.

    Args:
        note: who stopped it and why.

    Raises:
        ExperimentError: it does not run.
    """
    using = database.write_alias()
    with database.atomic(using):
        current = _locked(experiment, using)
        if not current.is_running:
            raise ExperimentError(_("The experiment %(name)s does not run.") % {"name": current.name})
        _end(current, note)
    experiment.refresh_from_db(using=database.write_alias())


def end_for(note: str, version: ModelVersion | None = None) -> None:
    """End the running experiment, if it shows ``version`` (None: whatever it shows). Called by the roll-out.

    The versions of an experiment must stay what they are; what was measured before a change says nothing about after.
    """
    for experiment in Experiment.objects.running().select_for_update(no_key=True):
        if version is None or version.pk in (experiment.control_id, experiment.treatment_id):
            _end(experiment, note)


def _locked(experiment: Experiment, using: str) -> Experiment:
    current = Experiment.objects.using(using).select_for_update(no_key=True).filter(pk=experiment.pk).first()
    if current is None:
        raise ExperimentError(_("The experiment %(name)s was deleted meanwhile.") % {"name": experiment.name})
    return current


def _end(experiment: Experiment, note: str) -> None:
    experiment.ended_at = timezone.now()
    experiment.note = f"{experiment.note}\n{note}".strip()
    experiment.save(update_fields=["ended_at", "note"])
    logger.info("The experiment %s has ended. %s", experiment.name, note)


def is_treatment(experiment: Experiment, bucket: int) -> bool:
    """Whether visitors of this bucket see the treatment version. The same answer every time, in every process."""
    return bucket in treatment_buckets(experiment.salt, experiment.share)


@functools.lru_cache(maxsize=32)
def treatment_buckets(salt: str, share: float) -> frozenset[int]:
    """The buckets of the treatment: the first ``share`` of all, in an order that the salt alone decides.

    A hash compared with the share would give each bucket its chance, and so an experiment at 0.5 anything from 0.45 to
    0.55 of the buckets; here it is half of them exactly.
    """
    order = sorted(range(BUCKETS), key=lambda bucket: hashlib.sha256(f"{salt}:{bucket}".encode()).digest())
    return frozenset(order[: round(share * BUCKETS)])
