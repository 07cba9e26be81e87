"""The triplets and photos of a run: from a CSV file, the catalogue or clicks, with all that joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.run_folder import cache_folder
from shop_similarity.training.commands.shop_sets import make_shop_sets, read_shop_sets
from shop_similarity.training.evaluation.catalogue_sets import CatalogueSetError
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.evaluation.validation import Validation
from shop_similarity.training.learning.folder import OLD, SETS, TRAIN, VALIDATION, read_run
from shop_similarity.training.photos.feature_cache import content_digests
from shop_similarity.training.triplets.catalogue import catalogue_triplets
from shop_similarity.training.triplets.checks import load_triplets
from shop_similarity.training.triplets.clicks import shop_click_triplets
from shop_similarity.training.triplets.leakage import overlap
from shop_similarity.training.triplets.parting import (
    QuerySplit,
    SplitTriplets,
    split,
    split_by_query,
    without_validated,
)
from shop_similarity.training.triplets.product_groups import keys_of_the_shop
from shop_similarity.training.triplets.sides import VALIDATION as VALIDATION_SIDE
from shop_similarity.training.triplets.sides import Sides, side_of
from shop_similarity.training.triplets.table import TripletError, Triplets, without_copies
from shop_similarity.training.versions.embedding_files import image_limits

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData

MEASURED_PHOTOS = 2_000
"""Photos of the shop's products that a run is measured on: all of them are embedded after every epoch."""


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


def gather_data(options: Mapping[str, Any], console: Console, folder: Path, *, resumed: bool = False) -> GatheredData:
    """Read and check everything, with all that is wrong in one report, before anything is computed.

    Args:
        options: of the command.
        console: of the command.
        folder: of the run. What the shop's own products are measured by is kept there.
        resumed: whether the run goes on. It goes on with the shop's triplets that it began with, whatever the shop
            sells by now.

    Raises:
        CommandError, TrainingError: something can't be read, or is too little.
    """
    from shop_similarity.training.learning.data import join

    retrieval = RetrievalSet.read(options["retrieval"], options["images"]) if options["retrieval"] else None
    look_alike = options["look_alike"]
    look_alike = look_alike and RetrievalSet.read(look_alike, options["images"], look_alike=True)
    share = options["validation_share"]
    from_shop = bool(options["from_catalog"] or options["from_clicks"])
    validation, sides, by_query = None, None, False
    if from_shop and resumed:
        photos, record = cache_folder(options, "photos"), read_run(folder)["data"]
        train = replace(_from_file(folder / TRAIN, photos, console), keys=keys_of_the_shop())
        if not options["validation"]:
            validation = replace(_from_file(folder / VALIDATION, photos, console), keys=keys_of_the_shop())
            sides, by_query = Sides.from_dict(record["sides"]), record["by_query"]
    elif options["from_catalog"]:
        train, share = _from_catalogue(options, console)
    elif options["from_clicks"]:
        train = _from_clicks(options, console)
    else:
        train = _from_file(options["triplets"], options["images"], console)
    old = None
    if options["mix"]:
        # Those of products that are set aside were left out when the run began.
        kept = from_shop and resumed and not options["validation"]
        old = _from_file(folder / OLD if kept else options["mix"], options["mix_images"] or options["images"], console)
    if options["validation"]:
        validation = _from_file(options["validation"], options["images"], console)
    elif validation is None:
        # In a file that export_clicks wrote, too, products are compared with each other all over.
        by_query = bool((train.positive_type == "clicked").all())
        parts = split_by_query(train, share) if by_query else split(train, share, options["seed"])
        _tell_split(parts, options, console)
        sides = Sides(parts.share, train.keys)
        train, validation = parts.train, parts.validation
        old = old and _of_other_products(old, parts, console)
    if from_shop:
        # Batches follow the order of the photos, which must be the same when they are read back.
        train, validation, old = train.as_written(), validation.as_written(), old and old.as_written()
    if options["from_catalog"] and not (look_alike or retrieval):
        look_alike, retrieval = _shop_sets(validation, sides, options, console, folder, resumed)
    data = join(train, validation, old, retrieval, console.counted(_("Reading")), look_alike)
    # Among products that training knows, queries are all that it must not know, and the split has seen to that.
    shared = () if by_query else tuple(overlap(each, validation) for each in data.trained_sets())
    data = replace(data, sides=sides, by_query=by_query, shared=shared)
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


