"""``manage.py evaluate_mildnet``: how good model versions are, beside baselines, on photos in files."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from tqdm import tqdm

from shop_similarity.conf import get_settings
from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.extra_command import ExtraCommand
from shop_similarity.training.versions.storing import store_evaluation
from shop_similarity.training.versions.weights_cache import default_weights_cache

if TYPE_CHECKING:
    import numpy as np

    from shop_similarity.training.evaluation.baselines import Baseline
    from shop_similarity.training.evaluation.comparison import Comparison
    from shop_similarity.training.evaluation.results import Validation

USUAL_BASELINES = "colour,handmade"
_WRONG_USAGE = 2


class Command(ExtraCommand):
    help = (
        "Measures model versions on a retrieval set, on triplets, or on both, with 95 % intervals, beside baselines. "
        "Photos are read from files; the shop's catalogue is not touched."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--model",
            action="append",
            metavar="VERSION",
            help="Name of a model version; may be repeated to compare several. By default the active one.",
        )
        parser.add_argument(
            "--retrieval",
            type=Path,
            metavar="FOLDER",
            help="A folder with queries.csv (query_id,image), gallery.csv (gallery_id,image) and qrels.csv "
            "(query_id,gallery_id,relevance: 2 exact, 1 partial).",
        )
        parser.add_argument(
            "--min-relevance",
            type=int,
            choices=(1, 2),
            default=1,
            help="What counts as a hit: 1 exact and partial ones, 2 exact ones only (%(default)s).",
        )
        parser.add_argument(
            "--triplets", type=Path, metavar="CSV", help="Triplets: query,positive,negative, with or without a header."
        )
        parser.add_argument(
            "--images",
            type=Path,
            metavar="FOLDER",
            help="The folder that image paths are relative to; by default the one that holds the CSV file.",
        )
        parser.add_argument(
            "--baselines",
            metavar="all|none|NAMES",
            help="Baselines to measure as well, separated by commas: colour (histogram), handmade (colour, outline and "
            "texture), efficientnet_lite0 and vgg16 (ImageNet features as they are; weights are fetched once). By "
            f"default {USUAL_BASELINES}.",
        )
        parser.add_argument(
            "--weights-cache", type=Path, metavar="FOLDER", help="Where the baselines' ImageNet weights are kept."
        )
        parser.add_argument(
            "--json", action="store_true", help="Print the figures as one JSON object, on the last line of the output."
        )
        parser.add_argument(
            "--store",
            action="store_true",
            help="Keep the figures with the model versions: activate_model compares them with the active version's.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["retrieval"] is None and options["triplets"] is None:
            raise CommandError(
                _(
                    "There is nothing to evaluate on. Name a retrieval set with --retrieval FOLDER, triplets with "
                    "--triplets CSV --images FOLDER, or both."
                ),
                returncode=_WRONG_USAGE,
            )
        self.quiet = options["verbosity"] == 0
        self.fetching: tqdm | None = None
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # A worker may be using the same GPU.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        from shop_similarity.training.evaluation.results import EvaluationError
        from shop_similarity.training.evaluation.retrieval_set import RetrievalSetError
        from shop_similarity.training.triplets.table import TripletError
        from shop_similarity.training.versions.embedding_files import UnreadablePhotos
        from shop_similarity.training.versions.loading import WeightsError

        baselines = self._baselines(options)
        versions = self._versions(options)
        try:
            validation = self._validation(options)
            comparison = self._evaluate(versions, baselines, validation, options)
        except (RetrievalSetError, TripletError, EvaluationError, UnreadablePhotos, WeightsError) as error:
            raise CommandError(str(error)) from error
        self._show(comparison, options)

    def _versions(self, options: dict[str, Any]) -> list[ModelVersion]:
        if not options["model"]:
            active = ModelVersion.objects.active()
            if active is None and (options["store"] or options["baselines"] in (None, "none")):
                raise CommandError(
                    _(
                        "There is no active model version. Name one with --model, make one with calibrate_mildnet, or "
                        "measure baselines alone with --baselines."
                    )
                )
            return [active] if active else []
        names = list(dict.fromkeys(options["model"]))
        found = {version.name: version for version in ModelVersion.objects.filter(name__in=names)}
        unknown = [name for name in names if name not in found]
        if unknown:
            known = ", ".join(ModelVersion.objects.order_by("name").values_list("name", flat=True)) or _("none")
            raise CommandError(
                _("There is no model version %(unknown)s. There are: %(known)s.")
                % {"unknown": ", ".join(unknown), "known": known},
                returncode=_WRONG_USAGE,
            )
        return [found[name] for name in names]

    def _baselines(self, options: dict[str, Any]) -> dict[str, Baseline]:
        from shop_similarity.training.evaluation.baselines import baselines
        from shop_similarity.training.versions.embedding_files import image_limits

        known = baselines(options["weights_cache"] or default_weights_cache(), image_limits(), self._show_fetching)
        wanted = USUAL_BASELINES if options["baselines"] is None else options["baselines"]
        if wanted == "all":
            return known
        names = [] if wanted == "none" else [name.strip() for name in wanted.split(",") if name.strip()]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise CommandError(
                _("There is no baseline %(unknown)s. There are: %(known)s.")
                % {"unknown": ", ".join(unknown), "known": ", ".join(known)},
                returncode=_WRONG_USAGE,
            )
        return {name: known[name] for name in known if name in names}

    def _validation(self, options: dict[str, Any]) -> Validation:
        from shop_similarity.training.evaluation.results import Validation
        from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
        from shop_similarity.training.triplets.table import read_triplets

        images = options["images"]
        triplets = read_triplets(options["triplets"], images) if options["triplets"] else None
        for notice in triplets.notices if triplets else ():
            self.stderr.write(notice)
        retrieval = RetrievalSet.read(options["retrieval"], images) if options["retrieval"] else None
        return Validation(retrieval, triplets, options["min_relevance"])

    def _evaluate(
        self,
        versions: list[ModelVersion],
        baselines: dict[str, Baseline],
        validation: Validation,
        options: dict[str, Any],
    ) -> Comparison:
        from shop_similarity.training.evaluation.comparison import Comparison
        from shop_similarity.training.networks.backbones.weights import WeightsUnavailable
        from shop_similarity.training.versions.embedding_files import embed_with_version

        comparison = Comparison(validation)
        # The cheapest first: if a photo cannot be read, it is told at once.
        for baseline in baselines.values():
            try:
                vectors, seconds = self._timed(baseline.title, validation, baseline.embed)
            except WeightsUnavailable as error:
                if options["baselines"] != "all":
                    raise CommandError(str(error)) from error
                self.stderr.write(_("%(name)s is left out: %(reason)s") % {"name": baseline.title, "reason": error})
                continue
            comparison.add_baseline(
                baseline.name, baseline.title, validation.evaluate(vectors, candidates=None), seconds
            )
            _forget_models()
        candidates = sorted({10, 50, 100, get_settings().candidates})
        for version in versions:
            vectors, seconds = self._timed(version.name, validation, partial(embed_with_version, version))
            found = validation.evaluate(vectors, candidates)
            comparison.add_model(version.name, found, seconds, active=version.state == ModelVersion.State.ACTIVE)
            if options["store"]:
                store_evaluation(version, found)
            _forget_models()
        return comparison

    def _timed(self, title: str, validation: Validation, embed: Callable[..., np.ndarray]) -> tuple[np.ndarray, float]:
        started = time.monotonic()
        with self._bar(title, len(validation.paths), unit=" photos") as bar:
            vectors = embed(validation.paths, progress=lambda done: bar.update(done - bar.n))
        if self.fetching is not None:
            self.fetching.close()
            self.fetching = None
        return vectors, time.monotonic() - started

    def _show_fetching(self, what: str, done: int, total: int) -> None:
        if self.fetching is None or self.fetching.desc != what:
            if self.fetching is not None:
                self.fetching.close()
            self.fetching = self._bar(what, total or None, unit="B", unit_scale=True, unit_divisor=1024)
            # tqdm adds a colon to what is shown, and the name is compared later.
            self.fetching.desc = what
        self.fetching.update(done - self.fetching.n)

    def _bar(self, what: str, total: int | None, **options: Any) -> tqdm:
        # A log file wants a line now and then, not a bar that moves.
        interval = 0.2 if sys.stderr.isatty() else 10
        return tqdm(desc=what, total=total, disable=self.quiet, mininterval=interval, **options)

    def _show(self, comparison: Comparison, options: dict[str, Any]) -> None:
        if not self.quiet:
            from shop_similarity.training.evaluation.tables import tables

            self.stdout.write(tables(comparison))
            if options["store"]:
                self.stdout.write(_("\nStored with %(names)s.") % {"names": ", ".join(comparison.models)})
        if options["json"]:
            self.stdout.write(json.dumps(comparison.to_dict(), allow_nan=False))


def _forget_models() -> None:
    """Free a model before the next one is built."""
    if "keras" in sys.modules:
        import keras

        keras.backend.clear_session()
        gc.collect()
