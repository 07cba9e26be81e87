"""One run from its empty folder to its best epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity.conf import get_settings
from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.data import CLICKS
from shop_similarity.training.commands.folders import features_folder
from shop_similarity.training.commands.run_record import new_record
from shop_similarity.training.triplets.table import Triplets, write_triplets
from shop_similarity.training.versions.embedding_files import image_limits

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData
    from shop_similarity.training.learning.distribution import Distribution
    from shop_similarity.training.learning.loop import TrainingResult
    from shop_similarity.training.learning.run import Setup, TrainingRun
    from shop_similarity.training.networks.backbones import BackboneWeights


def open_run(
    folder: Path,
    setup: Setup,
    data: TrainingData,
    distribution: Distribution,
    options: Mapping[str, Any],
    console: Console,
) -> TrainingRun:
    """Build the model and see that batches can be drawn; nothing is written.

    Raises:
        CommandError, TrainingError: what is asked for can't be trained.
    """
    from shop_similarity.training.learning.run import TrainingRun

    def announce(count: int, size: str, cache: Path) -> None:
        console.say(
            ngettext(
                "The features of %(count)d view of a photo will take %(size)s in %(folder)s.",
                "The features of %(count)d views of photos will take %(size)s in %(folder)s.",
                count,
            )
            % {"count": count, "size": size, "folder": cache}
        )

    try:
        run = TrainingRun(
            folder,
            setup,
            data,
            features_folder(options),
            distribution,
            console.bars.photos,
            image_limits(),
            announce,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    run.sampler()
    return run


def make_folder(run: TrainingRun, clicks: Triplets | None, options: Mapping[str, Any]) -> None:
    """Make the folder of a new run, with all that it takes to go on with it later.

    Args:
        run: what :func:`open_run` gave.
        clicks: triplets that clicks gave, which the shop could not make the same again.
        options: of the command.
    """
    from shop_similarity.training.learning.run import RUN_FILE, VALIDATION, write_json

    run.folder.mkdir(parents=True, exist_ok=True)
    write_triplets(run.data.validation, run.folder / VALIDATION)
    if clicks is not None:
        write_triplets(clicks, run.folder / CLICKS)
    write_json(run.folder / RUN_FILE, new_record(run.setup, run.data, options))


def fit(
    run: TrainingRun, weights: ModelVersion | BackboneWeights | None, resume: bool, console: Console
) -> TrainingResult:
    """Train, and say how it went.

    Args:
        run: what :func:`open_run` gave.
        weights: to start from; None for those that the run began with.
        resume: whether to go on from the run's last checkpoint.
        console: of the command.

    Raises:
        TrainingError, TrainingInterrupted, CacheError, PhotoError, WeightsError: it did not come to its end.
    """
    from shop_similarity.training.learning.run import TENSORBOARD
    from shop_similarity.training.learning.watcher import ProgressWatcher

    if weights is None:
        run.start_again()
    elif isinstance(weights, ModelVersion):
        run.start_from_version(weights, get_settings().weights_cache)
    else:
        run.start_from_backbone(weights)
    console.bars.close()
    chief = run.distribution.chief
    log = run.folder / TENSORBOARD if chief else None
    with ProgressWatcher(console.stderr, console.quiet or not chief, log, run.setup.to_dict()) as watcher:
        result = run.fit(watcher, resume=resume)
    _tell(result, run.setup.training.patience, console)
    return result


def _tell(result: TrainingResult, patience: int, console: Console) -> None:
    best = next(record for record in result.history if record["epoch"] == result.best_epoch)
    if result.stopped_early:
        console.say(_("Stopped early: no better epoch for %(count)d epochs.") % {"count": patience})
    console.say(
        _("Best epoch: %(epoch)d of %(count)d, validation accuracy %(accuracy).4f.")
        % {"epoch": result.best_epoch, "count": len(result.history) - 1, "accuracy": best["val_accuracy"]}
    )
    if not result.best_epoch:
        console.warn(
            _(
                "No epoch was better than the start, so the start is what is kept. Try more data, a lower "
                "--learning-rate or another --loss."
            )
        )
