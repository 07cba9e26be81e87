"""What a new version goes through: it is stored, embedded by workers, active if that is asked for, and explained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import ModelVersion, OutboxEntry
from shop_similarity.rollout import RolloutError, judge, request_activation
from shop_similarity.training.commands.console import Console
from shop_similarity.training.learning.checkpoints import newest_state
from shop_similarity.training.learning.folder import CALIBRATION, CHECKPOINTS, read_json, read_run
from shop_similarity.training.versions.lineage import LEAK, SEEN
from shop_similarity.training.versions.storing import free_name, store_version

if TYPE_CHECKING:
    import keras
    import numpy as np

    from shop_similarity.training.evaluation.validation import Evaluation
    from shop_similarity.training.learning.setup import Setup


def store(
    folder: Path,
    setup: Setup,
    model: keras.Model,
    epoch: int,
    measured: Mapping[str, Evaluation],
    name: str | None,
    console: Console,
) -> ModelVersion:
    """Store what a run has come to as a candidate, with what it was trained on and how good it is.

    Args:
        folder: of the run.
        setup: of the run.
        model: with the weights of the epoch.
        epoch: one that the run has made.
        measured: by its key in the version's metrics; ``evaluation`` is what versions are compared by.
        name: of the version; a free one by default.
        console: of the command.

    Raises:
        NameTaken: somebody took the name meanwhile.
        TrainingError: the run's files can't be read.
    """
    record, progress = read_run(folder), newest_state(folder / CHECKPOINTS)["progress"]
    source = setup.weights_source
    if base := record["given"]["fine_tune"]:
        source = _("%(name)s (%(source)s)") % {"name": base, "source": source}
    metrics = {"training": _recipe(record, progress, epoch)}
    metrics |= {key: evaluation.to_dict() for key, evaluation in measured.items()}
    metrics["evaluation"] |= {LEAK: record[LEAK]} if record.get(LEAK) else {}
    # A run of an earlier version recorded nothing.
    if SEEN in record:
        metrics[SEEN] = record[SEEN]
    if calibration := read_json(folder / CALIBRATION):
        metrics["calibration"] = calibration
    version = store_version(
        model,
        name=free_name(name, setup.architecture),
        architecture=setup.architecture,
        config=setup.config,
        preprocessing=setup.preprocessing,
        weights_source=source,
        metrics=metrics,
    )
    console.say(_("Stored as model version %(name)s, a candidate.") % {"name": version.name})
    return version


def queue(version: ModelVersion, console: Console) -> None:
    """Queue the shop's photos for the version; a running worker would find them too, at its next sweep."""
    count = sweep(
        files=False, versions=ModelVersion.objects.filter(pk=version.pk), priority=OutboxEntry.Priority.BACKFILL
    ).enqueued
    console.say(
        ngettext(
            "%(count)d photo waits to be embedded: a running worker takes it up, or run embed_products.",
            "%(count)d photos wait to be embedded: a running worker takes them up, or run embed_products.",
            count,
        )
        % {"count": count}
    )


def activate(version: ModelVersion, console: Console, *, force: bool = False) -> None:
    """Ask for the version's turn, and say how it compares with the active one.

    Raises:
        CommandError: it may not take over; it is stored all the same.
    """
    verdict = judge(version, ModelVersion.objects.active())
    try:
        is_active = request_activation(version, force=force)
    except RolloutError as error:
        raise CommandError(
            _("%(name)s is stored as a candidate, but not activated. %(reason)s")
            % {"name": version.name, "reason": error}
        ) from error
    if verdict.reasons:
        console.say(str(verdict))
    console.say(
        _("It is the active version now.")
        if is_active
        else _("It becomes the active version as soon as its embeddings are complete.")
    )


def explain(version: ModelVersion, model: keras.Model, features: np.ndarray, console: Console) -> None:
    """Find what explains a version's similarities, and say what came of it. Without it the version is still good."""
    from shop_similarity.training.versions.aspects import AspectsError, explain_version

    try:
        with console.bars:
            basis = explain_version(version, model, features, console.bars.photos)
    except AspectsError as error:
        if not console.quiet:
            console.warn(
                _("Similarities of %(name)s can't be explained. %(reason)s") % {"name": version.name, "reason": error}
            )
        return
    console.say(
        _(
            "Its similarities can be explained and leaned. Of drawn pairs that differ in one aspect, it recognises "
            "%(colour).0f %% by colour, %(pattern).0f %% by pattern and %(shape).0f %% by shape."
        )
        % {aspect: 100 * share for aspect, share in basis.metrics["told_apart"].items()}
    )


def _recipe(record: Mapping[str, Any], progress: Mapping[str, Any], epoch: int) -> dict[str, Any]:
    """``metrics["training"]`` of the version.

    Args:
        record: ``run.json``.
        progress: of the run's newest checkpoint.
        epoch: whose weights the version has.
    """
    setup, data, history = record["setup"], record["data"], progress["history"]
    figures = next(each for each in history if each["epoch"] == epoch)
    return {
        "epochs": len(history) - 1,
        "epoch": epoch,
        "best_epoch": progress["best_epoch"],
        "stopped_early": progress["stopped_early"],
        "seconds": round(sum(each.get("seconds", 0) for each in history), 1),
        "figures": {key: value for key, value in figures.items() if key not in ("seconds", "images_per_second")},
        "triplets": data["train"]["triplets"],
        "validation_triplets": data["validation"]["triplets"],
        "photos": data["photos"],
        "data_sha256": data["sha256"],
        "sides": data.get("sides"),
        "shared": data.get("shared", []),
        "fine_tuned_from": record["given"]["fine_tune"],
        "recipe": {
            "loss": setup["training"],
            "sampling": setup["sampling"],
            "augmentation": setup["augmentation"],
            "precision": setup["precision"],
            "calibrated": setup["calibrated"],
        },
    }
