"""What a new version goes through: it is stored, embedded by workers, active if that is asked for, and explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import ModelVersion, OutboxEntry
from shop_similarity.rollout import RolloutError, request_activation
from shop_similarity.training.commands.console import Console
from shop_similarity.training.learning.folder import read_run
from shop_similarity.training.versions.lineage import LEAK, SEEN
from shop_similarity.training.versions.storing import free_name, store_version

if TYPE_CHECKING:
    import keras
    import numpy as np

    from shop_similarity.training.evaluation.validation import Evaluation
    from shop_similarity.training.learning.loop import TrainingResult
    from shop_similarity.training.learning.run import TrainingRun


def store(
    run: TrainingRun, result: TrainingResult, evaluation: Evaluation, options: Mapping[str, Any], console: Console
) -> ModelVersion:
    """Store the trained model as a candidate, with what it was trained on and how good it is.

    Raises:
        NameTaken: somebody took the name meanwhile.
    """
    setup = run.setup
    source = setup.weights_source
    if options["fine_tune"]:
        source = _("%(name)s (%(source)s)") % {"name": options["fine_tune"], "source": source}
    record = read_run(run.folder)
    metrics = {"training": _recipe(run, result, options["fine_tune"])}
    metrics["evaluation"] = evaluation.to_dict() | ({LEAK: record[LEAK]} if record.get(LEAK) else {})
    # A run of an earlier version recorded nothing.
    if SEEN in record:
        metrics[SEEN] = record[SEEN]
    if run.calibration:
        metrics["calibration"] = run.calibration
    version = store_version(
        run.model,
        name=free_name(options["name"], prefix=setup.architecture),
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
    """Ask for the version's turn.

    Raises:
        CommandError: it may not take over; it is stored all the same.
    """
    try:
        is_active = request_activation(version, force=force)
    except RolloutError as error:
        raise CommandError(
            _("%(name)s is stored as a candidate, but not activated. %(reason)s")
            % {"name": version.name, "reason": error}
        ) from error
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


def _recipe(run: TrainingRun, result: TrainingResult, fine_tuned_from: str | None) -> dict[str, Any]:
    """``metrics["training"]`` of the version."""
    setup, data = run.setup.to_dict(), run.data
    return {
        "epochs": len(result.history) - 1,
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "seconds": round(sum(record.get("seconds", 0) for record in result.history), 1),
        "best": {key: value for key, value in result.best.items() if key not in ("seconds", "images_per_second")},
        "triplets": len(data.train),
        "validation_triplets": len(data.validation),
        "photos": len(data.paths),
        "data_sha256": data.sha256(),
        "sides": data.sides and data.sides.to_dict(),
        "shared": [each.to_dict() for each in data.shared],
        "fine_tuned_from": fine_tuned_from,
        "recipe": {
            "loss": setup["training"],
            "sampling": setup["sampling"],
            "augmentation": setup["augmentation"],
            "precision": setup["precision"],
            "calibrated": setup["calibrated"],
        },
    }
