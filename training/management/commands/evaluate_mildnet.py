"""``manage.py evaluate_mildnet``: how good model versions are, beside baselines, on photos in files."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.extra_command import ExtraCommand
from shop_similarity.training.commands.measurement import add_baselines, candidate_numbers, choose_baselines
from shop_similarity.training.versions.storing import store_evaluation

if TYPE_CHECKING:
    from shop_similarity.training.evaluation.comparison import Comparison
    from shop_similarity.training.evaluation.validation import Validation

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
            "texture), efficientnet_lite0, efficientnet_lite2 and vgg16 (ImageNet features as they are; weights are "
            f"fetched once). By default {USUAL_BASELINES}.",
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
        names = USUAL_BASELINES if options["baselines"] is None else options["baselines"]
        # What is wrong is told before anything is computed.
        choose_baselines(names, options["weights_cache"])
        versions = self._versions(options)
        console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        with console.bars:
            comparison = self._compare(versions, names, self._validation(options), options, console)
        self._show(comparison, options, console)

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
        by_name = {version.name: version for version in ModelVersion.objects.filter(name__in=names)}
        unknown = [name for name in names if name not in by_name]
        if unknown:
            known = ", ".join(ModelVersion.objects.order_by("name").values_list("name", flat=True)) or _("none")
            raise CommandError(
                _("There is no model version %(unknown)s. There are: %(known)s.")
                % {"unknown": ", ".join(unknown), "known": known},
                returncode=_WRONG_USAGE,
            )
        return [by_name[name] for name in names]

    def _validation(self, options: dict[str, Any]) -> Validation:
        from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
        from shop_similarity.training.evaluation.validation import Validation
        from shop_similarity.training.triplets.table import read_triplets

        images = options["images"]
        triplets = read_triplets(options["triplets"], images) if options["triplets"] else None
        for notice in triplets.notices if triplets else ():
            self.stderr.write(notice)
        retrieval = RetrievalSet.read(options["retrieval"], images) if options["retrieval"] else None
        return Validation(retrieval, triplets, options["min_relevance"])

    def _compare(
        self,
        versions: list[ModelVersion],
        baselines: str,
        validation: Validation,
        options: dict[str, Any],
        console: Console,
    ) -> Comparison:
        from shop_similarity.training.evaluation.comparison import Comparison
        from shop_similarity.training.versions.embedding_files import embed_with_version

        comparison = Comparison(validation)
        # The cheapest first: if a photo cannot be read, it is told at once.
        add_baselines(comparison, validation, baselines, options["weights_cache"], console)
        for version in versions:
            _forget_models()
            began = time.monotonic()
            progress = console.counted_to(version.name, len(validation.paths))
            vectors = embed_with_version(version, validation.paths, progress)
            seconds = time.monotonic() - began
            evaluation = validation.evaluate(vectors, candidate_numbers())
            comparison.add_model(version.name, evaluation, seconds, active=version.state == ModelVersion.State.ACTIVE)
            if options["store"]:
                store_evaluation(version, evaluation)
        return comparison

    def _show(self, comparison: Comparison, options: dict[str, Any], console: Console) -> None:
        from shop_similarity.training.evaluation.tables import tables

        console.say(tables(comparison))
        if options["store"]:
            console.say(_("\nStored with %(names)s.") % {"names": ", ".join(comparison.models)})
        if options["json"]:
            self.stdout.write(json.dumps(comparison.to_dict(), allow_nan=False))


def _forget_models() -> None:
    """Free models before the next one is built."""
    if "keras" in sys.modules:
        import keras

        keras.backend.clear_session()
        gc.collect()
