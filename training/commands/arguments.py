"""The options of ``train_mildnet``, and what must be said with what."""

from __future__ import annotations

import json
from argparse import BooleanOptionalAction
from collections.abc import Mapping
from dataclasses import Field, fields
from functools import partial
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser, DjangoHelpFormatter
from django.utils.translation import gettext as _

from shop_similarity.training.commands.measurement import choose_baselines
from shop_similarity.training.heads import recipe
from shop_similarity.training.learning.options import (
    BATCHES,
    DATA,
    LOSS,
    NEEDS_LOOK_ALIKE,
    NEEDS_RETRIEVAL,
    RUN,
    STEPS,
    SamplingOptions,
    TrainingOptions,
)
from shop_similarity.training.photos.augmentation import Augmentation
from shop_similarity.training.triplets.clicks import MIN_CLICKS, MIN_DAYS, MIN_SHARE
from shop_similarity.training.triplets.sides import LARGEST_SHARE, VALIDATION_SHARE
from shop_similarity.training.versions.storing import free_name

PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
MODEL, RESULT = "model", "result"
_USAGE = """%(prog)s --triplets CSV --images FOLDER [option ...]
       %(prog)s --from-catalog [option ...]
       %(prog)s --from-clicks [option ...]
       %(prog)s --resume FOLDER"""


def add_arguments(parser: CommandParser) -> None:
    """Add all options: first the ten that most runs need, then the others by what they are about."""
    parser.usage = _USAGE
    parser.formatter_class = partial(DjangoHelpFormatter, max_help_position=28)
    first = parser.add_argument_group("most runs need no more than")
    first.add_argument("--triplets", type=Path, metavar="CSV", help="Train on lines of query,positive,negative.")
    first.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="The folder that the paths in CSV files are relative to (default: each file's own folder).",
    )
    first.add_argument("--from-catalog", action="store_true", help="Train on triplets of the shop's own products.")
    first.add_argument("--from-clicks", action="store_true", help="Train on triplets of recorded clicks.")
    first.add_argument(
        "--validation",
        type=Path,
        metavar="CSV",
        help="Triplets to choose the best epoch by (default: those of products that their keys set aside).",
    )
    first.add_argument(
        "--retrieval",
        type=Path,
        metavar="FOLDER",
        help="Measure every epoch on a retrieval set as well: queries.csv, gallery.csv, qrels.csv.",
    )
    first.add_argument(
        "--fine-tune", metavar="VERSION", help="Start from a model version (default: from the pretrained network)."
    )
    first.add_argument("--name", help="Of the version (default: the architecture's first word and a number).")
    first.add_argument(
        "--activate",
        action="store_true",
        help="Let the version take over from the active one if it is better on the validation set.",
    )
    first.add_argument("--resume", type=Path, metavar="FOLDER", help="Go on with a run that was interrupted.")

    groups = {title: parser.add_argument_group(title) for title in (DATA, MODEL, LOSS, BATCHES, STEPS, RUN, RESULT)}
    _add_data_and_model(groups[DATA], groups[MODEL])
    for each in (*fields(TrainingOptions), *fields(SamplingOptions)):
        if each.metadata:
            _add_field(groups[each.metadata["group"]], each)
    groups[LOSS].add_argument(
        "--margin",
        type=float,
        nargs="+",
        metavar="M",
        help="Of losses over triplets; two for contrastive-margins (positive, negative), degrees for angular "
        "(default: the loss's own).",
    )
    groups[LOSS].add_argument(
        "--temperature", type=float, metavar="T", help="Of supcon and infonce (default: the loss's own)."
    )
    groups[BATCHES].add_argument(
        "--augment",
        action=_Switch,
        help="Change photos at random, also those whose features are kept (default: unless --views is 0).",
    )
    changes = ", ".join(f"{name}={json.dumps(value)}" for name, value in Augmentation().to_dict().items())
    groups[BATCHES].add_argument(
        "--augmentation",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"How they are changed, values as JSON; may be repeated (default: {changes}).",
    )
    _add_run_and_result(groups[RUN], groups[RESULT])
    # Those of every Django command come last. They are in the group that argparse begins with.
    parser._optionals.title = "every command"
    parser._action_groups.remove(parser._optionals)
    parser._action_groups.append(parser._optionals)


