"""The options of ``train_mildnet``, and what must be said with what."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity.training.commands.run_setup import VIEWS
from shop_similarity.training.learning.options import MONITORS, OPTIMIZERS, SCHEDULES, TrainingOptions
from shop_similarity.training.triplets.clicks import MIN_CLICKS, MIN_SHARE
from shop_similarity.training.versions.storing import free_name

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
_DEFAULTS = TrainingOptions()


def add_arguments(parser: CommandParser) -> None:
    """Add all options, in four groups."""
    _add_data_options(parser)
    _add_model_options(parser)
    _add_training_options(parser)
    _add_run_options(parser)


def _add_data_options(parser: CommandParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument("--triplets", type=Path, metavar="CSV", help="Lines of query,positive,negative.")
    group.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="The folder that the paths in CSV files are relative to; by default each file's own folder.",
    )
    group.add_argument("--from-catalog", action="store_true", help="Make triplets of the shop's own products.")
    group.add_argument("--from-clicks", action="store_true", help="Make triplets of recorded clicks.")
    group.add_argument(
        "--min-clicks",
        type=int,
        metavar="N",
        help=f"With --from-clicks: so many clicks must prefer one product to another ({MIN_CLICKS}).",
    )
    group.add_argument(
        "--min-share",
        type=float,
        metavar="X",
        help=f"Of all clicks that chose between the two, so many must agree ({MIN_SHARE}).",
    )
    group.add_argument(
        "--validation",
        type=Path,
        metavar="CSV",
        help="Triplets to choose the best epoch by; by default a tenth of the triplets, of products of their own.",
    )
    group.add_argument(
        "--retrieval",
        type=Path,
        metavar="FOLDER",
        help="A retrieval set (queries.csv, gallery.csv, qrels.csv) that is measured after every epoch.",
    )
    group.add_argument(
        "--mix", type=Path, metavar="CSV", help="Old triplets to mix in, so that fine-tuning does not forget."
    )
    group.add_argument("--mix-share", type=float, metavar="SHARE", help="Of the old ones in each batch (0.3).")
    group.add_argument(
        "--mix-images", type=Path, metavar="FOLDER", help="The folder of their photos, if it is not --images."
    )
    group.add_argument(
        "--bystanders",
        type=Path,
        metavar="FOLDER",
        help="Unlabelled photos of other goods, among which --anchor is to keep the cosines as they are.",
    )
    group.add_argument("--bystanders-per-batch", type=int, metavar="N", help="How many of them in a batch (64).")


def _add_model_options(parser: CommandParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--architecture", help="mildnet (default), mildnet-lite, ranknet, visnet or visnet-fynd.")
    group.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="An option of the architecture, its value as JSON; may be repeated.",
    )
    group.add_argument("--weights", type=Path, metavar="FILE", help="Pretrained weights of the backbone.")
    group.add_argument(
        "--weights-cache", type=Path, metavar="FOLDER", help="Where the converted ImageNet weights are kept."
    )
    group.add_argument("--fine-tune", metavar="VERSION", help="Start from a model version.")
    group.add_argument(
        "--train",
        metavar="PART",
        help="What is trained: head (default), all, or the backbone from a block on, such as block5.",
    )
    group.add_argument(
        "--frozen-through", metavar="LAYER", help="The last layer that is not trained, instead of --train."
    )
    group.add_argument(
        "--calibrate",
        action=BooleanOptionalAction,
        default=True,
        help="Start the head from calibration on the training photos (default) or from random numbers.",
    )


def _add_training_options(parser: CommandParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--loss", help=f"By default {_DEFAULTS.loss}; an unknown name lists all.")
    group.add_argument(
        "--margin",
        type=float,
        nargs="+",
        metavar="M",
        help="Of the loss; two for contrastive-margins (positive, negative), degrees for angular.",
    )
    group.add_argument("--temperature", type=float, metavar="T", help="Of supcon and infonce.")
    group.add_argument("--nonzero", action="store_true", help="Average the loss over terms that are not zero.")
    group.add_argument("--miner", choices=("semi-hard", "hard"), help="Choose negatives within the batch.")
    group.add_argument("--batch-size", type=int, metavar="B", help="Triplets in a batch (64).")
    group.add_argument(
        "--per-instance",
        type=int,
        metavar="K",
        help="Batches of K photos of each instance (P x K = 3 B) instead of triplets as they are.",
    )
    group.add_argument(
        "--by-category",
        action=BooleanOptionalAction,
        default=True,
        help="With --per-instance, draw each batch from one category (default).",
    )
    group.add_argument(
        "--negatives",
        choices=("neighbours", "batch", "components", "explicit"),
        help="Which pairs of a batch may be pushed apart: those that share no positive (default), all but "
        "positives, only those that no chain of positives links, or only those that the triplets name.",
    )
    for name, kind, what in (
        ("epochs", int, "At most"),
        ("patience", int, "Stop after so many epochs without a better one; 0 never"),
        ("learning-rate", float, "The largest"),
        ("warmup", float, "Share of all steps over which a cosine schedule rises"),
        ("weight-decay", float, "Of adamw"),
        ("momentum", float, "Of sgd"),
        ("clip", float, "Largest norm of the gradient; 0 does not clip"),
        ("accumulate", int, "Batches whose gradients make one step"),
        ("backbone-rate", float, "Learning rate of the backbone as a multiple of the head's"),
        ("anchor", float, "Weight of the penalty for changes of the batch's cosines against the start"),
        ("l2-start", float, "Weight of the penalty for weights that leave the start"),
        ("average", float, "Decay of the running average of the weights that is kept; 0 for none"),
        ("blend", float, "Share of the trained weights in what is kept, the rest being the start's"),
        ("seed", int, "Of everything that is drawn"),
        ("checkpoint-seconds", float, "Also within an epoch, save the state so often"),
        ("keep-checkpoints", int, "The newest that are kept; 0 keeps all"),
    ):
        default = getattr(_DEFAULTS, name.replace("-", "_"))
        group.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=f"{what} ({default}).")
    group.add_argument("--schedule", choices=SCHEDULES, help=f"Of the learning rate ({_DEFAULTS.schedule}).")
    group.add_argument("--optimizer", choices=OPTIMIZERS, help=f"{_DEFAULTS.optimizer} by default.")
    group.add_argument("--monitor", choices=MONITORS, help=f"What the best epoch is best in ({_DEFAULTS.monitor}).")
    group.add_argument(
        "--augment",
        action=BooleanOptionalAction,
        default=None,
        help="Change photos at random (default), also those whose features are kept (--views).",
    )
    group.add_argument(
        "--augmentation",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="How: flip, crop, aspect, rotation, brightness, contrast, saturation, hue, erase; may be repeated.",
    )
    group.add_argument("--views", type=int, metavar="N", help=f"Augmented views of each photo in the cache ({VIEWS}).")
    group.add_argument("--twins", action="store_true", help="Put two views of each photo into its batch.")
    group.add_argument("--precision", choices=PRECISIONS, default="auto", help="What the network computes in.")
    group.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="Train on these, such as GPU:0 GPU:1; by default all GPUs."
    )


def _add_run_options(parser: CommandParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--run", type=Path, metavar="FOLDER", help="Folder of the run; a new one by default.")
    group.add_argument("--resume", type=Path, metavar="FOLDER", help="Go on with a run that was interrupted.")
    group.add_argument("--report-only", type=Path, metavar="FOLDER", help="Write the report of a run anew.")
    group.add_argument("--cache", type=Path, metavar="FOLDER", help="Where computed features are kept.")
    group.add_argument("--no-cache", action="store_true", help="Compute the frozen layers in every epoch.")
    group.add_argument("--baselines", default="none", metavar="NAMES", help="To measure as well: see evaluate_mildnet.")
    group.add_argument("--name", help="Of the version; by default the architecture's name and a number.")
    group.add_argument(
        "--aspects",
        action=BooleanOptionalAction,
        default=True,
        help="Find out what colour, pattern and shape add to the version's similarities (default).",
    )
    group.add_argument("--no-store", action="store_true", help="Keep the result in the run's folder alone.")
    group.add_argument(
        "--activate",
        action="store_true",
        help="Let the version take over from the active one if it is better on the retrieval set.",
    )
    group.add_argument("--force", action="store_true", help="With --activate: even if it is not better.")


def check_usage(options: Mapping[str, Any]) -> None:
    """Refuse options that make no run, before anything is read.

    Raises:
        CommandError: they don't go together.
        NameTaken: there is a version of that name.
    """
    sources = [name for name in ("triplets", "from_catalog", "from_clicks") if options[name]]
    if len(sources) != 1:
        raise CommandError(
            _(
                "Name one source of triplets: --triplets CSV, --from-catalog, or --from-clicks. To go on with a "
                "run, --resume FOLDER."
            ),
            returncode=2,
        )
    if options["monitor"] in ("recall_at_1", "mean_average_precision") and not options["retrieval"]:
        raise CommandError(
            _("%(figure)s can only be watched with a retrieval set: name one with --retrieval.")
            % {"figure": options["monitor"]}
        )
    if options["name"] and not options["no_store"]:
        # Before hours of training, not after them.
        free_name(options["name"])