def _tell_split(parts: SplitTriplets | QuerySplit, options: Mapping[str, Any], console: Console) -> None:
    console.say(str(parts))
    if parts.share > options["validation_share"]:
        console.say(
            _(
                "So few products were set aside by a share of %(asked)g that there was nothing to validate with: it is "
                "%(share)g in this run."
            )
            % {"asked": options["validation_share"], "share": parts.share}
        )


def _of_other_products(old: Triplets, parts: SplitTriplets | QuerySplit, console: Console) -> Triplets:
    kept = without_validated(old, parts.set_aside(), parts.share)
    if not len(kept):
        raise TripletError(
            "All triplets of --mix show products that are set aside to validate with. Mix in triplets of other "
            "products, or give a validation file of its own."
        )
    if len(kept) < len(old):
        console.say(
            _("%(count)d of the old triplets are left out: they show products that are validated on.")
            % {"count": len(old) - len(kept)}
        )
    return kept


def _from_file(path: Path, images: Path | None, console: Console) -> Triplets:
    checking = console.counted(_("Checking the photos of %(name)s") % {"name": path.name})
    triplets, report = load_triplets(path, images, checking, limits=image_limits())
    console.bars.close()
    console.say(f"{path}: {report}")
    kept = without_copies(triplets)
    for notice in kept.notices[len(triplets.notices) :]:
        console.say(notice)
    return kept


def _from_catalogue(options: Mapping[str, Any], console: Console) -> tuple[Triplets, float]:
    """The triplets, and the share of the products that are set aside in them."""
    catalogue = catalogue_triplets(
        cache_folder(options, "photos"),
        seed=options["seed"],
        share=0.0 if options["validation"] else options["validation_share"],
        progress=console.bars.photos,
    )
    _tell_skipped(catalogue.skipped, console)
    console.say(
        _("%(triplets)d triplets of %(photos)d photos of %(products)d products.")
        % {"triplets": len(catalogue.triplets), "photos": catalogue.photos, "products": catalogue.products}
    )
    if catalogue.of_both_sides:
        console.say(
            ngettext(
                "%(count)d photo is left out: products to train on and products to validate with show it.",
                "%(count)d photos are left out: products to train on and products to validate with show them.",
                catalogue.of_both_sides,
            )
            % {"count": catalogue.of_both_sides}
        )
    return catalogue.triplets, catalogue.share


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
    validation: Triplets,
    sides: Sides | None,
    options: Mapping[str, Any],
    console: Console,
    folder: Path,
    resumed: bool,
) -> tuple[RetrievalSet | None, RetrievalSet | None]:
    """Look-alike set and instance set of the shop, in which only products ask that are not trained on."""
    drawer = cache_folder(options, "photos").parent
    if resumed:
        return read_shop_sets(folder / SETS, drawer)
    validated = validation.group_names()
    try:
        return make_shop_sets(
            folder / SETS,
            drawer,
            console,
            seed=options["seed"],
            max_photos=MEASURED_PHOTOS,
            replace=True,
            asks=lambda name: side_of(name, sides.share) == VALIDATION_SIDE if sides else name in validated,
        )
    except CatalogueSetError as error:
        # A shop that is too small for them can be trained on all the same.
        console.warn(str(error))
        return None, None


def _tell_skipped(skipped: Sequence[tuple[str, str]], console: Console) -> None:
    console.bars.close()
    for name, reason in skipped[:10]:
        console.warn(f"{name}: {reason}")
