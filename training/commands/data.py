"""The triplets and photos of a run: from a CSV file, the catalogue or clicks, with all that joins them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.photos.decoding import ImageError, open_image
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.folders import photos_folder
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.triplets.catalogue import catalogue_triplets
from shop_similarity.training.triplets.checks import load_triplets
from shop_similarity.training.triplets.parting import split, split_by_query
from shop_similarity.training.triplets.shop_clicks import shop_click_triplets
from shop_similarity.training.triplets.table import Triplets
from shop_similarity.training.versions.embedding_files import image_limits

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData

VALIDATION_SHARE = 0.1
# The triplets of a run from clicks: the shop records more of them meanwhile.
CLICKS = "clicks.csv"


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
    clicks = None
    if options["from_catalog"]:
        train = _from_catalogue(options, console)
    elif options["from_clicks"] and resumed is not None:
        train = _from_file(resumed / CLICKS, photos_folder(options), console)
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
        parts = parting(train, VALIDATION_SHARE, options["seed"] or 0)
        console.say(str(parts))
        train, validation = parts.train, parts.validation
    bystanders = _bystanders(options["bystanders"], console) if options["bystanders"] else []
    return join(train, validation, old, retrieval, bystanders, console.counted(_("Reading"))), clicks


def _from_file(path: Path, images: Path | None, console: Console) -> Triplets:
    checking = console.counted(_("Checking the photos of %(name)s") % {"name": path.name})
    triplets, report = load_triplets(path, images, checking, limits=image_limits())
    console.bars.close()
    console.say(f"{path}: {report}")
    return triplets if report.sound.all() else triplets.select(report.sound)


def _from_catalogue(options: Mapping[str, Any], console: Console) -> Triplets:
    found = catalogue_triplets(photos_folder(options), seed=options["seed"] or 0, progress=console.bars.photos)
    console.bars.close()
    for name, reason in found.skipped[:10]:
        console.warn(f"{name}: {reason}")
    console.say(
        _("%(triplets)d triplets of %(photos)d photos of %(products)d products.")
        % {"triplets": len(found.triplets), "photos": found.photos, "products": found.products}
    )
    return found.triplets


def _from_clicks(options: Mapping[str, Any], console: Console) -> Triplets:
    given = {name: options[name] for name in ("min_clicks", "min_share") if options[name] is not None}
    try:
        found = shop_click_triplets(photos_folder(options), **given, progress=console.bars.photos)
    except ValueError as error:
        raise CommandError(str(error)) from error
    console.bars.close()
    for name, reason in found.skipped[:10]:
        console.warn(f"{name}: {reason}")
    console.say(
        _("%(triplets)d triplets of %(products)d products, from %(choices)d choices of shoppers.")
        % {"triplets": len(found.triplets), "products": found.products, "choices": found.choices}
    )
    return found.triplets


def _bystanders(folder: Path, console: Console) -> list[Path]:
    if not folder.is_dir():
        raise CommandError(_("There is no folder %(folder)s of bystanders.") % {"folder": folder})
    limits = image_limits()
    paths, skipped = [], 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            open_image(path, limits, target_size=32)
            paths.append(path)
        except (ImageError, OSError):
            skipped += 1
    if not paths:
        raise CommandError(_("The folder %(folder)s holds no photo that can be used.") % {"folder": folder})
    console.say(
        _("%(count)d photos stand by; %(skipped)d files there are no usable photos.")
        % {"count": len(paths), "skipped": skipped}
    )
    return paths
