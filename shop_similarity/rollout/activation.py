"""Which model version searches use, and how another one takes over: docs/rollout.md.

    candidate -> active -> standby -> retired

A candidate is embedded beside the active version. A switch is one transaction: the candidate becomes active, the active
version becomes the standby, the standby of before is retired. Active, standby and candidates are *live*: all photos
that the shop saves are embedded for each of them, so that going back is instant and complete. What a retired version
leaves behind is removed by the workers (:mod:`shop_similarity.rollout.retirement`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import database
from ..embedding import bell, outbox
from ..embedding.coverage import Coverage, Gap, coverage, gap, lacks_index
from ..embedding.engines import is_beside
from ..embedding.index import build_index_unless_it_failed
from ..embedding.sweep import sweep
from ..feedback.experiments import end_for
from ..models import Embedding, ModelVersion, OutboxEntry
from .gate import Verdict, judge
from .retirement import clear, delete_row

logger = logging.getLogger(__name__)

_State = ModelVersion.State


class RolloutError(Exception):
    """A version can't be activated, retired or deleted; the sentence says why and what to do."""


class NotBetter(RolloutError):
    """Its vectors, or the comparison with the active version, speak against it. ``verdict`` has the sentences."""

    def __init__(self, version: ModelVersion, verdict: Verdict) -> None:
        self.verdict = verdict
        super().__init__(
            _("%(reasons)s It can be forced: `manage.py activate_model %(name)s --force`.")
            % {"reasons": verdict, "name": version.name}
        )


class NotReady(RolloutError):
    """Pages would lose look-alikes. ``coverage`` has the numbers."""

    def __init__(self, version_coverage: Coverage) -> None:
        self.coverage = version_coverage
        super().__init__(" ".join(version_coverage.obstacles()))


class WrongState(RolloutError):
    """The version's state does not allow it."""


def activate(version: ModelVersion, *, force: bool = False, incomplete: bool = False, note: str = "") -> None:
    """Make ``version`` the one that searches use, now, in one transaction.

    Where no version is active there is nothing to compare with and nothing to lose: the first one needs neither an
    evaluation nor embeddings; the vectors that it has must be usable all the same. Searches that are under way end with
    the version they began with.

    Args:
        version: a candidate; an active version stays what it is.
        force: whatever the gate says of its vectors and of the comparison with the active version; recorded in
            ``activation_forced``.
        incomplete: although pages would lose look-alikes that the active version can show.
        note: who wants it and why, kept in ``activation_note``.

    Raises:
        NotBetter: the comparison speaks against it.
        NotReady: photos or the index are missing.
        WrongState: it is the standby (:func:`roll_back` goes there) or retired (:func:`request_activation` revives it).
    """
    _activate(version, force, incomplete, note)


@database.on_primary()
def _activate(
    version: ModelVersion, force: bool, incomplete: bool, note: str, *, counted: _Counted | None = None
) -> None:
    """See :func:`activate`; with what a worker has ``counted`` for a wish it does nothing where that was withdrawn
    meanwhile.
    """
    wished = counted is not None
    if counted is None and not incomplete:
        # Before anything is locked: all photos are compared, which takes seconds for each million.
        counted = _count(version)
    with _versions() as versions:
        chosen = _among(versions, version)
        active = _active(versions)
        if wished and chosen.activation_requested_at is None:
            raise WrongState(_("The wish for it was withdrawn."))
        is_ready = True
        if chosen != active:
            if active is not None:
                _check_candidate(chosen)
                is_ready = incomplete or (
                    counted is not None and _is_complete(chosen, active, counted) and not lacks_index(chosen, active)
                )
            if is_ready:
                note = _pass_gate(chosen, active, force, note)
                _switch(chosen, active, force, note)
    if not is_ready:
        raise _not_ready(chosen)
    version.refresh_from_db(using=database.write_alias())


@dataclass(frozen=True)
class _Counted:
    """What pages would lose by a version, and the key of the version that was active when it was counted.

    ``missing`` is None where it was not counted, since what waits in the outbox says that something is lacking.
    """

    missing: Gap | None
    active: int | None


def _count(version: ModelVersion) -> _Counted:
    active = ModelVersion.objects.defer("metrics").active()
    if active is not None and _lacks_what_waits(version, active):
        return _Counted(None, active.pk)
    with database.long_atomic():
        return _Counted(gap(version, active), None if active is None else active.pk)


def _is_complete(version: ModelVersion, active: ModelVersion, counted: _Counted) -> bool:
    """Whether pages still lose nothing, while nobody switches.

    Whatever has come in since the count, for the active version too, was queued for this one in the same transaction.
    """
    if counted.active != active.pk:
        return gap(version, active).is_complete
    return counted.missing is not None and counted.missing.is_complete and not _lacks_what_waits(version, active)


def _not_ready(version: ModelVersion) -> NotReady:
    found = coverage(version)
    return NotReady(found if found.obstacles() else coverage(version, exactly=True))


