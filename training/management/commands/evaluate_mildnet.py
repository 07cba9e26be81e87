"""``manage.py evaluate_mildnet``: how good model versions are, beside baselines, on photos in files."""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.extra_command import ComputingCommand
from shop_similarity.training.commands.leaks import leak_on
from shop_similarity.training.commands.measurement import add_baselines, candidate_numbers, choose_baselines
from shop_similarity.training.commands.run_folder import cache_folder
from shop_similarity.training.versions.storing import store_evaluation

if TYPE_CHECKING:
    from shop_similarity.training.evaluation.comparison import Comparison
    from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
    from shop_similarity.training.evaluation.validation import Validation

USUAL_BASELINES = "colour,handmade"
_WRONG_USAGE = 2


class Command(ComputingCommand):
    help = (
        "Measures model versions on look-alike sets, retrieval sets and triplets, from files or from the shop's "
        "catalogue, with 95 % intervals, beside baselines. The catalogue is only read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--model",
            action="append",
            metavar="VERSION",
            help="Name of a model version; may be repeated to compare several. By default the active one.",
        )
        parser.add_argument(
            "--from-catalog",
            action="store_true",
            help="Make a look-alike set and a retrieval set of the shop's own products.",
        )
        parser.add_argument(
            "--write",
            type=Path,
            metavar="FOLDER",
            help="With --from-catalog: keep both sets there, with their photos, to measure later versions on the same.",
        )
        parser.add_argument(
            "--seed", type=int, default=0, metavar="N", help="With --from-catalog: of the sample (%(default)s)."
        )
        parser.add_argument(
            "--look-alike",
            type=Path,
            metavar="FOLDER",
            help="A folder with queries.csv (query_id,image,product_id,category,colour) and gallery.csv (gallery_id "
            "and the same): other products of the query's category are sought, those of its colour first.",
        )
        parser.add_argument(
            "--retrieval",
            type=Path,
            metavar="FOLDER",
            help="A folder with queries.csv (query_id,image), gallery.csv (gallery_id,image) and qrels.csv "
            "(query_id,gallery_id,relevance: 2 exact, 1 partial): the same product is sought.",
        )
        parser.add_argument(
            "--min-relevance",
            type=int,
            choices=(1, 2),
            default=1,
            help="What counts as a hit of --retrieval: 1 exact and partial ones, 2 exact ones only (%(default)s).",
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

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        sets = [name for name in ("look_alike", "retrieval") if options[name] is not None]
        if not (sets or options["triplets"] or options["from_catalog"]):
            raise CommandError(
                _(
                    "There is nothing to evaluate on. Take the shop's own products with --from-catalog, or name a "
                    "look-alike set with --look-alike FOLDER, a retrieval set with --retrieval FOLDER, triplets with "
                    "--triplets CSV --images FOLDER, or several of them."
                ),
                returncode=_WRONG_USAGE,
            )
        if (sets and options["from_catalog"]) or (options["write"] and not options["from_catalog"]):
            raise CommandError(
                _(
                    "--from-catalog makes a look-alike set and a retrieval set, and --write keeps them: leave out "
                    "--look-alike and --retrieval, or name sets that were kept and leave out the other two."
                ),
                returncode=_WRONG_USAGE,
            )
        names = USUAL_BASELINES if options["baselines"] is None else options["baselines"]
        # What is wrong is told before anything is computed.
        choose_baselines(names, options["weights_cache"])
        versions = self._versions(options)
        self.use_device(options)
        console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        with console.bars:
            comparison = self._compare(versions, names, self._validation(versions, options, console), options, console)
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

    def _validation(self, versions: list[ModelVersion], options: dict[str, Any], console: Console) -> Validation:
        from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
        from shop_similarity.training.evaluation.validation import Validation
        from shop_similarity.training.triplets.table import read_triplets

        images = options["images"]
        triplets = read_triplets(options["triplets"], images) if options["triplets"] else None
        for notice in triplets.notices if triplets else ():
            self.stderr.write(notice)
        if options["from_catalog"]:
            look_alike, retrieval = _from_catalogue(versions, options, console)
        else:
            look_alike, retrieval = options["look_alike"], options["retrieval"]
            look_alike = look_alike and RetrievalSet.read(look_alike, images, look_alike=True)
            retrieval = retrieval and RetrievalSet.read(retrieval, images)
        return Validation(retrieval, triplets, options["min_relevance"], look_alike)

    def _compare(
        self,
        versions: list[ModelVersion],
        baselines: str,
        validation: Validation,
        options: dict[str, Any],
        console: Console,
    ) -> Comparison:
        from shop_similarity.training.evaluation.comparison import Comparison
        from shop_similarity.training.evaluation.validation import asked_by_photo
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
            evaluation = validation.evaluate(vectors, candidate_numbers(), asked=asked_by_photo(version.config))
            comparison.add_model(version.name, evaluation, seconds, active=version.state == ModelVersion.State.ACTIVE)
            if leak := leak_on(validation, version):
                console.warn(leak.about(version.name))
            if options["store"]:
                store_evaluation(version, evaluation, leak)
        return comparison

    def _show(self, comparison: Comparison, options: dict[str, Any], console: Console) -> None:
        from shop_similarity.training.evaluation.tables import tables

        console.say(tables(comparison))
        if options["store"]:
            console.say(_("\nStored with %(names)s.") % {"names": ", ".join(comparison.models)})
        if options["json"]:
            self.stdout.write(json.dumps(comparison.to_dict(), allow_nan=False))


def _from_catalogue(
    versions: list[ModelVersion], options: dict[str, Any], console: Console
) -> tuple[RetrievalSet | None, RetrievalSet | None]:
    """The look-alike set and the instance set of the shop's products; those ask that no version was trained on."""
    from shop_similarity.training.commands.leaks import set_aside_by
    from shop_similarity.training.commands.shop_sets import make_shop_sets

    asks = set_aside_by(versions)
    if asks:
        console.say(_("Only products ask that were set aside in training: the models were trained on the others."))
    if options["write"]:
        return make_shop_sets(options["write"], options["write"], console, seed=options["seed"], asks=asks)
    # The photos that training has fetched need not be fetched again.
    drawer = cache_folder({"cache": None}, "photos").parent
    with TemporaryDirectory(prefix="shop-similarity-") as folder:
        return make_shop_sets(Path(folder), drawer, console, seed=options["seed"], asks=asks)


def _forget_models() -> None:
    """Free models before the next one is built."""
    if "keras" in sys.modules:
        import keras

        keras.backend.clear_session()
        gc.collect()
