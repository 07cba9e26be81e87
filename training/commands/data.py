"""The triplets and photos of a run: from a CSV file, the catalogue or clicks, with all that joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.run_folder import CLICKS, cache_folder
from shop_similarity.training.commands.shop_sets import make_shop_sets, read_shop_sets
from shop_similarity.training.evaluation.catalogue_sets import CatalogueSetError
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.learning.folder import SETS
from shop_similarity.training.triplets.catalogue import catalogue_triplets
from shop_similarity.training.triplets.checks import load_triplets
from shop_similarity.training.triplets.clicks import shop_click_triplets
from shop_similarity.training.triplets.parting import split, split_by_query
from shop_similarity.training.triplets.table import Triplets
from shop_similarity.training.versions.embedding_files import image_limits

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData

VALIDATION_SHARE = 0.1
MEASURED_PHOTOS = 2_000
"""Photos of the shop's products that a run is measured on: all of them are embedded after every epoch."""


def gather_data(
    options: Mapping[str, Any], console: Console, resumed: Path | None, folder: Path
) -> tuple[TrainingData, Triplets | None]:
    """Read and check everything, with all that is wrong in one report, before anything is computed.

    Args:
        options: of the command.
        console: of the command.
        resumed: the folder of the run that goes on. It goes on with the clicks that it began with.
        folder: of the run. What the shop's own products are measured by is kept there.

    Returns:
        The data, and the triplets that clicks gave now, which the run has to keep.

    Raises:
        CommandError, TripletError, RetrievalSetError, CacheError: something can't be read, or is too little.
    """
    from shop_similarity.training.learning.data import join

    retrieval = RetrievalSet.read(options["retrieval"], options["images"]) if options["retrieval"] else None
    look_alike = options.get("look_alike")
    look_alike = look_alike and RetrievalSet.read(look_alike, options["images"], look_alike=True)
    clicks = None
    if options["from_catalog"]:
        train = _from_catalogue(options, console)
    elif options["from_clicks"] and resumed is not None:
        train = _from_file(resumed / CLICKS, cache_folder(options, "photos"), console)
    elif options["from_clicks"]:
        train = clicks = _from_clicks(options, console)
    else:
        train = _from_file(options["triplets"], options["images"], console)
    old = None
    if options["mix"]:
        old = _from_file(options["mix"], options["mix_images"] or options["images"], console)
    if options["validation"]:
        validation = _from_file(options["validation"], options["images"], console)
    else:
        parting = split_by_query if options["from_clicks"] else split
        parts = parting(train, VALIDATION_SHARE, options["seed"])
        console.say(str(parts))
        train, validation = parts.train, parts.validation
    if options["from_catalog"] and not (look_alike or retrieval):
        look_alike, retrieval = _shop_sets(validation, options, console, resumed, folder)
    return join(train, validation, old, retrieval, console.counted(_("Reading")), look_alike), clicks


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


def _shop_sets(
    validation: Triplets, options: Mapping[str, Any], console: Console, resumed: Path | None, folder: Path
) -> tuple[RetrievalSet | None, RetrievalSet | None]:
    """Look-alike set and instance set of the shop, in which only products ask that are not trained on."""
    drawer = cache_folder(options, "photos").parent
    if resumed is not None:
        return read_shop_sets(folder / SETS, drawer)
    asking = frozenset(validation.query_group.tolist())
    try:
        return make_shop_sets(
            folder / SETS,
            drawer,
            console,
            seed=options["seed"],
            max_photos=MEASURED_PHOTOS,
            replace=True,
            asks=asking.__contains__,
        )
    except CatalogueSetError as error:
        # A shop that is too small for them can be trained on all the same.
        console.warn(str(error))
        return None, None


def _tell_skipped(skipped: Sequence[tuple[str, str]], console: Console) -> None:
    console.bars.close()
    for name, reason in skipped[:10]:
        console.warn(f"{name}: {reason}")