@database.on_primary()
def request_activation(version: ModelVersion, *, force: bool = False, note: str = "") -> bool:
    """Wish that ``version`` becomes the active one; a worker switches as soon as pages lose nothing by it.

    A retired version becomes a candidate again and is embedded anew. A wish for another version is withdrawn.

    Args:
        version: a candidate or a retired version.
        force, note: as for :func:`activate`.

    Returns:
        Whether it is active already, because no version was.

    Raises:
        NotBetter: the comparison with the active version speaks against it.
        WrongState: it is the standby; :func:`roll_back` goes there.
    """
    if version.state == _State.RETIRED:
        # Photos may have changed while nobody embedded them for it, which vectors do not tell.
        clear(version)
    with _versions() as versions:
        chosen = _among(versions, version)
        active = _active(versions)
        if active is None or chosen == active:
            if active is None:
                _switch(chosen, active, force, _pass_gate(chosen, None, force, note))
            version.refresh_from_db(using=database.write_alias())
            return True
        if chosen.state != _State.RETIRED:
            _check_candidate(chosen)
        note = _pass_gate(chosen, active, force, note)
        _withdraw_others(chosen)
        ModelVersion.objects.filter(pk=chosen.pk).update(
            state=_State.CANDIDATE,
            activation_requested_at=timezone.now(),
            activation_forced=force,
            activation_note=note,
        )
        database.on_commit(bell.ring)
    version.refresh_from_db(using=database.write_alias())
    return False


@database.on_primary()
def roll_back(*, note: str = "") -> ModelVersion:
    """Go back to the version that was active before, in one transaction; returns it.

    The two change places, so a second call goes forward again. Photos that the shop has saved in the last moments may
    still wait to be embedded for it: :func:`coverage` counts them beforehand.

    Raises:
        WrongState: there is no standby.
    """
    with _versions() as versions:
        standby = next((version for version in versions if version.state == _State.STANDBY), None)
        if standby is None:
            raise WrongState(
                _("There is no version to go back to: none was active before, or it was retired. See `model_versions`.")
            )
        _switch(standby, _active(versions), False, note)
    standby.refresh_from_db(using=database.write_alias())
    return standby


@database.on_primary()
def retire(version: ModelVersion) -> None:
    """Stop embedding for a candidate or the standby; workers remove its embeddings. Its weights stay.

    Raises:
        WrongState: it is the active version.
    """
    with _versions() as versions:
        chosen = _among(versions, version)
        if chosen.state == _State.ACTIVE:
            raise WrongState(
                _("%(name)s is the active version: activate another one or roll back first.") % {"name": chosen.name}
            )
        ModelVersion.objects.filter(pk=chosen.pk).update(state=_State.RETIRED, activation_requested_at=None)
        end_for(_("Ended because %(name)s was retired.") % {"name": chosen.name}, chosen)
    version.refresh_from_db(using=database.write_alias())


@database.on_primary()
def delete(version: ModelVersion) -> None:
    """Delete a candidate or a retired version with all that belongs to it, its weights file too.

    Raises:
        WrongState: it is the active version or the standby.
    """
    with _versions() as versions:
        chosen = _among(versions, version)
        if chosen.state in (_State.ACTIVE, _State.STANDBY):
            raise WrongState(
                _("%(name)s is the active version: it can't be deleted.") % {"name": chosen.name}
                if chosen.state == _State.ACTIVE
                else _("%(name)s is the version to go back to: retire it first, then delete it.")
                % {"name": chosen.name}
            )
        ModelVersion.objects.filter(pk=chosen.pk).update(state=_State.RETIRED, activation_requested_at=None)
    # A worker that is at a batch of it finds it retired and writes nothing more.
    clear(version)
    delete_row(version)


@database.on_primary()
def is_wanted() -> bool:
    """Whether a wish for an activation waits for the workers."""
    return _wanted().exists()


def _wanted() -> QuerySet[ModelVersion]:
    return ModelVersion.objects.filter(state=_State.CANDIDATE, activation_requested_at__isnull=False)


_complaints: set[tuple] = set()


