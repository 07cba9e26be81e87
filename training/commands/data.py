"""The triplets and photos of a run: from a CSV file, the catalogue or clicks, with all that joins them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.run_folder import CLICKS, cache_folder
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
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
from shop_similarity.training.triplets.sides import Sides
from shop_similarity.training.triplets.table import TripletError, Triplets, without_copies
from shop_similarity.training.versions.embedding_files import image_limits

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData


def gather_data(
    options: Mapping[str, Any], console: Console, resumed: Path | None
) -> tuple[TrainingData, Triplets | None]:
    """Read and check everything, with all that is wrong in one report, before anything is computed.

    Args:
        options: of the command.
        console: of the command.
        resumed: the folder of the run that goes on. It goes on with the clicks that it began with.

    Returns:
        The data, and the triplets that clicks gave now, which the run has to keep.

    Raises:
        CommandError, TripletError, RetrievalSetError, CacheError: something can't be read, or is too little.
    """
    from shop_similarity.training.learning.data import join

    retrieval = RetrievalSet.read(options["retrieval"], options["images"]) if options["retrieval"] else None
    clicks, share = None, options["validation_share"]
    if options["from_catalog"]:
        train, share = _from_catalogue(options, console)
    elif options["from_clicks"] and resumed is not None:
        train = _from_file(resumed / CLICKS, cache_folder(options, "photos"), console)
        train = replace(train, keys=keys_of_the_shop())
    elif options["from_clicks"]:
        train = clicks = _from_clicks(options, console)
    else:
        train = _from_file(options["triplets"], options["images"], console)
    old = None
    if options["mix"]:
        old = _from_file(options["mix"], options["mix_images"] or options["images"], console)
    sides, by_query = None, False
    if options["validation"]:
        validation = _from_file(options["validation"], options["images"], console)
    else:
        # In a file that export_clicks wrote, too, products are compared with each other all over.
        by_query = bool((train.positive_type == "clicked").all())
        parts = split_by_query(train, share) if by_query else split(train, share, options["seed"])
        _tell_split(parts, options, console)
        sides = Sides(parts.share, train.keys)
        train, validation = parts.train, parts.validation
        old = old and _of_other_products(old, parts, console)
    data = join(train, validation, old, retrieval, console.counted(_("Reading")))
    # Among products that training knows, queries are all that it must not know, and the split has seen to that.
    shared = () if by_query else tuple(overlap(each, validation) for each in data.trained_sets())
    return replace(data, sides=sides, by_query=by_query, shared=shared), clicks


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


def _tell_skipped(skipped: Sequence[tuple[str, str]], console: Console) -> None:
    console.bars.close()
    for name, reason in skipped[:10]:
        console.warn(f"{name}: {reason}")
