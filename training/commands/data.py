"""The triplets and photos of a run: from a CSV file, the catalogue or clicks, with all that joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.run_folder import cache_folder
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.evaluation.validation import Validation
from shop_similarity.training.learning.folder import TRAIN, VALIDATION
from shop_similarity.training.photos.feature_cache import content_digests
from shop_similarity.training.triplets.catalogue import catalogue_triplets
from shop_similarity.training.triplets.checks import load_triplets
from shop_similarity.training.triplets.clicks import shop_click_triplets
from shop_similarity.training.triplets.parting import split, split_by_query
from shop_similarity.training.triplets.table import Triplets
from shop_similarity.training.versions.embedding_files import image_limits

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData

VALIDATION_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class GatheredData:
    """What a run is made with.

    Attributes:
        data: to train and validate on.
        from_shop: whether the triplets are the shop's, which it would not make the same again: the run keeps them.
        test: what the model is measured on once, at the end; no choice depends on it.
    """

    data: TrainingData
    from_shop: bool
    test: Validation | None


def gather_data(options: Mapping[str, Any], console: Console, resumed: Path | None) -> GatheredData:
    """Read and check everything, with all that is wrong in one report, before anything is computed.

    Args:
        options: of the command.
        console: of the command.
        resumed: the folder of the run that goes on. It goes on with the shop's triplets that it began with, whatever
            the shop sells by now.

    Raises:
        CommandError, TrainingError: something can't be read, or is too little.
    """
    from shop_similarity.training.learning.data import join

    retrieval = RetrievalSet.read(options["retrieval"], options["images"]) if options["retrieval"] else None
    from_shop = bool(options["from_catalog"] or options["from_clicks"])
    validation = None
    if from_shop and resumed is not None:
        photos = cache_folder(options, "photos")
        train = _from_file(resumed / TRAIN, photos, console)
        if not options["validation"]:
            validation = _from_file(resumed / VALIDATION, photos, console)
    elif options["from_catalog"]:
        train = _from_catalogue(options, console)
    elif options["from_clicks"]:
        train = _from_clicks(options, console)
    else:
        train = _from_file(options["triplets"], options["images"], console)
    old = None
    if options["mix"]:
        old = _from_file(options["mix"], options["mix_images"] or options["images"], console)
    if options["validation"]:
        validation = _from_file(options["validation"], options["images"], console)
    elif validation is None:
        parting = split_by_query if options["from_clicks"] else split
        parts = parting(train, VALIDATION_SHARE, options["seed"])
        console.say(str(parts))
        train, validation = parts.train, parts.validation
    if from_shop:
        # Batches follow the order of the photos, which must be the same when they are read back.
        train, validation = train.as_written(), validation.as_written()
    data = join(train, validation, old, retrieval, console.counted(_("Reading")))
    return GatheredData(data, from_shop, _test(data, options, console))


def _test(data: TrainingData, options: Mapping[str, Any], console: Console) -> Validation | None:
    triplets = _from_file(options["test"], options["images"], console) if options["test"] else None
    retrieval = None
    if options["test_retrieval"]:
        retrieval = RetrievalSet.read(options["test_retrieval"], options["images"])
    if triplets is None and retrieval is None:
        return None
    test = Validation(retrieval, triplets)
    seen = set(data.digests)
    if leaked := sum(digest in seen for digest in content_digests(test.paths)):
        console.bars.close()
        console.warn(
            _(
                "%(leaked)d of the %(count)d photos of the test set are among those that the run trains on or chooses "
                "by: its figures will be too good. Take them out of the test set."
            )
            % {"leaked": leaked, "count": len(test.paths)}
        )
    return test


def _from_file(path: Path, images: Path | None, console: Console) -> Triplets:
    checking = console.counted(_("Checking the photos of %(name)s") % {"name": path.name})
    triplets, report = load_triplets(path, images, checking, limits=image_limits())
    console.bars.close()
    console.say(f"{path}: {report}")
    return triplets if report.sound.all() else triplets.select(report.sound)


def _from_catalogue(options: Mapping[str, Any], console: Console) -> Triplets:
    catalogue = catalogue_triplets(cache_folder(options, "photos"), seed=options["seed"], progress=console.bars.photos)
    _tell_skipped(catalogue.skipped, console)
    console.say(
        _("%(triplets)d triplets of %(photos)d photos of %(products)d products.")
        % {"triplets": len(catalogue.triplets), "photos": catalogue.photos, "products": catalogue.products}
    )
    return catalogue.triplets


def _from_clicks(options: Mapping[str, Any], console: Console) -> Triplets:
    try:
        clicks = shop_click_triplets(
            cache_folder(options, "photos"),
            min_clicks=options["min_clicks"],
            min_share=options["min_share"],
            min_days=options["min_days"],
            progress=console.bars.photos,
        )
    except ValueError as error:
        raise CommandError(str(error)) from error
    _tell_skipped(clicks.skipped, console)
    console.say(
        _("%(triplets)d triplets of %(products)d products, from %(choices)d choices of shoppers.")
        % {"triplets": len(clicks.triplets), "products": clicks.products, "choices": clicks.choices}
    )
    return clicks.triplets


def _tell_skipped(skipped: Sequence[tuple[str, str]], console: Console) -> None:
    console.bars.close()
    for name, reason in skipped[:10]:
        console.warn(f"{name}: {reason}")
