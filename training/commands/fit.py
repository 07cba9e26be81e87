"""One run from its devices to its best epoch."""

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
from shop_similarity.training.commands.run_folder import cache_folder
from shop_similarity.training.learning.folder import TENSORBOARD
from shop_similarity.training.versions.embedding_files import image_limits

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData
    from shop_similarity.training.learning.distribution import Distribution
    from shop_similarity.training.learning.loop import TrainingResult
    from shop_similarity.training.learning.run import TrainingRun
    from shop_similarity.training.learning.setup import Setup
    from shop_similarity.training.networks.backbones import TrunkWeights


def choose_devices(options: Mapping[str, Any], console: Console) -> Distribution:
    """The devices that are named, or all GPUs; on the CPU, operations become deterministic.

    Raises:
        CommandError: there is no such device.
    """
    import tensorflow as tf

    from shop_similarity.training.learning.distribution import choose_distribution

    try:
        distribution = choose_distribution(options["devices"])
    except ValueError as error:
        raise CommandError(str(error)) from error
    if not tf.config.list_logical_devices("GPU"):
        # On a GPU some operations would be much slower, or have no such form at all.
        tf.config.experimental.enable_op_determinism()
    if distribution.replicas > 1:
        console.say(_("Training on %(count)d devices.") % {"count": distribution.replicas})
    return distribution


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
            cache_folder(options, "features"),
            distribution,
            console.bars.photos,
            image_limits(),
            announce,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    run.sampler()
    return run


def fit(
    run: TrainingRun, weights: ModelVersion | TrunkWeights | None, resume: bool, console: Console
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
    from shop_similarity.training.learning.watcher import ProgressWatcher

    if weights is None:
        run.start_again()
    elif isinstance(weights, ModelVersion):
        cache = get_settings().weights_cache
        run.start_from_version(weights, Path(cache) if cache else None)
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
    if result.stopped_early:
        console.say(_("Stopped early: no better epoch for %(count)d epochs.") % {"count": patience})
    console.say(
        _("Best epoch: %(epoch)d of %(count)d, validation accuracy %(accuracy).4f.")
        % {
            "epoch": result.best_epoch,
            "count": len(result.history) - 1,
            "accuracy": result.best["val_accuracy"],
        }
    )
    if not result.best_epoch:
        console.warn(
            _(
                "No epoch was better than the start, so the start is what is kept. Try more data, a lower "
                "--learning-rate or another --loss."
            )
        )
