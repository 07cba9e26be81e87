"""What a finished run becomes: a stored version, embedded by workers, and active if that is asked for."""

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
from shop_similarity.training.commands.measurement import measure_active
from shop_similarity.training.versions.storing import free_name, store_version

if TYPE_CHECKING:
    from shop_similarity.training.evaluation.validation import Evaluation
    from shop_similarity.training.learning.data import TrainingData
    from shop_similarity.training.learning.loop import TrainingResult
    from shop_similarity.training.learning.run import TrainingRun


def store(
    run: TrainingRun, result: TrainingResult, found: Evaluation, options: Mapping[str, Any], console: Console
) -> ModelVersion:
    """Store the trained model as a candidate, with what it was trained on and how good it is.

    Raises:
        NameTaken: somebody took the name meanwhile.
    """
    setup = run.setup
    source = setup.weights_source
    if options["fine_tune"]:
        source = _("%(name)s (%(source)s)") % {"name": options["fine_tune"], "source": source}
    metrics = {"training": _recipe(run, result, options["fine_tune"]), "evaluation": found.to_dict()}
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


def hand_over(version: ModelVersion, data: TrainingData, options: Mapping[str, Any], console: Console) -> None:
    """Queue the shop's photos for the version, and with ``--activate`` ask for its turn.

    Raises:
        CommandError: it may not take over; it is stored all the same.
    """
    queued = sweep(
        files=False, versions=ModelVersion.objects.filter(pk=version.pk), priority=OutboxEntry.Priority.BACKFILL
    ).enqueued
    console.say(
        ngettext(
            "%(count)d photo waits to be embedded: a running worker takes it up, or run embed_products.",
            "%(count)d photos wait to be embedded: a running worker takes them up, or run embed_products.",
            queued,
        )
        % {"count": queued}
    )
    if options["activate"]:
        _activate(version, data, options, console)


def _recipe(run: TrainingRun, result: TrainingResult, fine_tuned_from: str | None) -> dict[str, Any]:
    """``metrics["training"]`` of the version."""
    setup, data = run.setup, run.data
    best = next(record for record in result.history if record["epoch"] == result.best_epoch)
    return {
        "epochs": len(result.history) - 1,
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "seconds": round(sum(record.get("seconds", 0) for record in result.history), 1),
        "best": {key: value for key, value in best.items() if key not in ("seconds", "images_per_second")},
        "triplets": len(data.train),
        "validation_triplets": len(data.validation),
        "photos": len(data.paths),
        "data_sha256": data.sha256(),
        "fine_tuned_from": fine_tuned_from,
        "recipe": {
            "loss": setup.training.to_dict(),
            "sampling": setup.sampling.to_dict(),
            "augmentation": setup.to_dict()["augmentation"],
            "precision": setup.precision,
            "calibrated": setup.calibrated,
        },
    }


def _activate(version: ModelVersion, data: TrainingData, options: Mapping[str, Any], console: Console) -> None:
    active = ModelVersion.objects.active()
    if active is not None and not options["force"]:
        measure_active(active, data, console)
    try:
        is_active = request_activation(version, force=options["force"])
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
