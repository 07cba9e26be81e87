"""The look-alike set and the instance set of the shop's own products, for a command."""

from __future__ import annotations

from pathlib import Path

from django.utils.translation import gettext as _

from shop_similarity.training.commands.console import Console
from shop_similarity.training.evaluation.catalogue_sets import (
    INSTANCE,
    LOOK_ALIKE,
    MAX_PHOTOS,
    Asks,
    write_catalogue_sets,
)
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet

# So many photos that can't be used are named.
_SKIPPED = 10


def make_shop_sets(
    folder: Path,
    drawer: Path,
    console: Console,
    *,
    seed: int = 0,
    max_photos: int = MAX_PHOTOS,
    replace: bool = False,
    asks: Asks | None = None,
) -> tuple[RetrievalSet | None, RetrievalSet | None]:
    """Make them (:func:`shop_similarity.training.evaluation.catalogue_sets.write_catalogue_sets`) and read them.

    Args:
        folder: where they are written.
        drawer: where the photos are kept, see there; so are the other arguments.
        console: what is missing is said there.

    Raises:
        TrainingError: the catalogue gives none, or its storage can't be read.
    """
    sets = write_catalogue_sets(
        folder, seed, max_photos=max_photos, drawer=drawer, replace=replace, asks=asks, progress=console.bars.photos
    )
    console.bars.close()
    for name, reason in sets.skipped[:_SKIPPED]:
        console.warn(f"{name}: {reason}")
    for notice in sets.notices:
        console.warn(notice)
    console.say(
        _("Measured on %(photos)d photos of %(products)d products.")
        % {"photos": sets.photos, "products": sets.products}
    )
    return _read(sets.look_alike, sets.instance, drawer)


def read_shop_sets(folder: Path, drawer: Path) -> tuple[RetrievalSet | None, RetrievalSet | None]:
    """The look-alike set and the instance set that were made there; None for one that was not.

    Raises:
        RetrievalSetError: photos of them are gone.
    """
    look_alike, instance = folder / LOOK_ALIKE, folder / INSTANCE
    return _read(look_alike if look_alike.is_dir() else None, instance if instance.is_dir() else None, drawer)


def _read(
    look_alike: Path | None, instance: Path | None, drawer: Path
) -> tuple[RetrievalSet | None, RetrievalSet | None]:
    return (
        RetrievalSet.read(look_alike, drawer, look_alike=True) if look_alike else None,
        RetrievalSet.read(instance, drawer) if instance else None,
    )