def _add_data_and_model(data: Any, model: Any) -> None:
    data.add_argument(
        "--validation-share",
        type=float,
        default=VALIDATION_SHARE,
        metavar="X",
        help="Share of the products that are set aside where no validation set is given; the same ones in every run "
        "(default: %(default)s).",
    )
    data.add_argument(
        "--look-alike",
        type=Path,
        metavar="FOLDER",
        help="Measure every epoch on a look-alike set as well (see evaluate_mildnet).",
    )
    data.add_argument(
        "--min-clicks",
        type=int,
        default=MIN_CLICKS,
        metavar="N",
        help="With --from-clicks: so many clients must prefer one product to another (default: %(default)s).",
    )
    data.add_argument(
        "--min-share",
        type=float,
        default=MIN_SHARE,
        metavar="X",
        help="Of all clients that chose between the two, such a share must agree (default: %(default)s).",
    )
    data.add_argument(
        "--min-days", type=int, default=MIN_DAYS, metavar="N", help="On so many days at least (default: %(default)s)."
    )
    data.add_argument(
        "--mix", type=Path, metavar="CSV", help="Old triplets to mix in, so that fine-tuning does not forget."
    )
    data.add_argument(
        "--mix-images", type=Path, metavar="FOLDER", help="The folder of their photos (default: that of --images)."
    )
    data.add_argument(
        "--test",
        type=Path,
        metavar="CSV",
        help="Triplets to measure the model on once, at the end; nothing is chosen by them (default: none).",
    )
    data.add_argument(
        "--test-retrieval", type=Path, metavar="FOLDER", help="A retrieval set for the same (default: none)."
    )
    model.add_argument(
        "--architecture",
        metavar="NAME",
        help="mildnet-lite, mildnet-lite2, mildnet, mildnet-joined, ranknet, visnet or visnet-fynd (default: "
        f"{recipe.DEFAULT}, or that of --fine-tune).",
    )
    model.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="An option of the architecture, its value as JSON; may be repeated.",
    )
    model.add_argument(
        "--train",
        metavar="PART",
        help="What is trained: head, all, or the backbone from a block on, such as block5 (default: head).",
    )
    model.add_argument(
        "--frozen-through", metavar="LAYER", help="The last layer that is not trained, instead of --train."
    )
    model.add_argument(
        "--calibrate",
        action=_Switch,
        default=True,
        help="Start the head from calibration on the training photos, or else from random numbers (default: yes).",
    )
    model.add_argument(
        "--weights",
        type=Path,
        action="append",
        metavar="FILE",
        help="Pretrained weights of the backbone; for two joined ones twice, in their order (default: fetched once).",
    )
    model.add_argument(
        "--weights-cache",
        type=Path,
        metavar="FOLDER",
        help="Where the converted ImageNet weights are kept (default: where workers keep theirs).",
    )
    model.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        metavar="NAME",
        help="What the network computes in: %(choices)s (default: %(default)s, the fastest here).",
    )


def _add_run_and_result(run: Any, result: Any) -> None:
    run.add_argument("--run", type=Path, metavar="FOLDER", help="Folder of the run (default: a new one).")
    run.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="Where computed features are kept (default: beside the weights)."
    )
    run.add_argument("--no-cache", action="store_true", help="Compute the frozen layers in every epoch.")
    run.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="Train on these, such as GPU:0 GPU:1 (default: all GPUs)."
    )
    run.add_argument("--report-only", type=Path, metavar="FOLDER", help="Write the report of a run anew, and no more.")
    result.add_argument(
        "--baselines",
        default="none",
        metavar="NAMES",
        help="To measure as well, all or names separated by commas: see evaluate_mildnet (default: %(default)s).",
    )
    result.add_argument(
        "--aspects",
        action=_Switch,
        default=True,
        help="Find out what colour, pattern and shape add to the version's similarities (default: yes).",
    )
    result.add_argument("--no-store", action="store_true", help="Keep the result in the run's folder alone.")
    result.add_argument("--force", action="store_true", help="With --activate: even if it is not better.")


def _add_field(group: Any, each: Field) -> None:
    """The argument of an option of :mod:`shop_similarity.training.learning.options`."""
    default, about = each.default, each.metadata
    flag = "--" + each.name.replace("_", "-")
    if default is False:
        group.add_argument(flag, action="store_true", help=f"{about['help']}.")
    elif default is True:
        group.add_argument(flag, action=_Switch, default=True, help=f"{about['help']} (default: yes).")
    else:
        kind = str if default is None else type(default)
        group.add_argument(
            flag,
            type=kind,
            default=default,
            choices=about["choices"] or None,
            metavar={int: "N", float: "X", str: "NAME"}[kind],
            help=f"{about['help']} (default: {default or 'none' if kind is str else f'{default:g}'}).",
        )


class _Switch(BooleanOptionalAction):
    """``--it`` and ``--no-it``, without argparse's own word about the default."""

    def __init__(self, *args: Any, help: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = help


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
    if options["monitor"] in NEEDS_RETRIEVAL and not options["retrieval"]:
        raise CommandError(
            _("%(figure)s can only be watched with a retrieval set: name one with --retrieval.")
            % {"figure": options["monitor"]}
        )
    if options["monitor"] in NEEDS_LOOK_ALIKE and not (options["look_alike"] or options["from_catalog"]):
        raise CommandError(
            _("%(figure)s can only be watched with a look-alike set: name one with --look-alike.")
            % {"figure": options["monitor"]}
        )
    if not 0 < options["validation_share"] <= LARGEST_SHARE:
        raise CommandError(
            _("--validation-share must be above 0 and at most %(most)g.") % {"most": LARGEST_SHARE}, returncode=2
        )
    # Before hours of training, not after them.
    choose_baselines(options["baselines"], options["weights_cache"])
    if options["name"] and not options["no_store"]:
        free_name(options["name"])
