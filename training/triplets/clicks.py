"""Triplets from the clicks that the shop has recorded: which look-alikes shoppers chose, and which they passed over.

What a click says and what it does not say, and how the shop counts, is told in
:mod:`shop_similarity.feedback.preferences`. A single click may be a slip, so a preference counts only when it was shown
often and seldom contradicted; and one client may click as often as it likes, so clients and days are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from django.utils.translation import gettext as _

from shop_similarity.catalogue import ImageRow, get_catalogue
from shop_similarity.feedback.preferences import preferences
from shop_similarity.training.triplets.catalogue import PhotoStore, Progress
from shop_similarity.training.triplets.photo_hashes import Picture
from shop_similarity.training.triplets.product_groups import group_names, keys_of_the_shop, product_name
from shop_similarity.training.triplets.table import TripletError, Triplets

MIN_CLICKS = 3
# Whoever has a few addresses at hand votes with all of them at once.
MIN_DAYS = 3
MIN_SHARE = 0.75
# With fewer, a tenth of them would judge the model by a handful of clicks.
MIN_TRIPLETS = 30
_CHUNK = 2_000

Preference = tuple[Any, Any, Any]
"""Keys of three products: query, clicked, skipped."""


@dataclass(frozen=True)
class ClickTriplets:
    """What the recorded clicks gave.

    Attributes:
        triplets: their root is the folder that the photos were fetched to; groups are products, or
            groups of variants where the shop has them.
        choices: how many clients clicked a product that stood below a skipped one, for each skipped one.
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
    min_days: int = MIN_DAYS,
    min_triplets: int = MIN_TRIPLETS,
    progress: Progress | None = None,
) -> ClickTriplets:
    """Make triplets of the shop's recorded clicks, one for each preference that is certain enough.

    Each product is shown by its first photo in the shop's order; a product that is gone, or has no usable photo, is
    left out. ``positive_type`` is ``clicked`` and ``negative_type`` ``skipped``.

    Args:
        folder: where the photos are kept, as for
            :func:`shop_similarity.training.triplets.catalogue.catalogue_triplets`.
        min_clicks: so many clients must prefer one product to the other.
        min_share: of all clients that chose between the two, so many must agree; above a half.
        min_days: on so many days at least.
        min_triplets: fewer are refused.
        progress: called as ``progress(what, done, total)``.

    Raises:
        ValueError: a limit out of its range.
        TripletError: there is too little to learn from; the sentence says what there is.
    """
    if min_days < 1:
        raise ValueError(f"min_days must be 1 or more, not {min_days!r}.")
    votes = {vote[:3]: vote for vote in preferences()}
    counts = {triple: vote.visitors for triple, vote in votes.items()}
    certain = [
        triple for triple in certain_preferences(counts, min_clicks, min_share) if votes[triple].days >= min_days
    ]
    if not counts:
        raise TripletError(
            "No click is recorded that says anything: it takes a click on a product below another one, on the "
            "look-alikes of a product, by a client whose address is known. See that RECORD_EVENTS is on, that the "
            "pages load the widget's script, and behind a proxy that PROXIES is set, or train on the catalogue "
            "(--from-catalog)."
        )
    names, pictures, unusable = _photos({key for row in certain for key in row}, folder, progress)
    # Products with the very same photo can't be told apart by it.
    rows = {
        tuple(names[key] for key in row): row
        for row in certain
        if all(key in names for key in row) and len({names[key] for key in row}) == 3
    }
    choices = sum(counts.values())
    if len(rows) < min_triplets:
        raise TripletError(
            f"The recorded clicks give {len(rows):,} triplets, and it takes {min_triplets:,}: "
            f"{choices:,} choices were made between {len(counts):,} pairs of products, of which "
            f"{len(certain):,} were made {min_clicks} times or more by different clients, on {min_days} days or more, "
            f"with {min_share:.0%} agreement. Record more clicks, lower --min-clicks or --min-days, or train on the "
            f"catalogue (--from-catalog)."
        )
    # In the order in which a CSV of them is read, so that a run goes on with the very same.
    ordered = sorted(rows)
    images = list(dict.fromkeys(name for row in ordered for name in row))
    places = {name: place for place, name in enumerate(images)}
    groups = group_names()
    query_group, positive_group, negative_group = (
        np.array([groups.get(rows[row][column], product_name(rows[row][column])) for row in ordered], dtype=np.str_)
        for column in range(3)
    )
    triplets = Triplets(
        tuple(images),
        np.array([[places[name] for name in row] for row in ordered], dtype=np.int32),
        positive_type=np.full(len(rows), "clicked"),
        negative_type=np.full(len(rows), "skipped"),
        root=Path(folder),
        query_group=query_group,
        positive_group=positive_group,
        negative_group=negative_group,
        pictures=tuple(pictures[name] for name in images),
        keys=keys_of_the_shop(),
    )
    return ClickTriplets(triplets, choices, len(counts), len({key for row in rows.values() for key in row}), unusable)


def certain_preferences(counts: Mapping[Preference, int], min_clicks: int, min_share: float) -> list[Preference]:
    """Those that enough clients have and few contradict.

    Raises:
        ValueError: a limit out of its range.
    """
    if min_clicks < 1:
        raise ValueError(f"min_clicks must be 1 or more, not {min_clicks!r}.")
    if not 0.5 < min_share <= 1:
        raise ValueError(f"min_share must be above 0.5 and at most 1, not {min_share!r}.")
    return [
        (query, clicked, skipped)
        for (query, clicked, skipped), count in counts.items()
        if count >= min_clicks and count >= min_share * (count + counts.get((query, skipped, clicked), 0))
    ]


def _photos(
    keys: set, folder: Path, progress: Progress | None
) -> tuple[dict[Any, str], dict[str, Picture], tuple[tuple[str, str], ...]]:
    """The local copy of each product's first photo, the pictures of the copies, and the photos that can't be used."""
    rows = list(_first_photos(keys))
    names: dict[Any, str] = {}
    pictures: dict[str, Picture] = {}
    unusable: list[tuple[str, str]] = []
    for done, (row, photo) in enumerate(PhotoStore(folder, get_catalogue().storage).fetch(rows), start=1):
        if isinstance(photo, str):
            unusable.append((row.file_name, photo))
        else:
            names[row.product_id], _vector, pictures[photo[0]] = photo
        if progress:
            progress(_("Fetching the shop's photos"), done, len(rows))
    return names, pictures, tuple(unusable)


def _first_photos(keys: set) -> Iterator[ImageRow]:
    catalogue = get_catalogue()
    ordered = sorted(keys, key=str)
    for start in range(0, len(ordered), _CHUNK):
        products = catalogue.all_products().filter(pk__in=ordered[start : start + _CHUNK]).order_by("pk")
        for product in catalogue.with_images(products):
            if photos := catalogue.product_photos(product):
                yield ImageRow(photos[0].image_id, product.pk, photos[0].file.name)