@database.on_primary()
@database.stored_language()
def advance() -> ModelVersion | None:
    """Bring a wished activation a step on; called by workers again and again. Returns the version it switched to.

    Queues what the candidate lacks, builds its index where the active version has one, and switches when it is ready.
    A version that can't be activated is logged, no error; where the comparison has turned, the wish is withdrawn.
    """
    wanted = _wanted().order_by("-activation_requested_at").first()
    if wanted is None:
        return None
    # As long as the backfill goes on, counting is idle. What waits for a later try may be a photo that nobody can read.
    if outbox.has_backfill(wanted.pk):
        return None
    counted = _count(wanted)
    missing = counted.missing
    if missing is None:
        return None
    if missing.unqueued:
        sweep(
            files=False,
            versions=ModelVersion.objects.filter(pk=wanted.pk),
            priority=OutboxEntry.Priority.BACKFILL,
        )
        return None
    if missing.loses_too_much and (wanted.pk, wanted.activation_requested_at) not in _complaints:
        _complaints.add((wanted.pk, wanted.activation_requested_at))
        obstacles = " ".join(coverage(wanted, exactly=True).obstacles())
        logger.warning("%s is not activated: %s", wanted.name, obstacles, extra={"version": wanted.name})
    if not missing.is_complete:
        return None
    if lacks_index(wanted, ModelVersion.objects.defer("metrics").active()):
        if is_beside() or database.in_transaction():
            # Whoever feeds the engine fills its copy.
            return None
        started = time.monotonic()
        if not build_index_unless_it_failed(wanted.pk):
            # Another worker is at it, or it failed a while ago.
            return None
        seconds = time.monotonic() - started
        logger.info("Built the index of %s in %.1f s.", wanted.name, seconds, extra={"version": wanted.name})
    try:
        _activate(wanted, wanted.activation_forced, False, wanted.activation_note, counted=counted)
    except NotBetter as error:
        logger.warning("The activation of %s is withdrawn: %s", wanted.name, error, extra={"version": wanted.name})
        ModelVersion.objects.filter(pk=wanted.pk, state=_State.CANDIDATE).update(
            activation_requested_at=None, activation_note=_("Withdrawn: %(reason)s") % {"reason": error}
        )
        return None
    except RolloutError as error:
        logger.info("%s is not activated yet: %s", wanted.name, error, extra={"version": wanted.name})
        return None
    return wanted


def _lacks_what_waits(version: ModelVersion, active: ModelVersion) -> bool:
    """Whether a photo waits, for a later try say, that the active version shows and this one has not, or for another
    product: then counting all that is lacking is idle.
    """
    same = Embedding.objects.filter(
        version=version.pk, image_id=OuterRef("image_id"), product_id=OuterRef("product_id")
    )
    lacking = Embedding.objects.filter(~Exists(same), version=active.pk, image_id=OuterRef("image_id"))
    return OutboxEntry.objects.filter(Exists(lacking), version=version, failed_at__isnull=True).exists()


@contextmanager
def _versions() -> Iterator[list[ModelVersion]]:
    """All versions, locked against other switches, in one transaction."""
    with database.short_atomic():
        database.lock_for_switching()
        # Not FOR UPDATE: an outbox row's foreign key would have the shop's saves wait for it.
        yield list(ModelVersion.objects.using(database.write_alias()).select_for_update(no_key=True).order_by("pk"))


def _among(versions: list[ModelVersion], version: ModelVersion) -> ModelVersion:
    for locked in versions:
        if locked.pk == version.pk:
            return locked
    raise WrongState(_("Model version %(name)s was deleted meanwhile.") % {"name": version.name})


def _active(versions: list[ModelVersion]) -> ModelVersion | None:
    return next((version for version in versions if version.state == _State.ACTIVE), None)


def _check_candidate(version: ModelVersion) -> None:
    if version.state == _State.STANDBY:
        raise WrongState(
            _("%(name)s was active before: `manage.py rollback_model` goes back to it at once.")
            % {"name": version.name}
        )
    if version.state == _State.RETIRED:
        raise WrongState(
            _(
                "%(name)s is retired and has no embeddings: `manage.py activate_model %(name)s` without --now has it "
                "embedded again and activates it then."
            )
            % {"name": version.name}
        )


def _pass_gate(chosen: ModelVersion, active: ModelVersion | None, force: bool, note: str) -> str:
    """The note to keep. Raises NotBetter where the comparison speaks against it and nobody forces it."""
    verdict = judge(chosen, active)
    if verdict.better:
        return note
    if not force:
        raise NotBetter(chosen, verdict)
    forced = _("Forced: %(reasons)s") % {"reasons": verdict}
    return note if forced in note else "; ".join(filter(None, [note, forced]))


def _withdraw_others(chosen: ModelVersion) -> None:
    ModelVersion.objects.filter(activation_requested_at__isnull=False).exclude(pk=chosen.pk).update(
        activation_requested_at=None,
        activation_note=_("Withdrawn for the sake of %(name)s.") % {"name": chosen.name},
    )


def _switch(chosen: ModelVersion, active: ModelVersion | None, force: bool, note: str) -> None:
    versions = ModelVersion.objects.all()
    # One row at a time may be active or standby, at every moment: the order of these statements matters.
    if chosen.state == _State.STANDBY:
        versions.filter(pk=chosen.pk).update(state=_State.CANDIDATE)
    else:
        versions.filter(state=_State.STANDBY).update(state=_State.RETIRED)
    versions.filter(state=_State.ACTIVE).update(state=_State.STANDBY)
    versions.filter(pk=chosen.pk).update(
        state=_State.ACTIVE,
        activated_at=timezone.now(),
        activation_requested_at=None,
        activation_forced=force,
        activation_note=note,
    )
    end_for(_("Ended because %(name)s became the active version.") % {"name": chosen.name})
    # Nobody who has just switched expects another switch by itself.
    _withdraw_others(chosen)
    before = active.name if active else "none"
    logger.info("%s is the active version now, %s the standby.", chosen.name, before, extra={"version": chosen.name})
