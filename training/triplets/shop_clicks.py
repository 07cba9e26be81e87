"""Triplets from the clicks that the shop has recorded: which look-alikes shoppers chose, and which they passed over.

What a click says and what it does not say is told in :mod:`shop_similarity.training.triplets.clicks`, how the shop
counts in :mod:`shop_similarity.feedback.preferences`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from django.utils.translation import gettext as _

from shop_similarity.catalogue import ImageRow, get_catalogue
from shop_similarity.feedback.preferences import preferences
from shop_similarity.training.triplets.catalogue import PhotoStore, Progress
from shop_similarity.training.triplets.clicks import MIN_CLICKS, MIN_SHARE, certain, check_limits
from shop_similarity.training.triplets.table import TripletError, Triplets

# With fewer, a tenth of them would judge the model by a handful of clicks.
MIN_TRIPLETS = 30
_CHUNK = 2_000


@dataclass(frozen=True)
class ClickTriplets:
    """What the recorded clicks gave.

    Attributes:
        triplets: their root is the folder that the photos were fetched to; groups are keys of products.
        choices: how often a product was clicked that stood below a skipped one, for each skipped one.
        preferences: different (product, clicked, skipped).
        products: in the triplets.
        skipped: (file name, why) of photos that can't be used.
    """

    triplets: Triplets
    choices: int
    preferences: int
    products: int
    skipped: tuple[tuple[str, str], ...]


def shop_click_triplets(
    folder: Path,
    *,
    min_clicks: int = MIN_CLICKS,
    min_share: float = MIN_SHARE,
    min_triplets: int = MIN_TRIPLETS,
    progress: Progress | None = None,
) -> ClickTriplets:
    """Make triplets of the shop's recorded clicks.

    Each product is shown by its first photo in the shop's order; a product that is gone, or has no usable photo, is
    left out.

    Args:
        folder: where the photos are kept, as for
            :func:`shop_similarity.training.triplets.catalogue.catalogue_triplets`.
        min_clicks, min_share: see :func:`shop_similarity.training.triplets.clicks.click_triplets`.
        min_triplets: fewer are refused.
        progress: called as ``progress(what, done, total)``.

    Raises:
        ValueError: a limit out of its range.
        TripletError: there is too little to learn from; the sentence says what was found.
    """
    check_limits(min_clicks, min_share)
    counted: Counter[tuple[Any, Any, Any]] = Counter()
    for product, chosen, passed, count in preferences():
        counted[product, chosen, passed] = count
    if not counted:
        raise TripletError(
            "No click is recorded that says anything: it takes a click on a product below another one, on the "
            "look-alikes of a product. See that RECORD_EVENTS is on and that the pages load the widget's script, or "
            "train on the catalogue (--from-catalog)."
        )
    kept = certain(counted, min_clicks, min_share)
    names, skipped = _photos({key for row in kept for key in row}, folder, progress)
    # Products with the very same photo can't be told apart by it.
    rows = {
        tuple(names[key] for key in row): row
        for row in kept
        if all(key in names for key in row) and len({names[key] for key in row}) == 3
    }
    if len(rows) < min_triplets:
        raise TripletError(
            f"The recorded clicks give {len(rows):,} triplets, and it takes {min_triplets:,}: "
            f"{sum(counted.values()):,} choices were made between {len(counted):,} pairs of products, of which "
            f"{len(kept):,} were made {min_clicks} times or more with {min_share:.0%} agreement. Record more clicks, "
            f"lower --min-clicks, or train on the catalogue (--from-catalog)."
        )
    ordered = sorted(rows)
    # In the order in which a CSV of them is read, so that a run goes on with the very same.
    images = list(dict.fromkeys(name for row in ordered for name in row))
    places = {name: place for place, name in enumerate(images)}
    return ClickTriplets(
        Triplets(
            tuple(images),
            np.array([[places[name] for name in row] for row in ordered], dtype=np.int32),
            positive_type=["clicked"] * len(rows),
            negative_type=["skipped"] * len(rows),
            root=Path(folder),
            query_group=[str(rows[row][0]) for row in ordered],
            negative_group=[str(rows[row][2]) for row in ordered],
        ),
        choices=sum(counted.values()),
        preferences=len(counted),
        products=len({key for row in rows.values() for key in row}),
        skipped=skipped,
    )


def _photos(keys: set, folder: Path, progress: Progress | None) -> tuple[dict[Any, str], tuple[tuple[str, str], ...]]:
    """The local copy of each product's first photo, and the photos that can't be used."""
    store = PhotoStore(folder, get_catalogue().storage)
    wanted = list(_first_photos(keys))
    names: dict[Any, str] = {}
    skipped: list[tuple[str, str]] = []
    for done, (row, found) in enumerate(store.fetch(wanted), start=1):
        if isinstance(found, str):
            skipped.append((row.file_name, found))
        else:
            names[row.product_id] = found[0]
        if progress:
            progress(_("Fetching the shop's photos"), done, len(wanted))
    return names, tuple(skipped)


def _first_photos(keys: set) -> Iterator[ImageRow]:
    catalogue = get_catalogue()
    for chunk in _chunks(sorted(keys, key=str)):
        for product in catalogue.with_images(catalogue.all_products().filter(pk__in=chunk).order_by("pk")):
            images = catalogue.product_images(product)
            if images:
                yield ImageRow(images[0].instance.pk, product.pk, images[0].name)


def _chunks(keys: Iterable) -> Iterator[list]:
    iterator = iter(keys)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk
