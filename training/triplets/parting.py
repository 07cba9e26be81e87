"""Making two sets of triplets out of one.

:func:`split` takes a validation set from triplets that came without one, so that no product stands on both sides;
:func:`split_by_query` does so where products are compared with each other all over, as clicks do. On which side a
product stands follows from its own name alone (:mod:`shop_similarity.training.triplets.sides`), so it is the same in
every run, whatever else there is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from shop_similarity.training.triplets.sides import VALIDATION, VALIDATION_SHARE, shares, side_of
from shop_similarity.training.triplets.table import TripletError, Triplets, components

_BOTH = -1


@dataclass(frozen=True, eq=False)
class SplitTriplets:
    """Two sets of triplets that share no photo.

    Attributes:
        train: most of the triplets.
        validation: the others.
        share: of the products that were set aside.
        redrawn: triplets whose negative fell on the other side and was replaced by another of its kind.
        dropped: triplets whose photos fell on different sides and could not be kept.
    """

    train: Triplets
    validation: Triplets
    share: float
    redrawn: int
    dropped: int

    def set_aside(self) -> set[str]:
        """sha256 of all photos that must not be trained on."""
        return {picture.sha256 for picture in self.validation.pictures}

    def __str__(self) -> str:
        return (
            f"{len(self.train):,} triplets to train on, {len(self.validation):,} of the {self.share:.0%} of products "
            f"that are set aside by their keys to validate with, no photo in both: {self.redrawn:,} got another "
            f"negative of the same kind, {self.dropped:,} fell between the two."
        )


def split(triplets: Triplets, share: float = VALIDATION_SHARE, seed: int = 0) -> SplitTriplets:
    """Split by product, so that validation measures what the model makes of products it has never seen.

    A photo stands where the name of its group does; one of groups on both sides stands on neither. Where the file does
    not name a photo's group, it stands where those do that it is linked to: by an instance positive (``positive_type``
    beginning with ``instance``), and where a file names neither groups nor instances, by any positive. Of linked photos
    without a name, the smallest sha256 is the name: it changes where a smaller one joins them, so name the groups.

    A triplet whose query and positive lie on one side and whose negative does not gets a new negative from its own
    side: for an in-class negative a photo of the query's category that is no known positive, for an out-of-class one a
    photo of another category. Where the file does not say which is which, guessing might call a look-alike a negative:
    such a triplet is dropped. So is one whose query and positive stand on different sides.

    Args:
        triplets: at least a few products of them; with their pictures, or else a photo's path stands for its sha256.
        share: of the products that go to validation, above 0 and below 1. Where that leaves one side without a
            triplet, it is doubled, up to a half.
        seed: of new negatives; the sides do not depend on it.

    Raises:
        ValueError: another share.
        TripletError: the triplets can't be split in two.
    """
    units = _units(triplets)
    categories = _categories(triplets, units)
    for step in shares(share):
        parts = _split(triplets, units, categories, step, seed)
        if len(parts.train) and len(parts.validation):
            return parts
    raise TripletError(
        f"These {len(triplets):,} triplets can't be split into training and validation: they show only "
        f"{units.max() + 1 if len(units) else 0:,} groups of photos that must stay together. Add triplets of other "
        f"products, or give a validation file of its own."
    )


def _split(
    triplets: Triplets, units: np.ndarray, categories: np.ndarray | None, share: float, seed: int
) -> SplitTriplets:
    photo_sides = _photo_sides(triplets, share, units)
    sides = photo_sides[triplets.rows]
    together = (sides[:, 0] == sides[:, 1]) & (sides[:, 0] != _BOTH)
    whole = together & (sides[:, 0] == sides[:, 2])
    rows, labels, redrawn = _redraw(triplets, units, categories, photo_sides, together & ~whole, seed)
    origins = np.concatenate([np.flatnonzero(whole), redrawn])
    order = np.argsort(origins, kind="stable")
    unchanged = ("positive_type", "query_group", "positive_group", "query_category", "positive_category")
    # The names of a photo that was drawn are not written in its row.
    drawn: dict[str, Any] = {
        f"negative_{what}": np.concatenate(
            [getattr(triplets, f"negative_{what}")[whole], triplets.first_names(names)[rows[:, 2]]]
        )[order]
        for what, names in (("group", triplets.memberships), ("category", triplets.categories))
    }
    result = replace(
        triplets,
        rows=np.concatenate([triplets.rows[whole], rows])[order],
        negative_type=np.concatenate([triplets.negative_type[whole], labels])[order],
        **drawn,
        **{name: getattr(triplets, name)[origins[order]] for name in unchanged},
    )
    validation = photo_sides[result.rows[:, 0]] == 1
    return SplitTriplets(
        result.select(~validation), result.select(validation), share, len(rows), len(triplets) - len(result)
    )


@dataclass(frozen=True, eq=False)
class QuerySplit:
    """Two sets of triplets of different queries.

    Attributes:
        train: most of the triplets. No product that is validated on stands in them, in whatever place.
        validation: triplets whose query is of a product that was set aside.
        share: of the products that were set aside.
        dropped: triplets that show such a product beside another query.
    """

    train: Triplets
    validation: Triplets
    share: float
    dropped: int

    def set_aside(self) -> set[str]:
        """sha256 of all photos that must not be trained on, those of the queries."""
        return {self.validation.pictures[place].sha256 for place in np.unique(self.validation.rows[:, 0]).tolist()}

    def __str__(self) -> str:
        return (
            f"{len(self.train):,} triplets to train on, {len(self.validation):,} to validate with, whose queries are "
            f"of the {self.share:.0%} of products that are set aside by their keys: {self.dropped:,} were left out "
            f"because they show one of these beside another query."
        )


def split_by_query(triplets: Triplets, share: float = VALIDATION_SHARE) -> QuerySplit:
    """Split preferences among products that are compared with each other again and again, such as clicks tell.

    There :func:`split` finds no two sets of products with nothing between them, and a skipped product can't be replaced
    by another one, which nobody has skipped. So, as is usual where rankings are learned, it is queries that are set
    aside: validation measures what the model makes of queries that it has never seen, among products that it may know.
    What is set aside is trained on in no place of a triplet, so that it is new to the model in later runs as well.

    Args:
        triplets: with the groups of their photos, or else each photo is a product.
        share: as for :func:`split`.

    Raises:
        ValueError: another share.
        TripletError: the triplets can't be split in two.
    """
    for step in shares(share):
        sides = _photo_sides(triplets, step, np.arange(len(triplets.images)))[triplets.rows]
        train, validation = (sides == 0).all(axis=1), sides[:, 0] == 1
        if train.any() and validation.any():
            dropped = int(np.count_nonzero(~train & ~validation))
            return QuerySplit(triplets.select(train), triplets.select(validation), step, dropped)
    raise TripletError(
        f"These {len(triplets):,} triplets of {len(np.unique(triplets.rows[:, 0])):,} queries can't be split into "
        f"training and validation. Add triplets of other queries, or give a validation file of its own."
    )


def without_validated(triplets: Triplets, photos: Collection[str], share: float) -> Triplets:
    """Old triplets that are mixed in, without those that show what is validated on.

    Args:
        triplets: with their pictures.
        photos: sha256 of those that are validated on.
        share: by which they were set aside. Groups of the old triplets that the same rule sets aside are left out too:
            they are trained on by no run with it.
    """
    leaks = np.array([picture.sha256 in photos for picture in triplets.pictures], dtype=bool)
    memberships, names = triplets.memberships
    aside = np.array([bool(name) and side_of(name, share) == VALIDATION for name in names], dtype=bool)
    leaks[memberships[aside[memberships[:, 1]], 0]] = True
    return triplets.select(~leaks[triplets.rows].any(axis=1))


def _photo_sides(triplets: Triplets, share: float, units: np.ndarray) -> np.ndarray:
    """``(images,)``: 1 for photos to validate with, 0 for those to train on, ``_BOTH`` for those that are of both."""
    memberships, names = triplets.memberships
    in_validation = np.array([side_of(name, share) == VALIDATION for name in names], dtype=bool)[memberships[:, 1]]
    known = np.zeros((2, len(triplets.images)), dtype=bool)
    known[in_validation.astype(np.intp), memberships[:, 0]] = True
    # What has no name stands where the names of its unit do.
    of_unit = np.zeros((2, int(units.max()) + 1 if len(units) else 0), dtype=bool)
    for side in (0, 1):
        of_unit[side, units[known[side]]] = True
    known = np.where(known.any(axis=0), known, of_unit[:, units])
    nameless = np.flatnonzero(~known.any(axis=0))
    keys = [picture.sha256 for picture in triplets.pictures] or list(triplets.images)
    smallest: dict[int, str] = {}
    for place in nameless.tolist():
        unit = int(units[place])
        smallest[unit] = min(keys[place], smallest.get(unit, keys[place]))
    by_key = {unit: side_of(key, share) == VALIDATION for unit, key in smallest.items()}
    sides = np.where(known.all(axis=0), _BOTH, known[1].astype(np.int8))
    sides[nameless] = [by_key[unit] for unit in units[nameless].tolist()]
    return sides


def _units(triplets: Triplets) -> np.ndarray:
    """``(images,)``: photos that are linked have the same number."""
    count = len(triplets.images)
    memberships, names = triplets.memberships
    instance = np.char.startswith(triplets.positive_type, "instance")
    if len(memberships) or instance.any():
        # Positives of unknown origin are taken for instances: they may be.
        instance |= triplets.positive_type == ""
    else:
        instance[:] = True
    links = np.concatenate([memberships + np.array([0, count]), triplets.rows[instance][:, :2]])
    # Names stand behind all photos, so those are numbered without a gap.
    return components(count + len(names), links)[:count]


def _categories(triplets: Triplets, units: np.ndarray) -> np.ndarray | None:
    """``(images,)`` number of each photo's category; None where the file does not tell them apart."""
    in_class, out_of_class = triplets.in_class(), triplets.out_of_class()
    if not (in_class.any() or out_of_class.any()):
        return None
    count = len(triplets.images)
    first = np.unique(units, return_index=True)[1]
    links = [
        np.stack([np.arange(count), first[units]], axis=1),
        triplets.rows[:, :2],
        triplets.rows[in_class][:, [0, 2]],
    ]
    categories = components(count, np.concatenate(links))
    queries, _, negatives = triplets.rows[out_of_class].T
    # One wrong row can tie two categories together; then "another category" means nothing any more.
    tied = np.mean(categories[queries] == categories[negatives]) if len(queries) else 0.0
    return categories if tied < 0.01 else None


def _redraw(
    triplets: Triplets,
    units: np.ndarray,
    categories: np.ndarray | None,
    photo_sides: np.ndarray,
    parted: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """New negatives from a triplet's own side.

    Returns:
        The rows, their ``negative_type``, and which triplets they were.
    """
    known = (triplets.in_class() | triplets.out_of_class()) & parted
    if categories is None or not known.any():
        return np.zeros((0, 3), dtype=np.int32), np.zeros(0, dtype=np.str_), np.zeros(0, dtype=np.int64)
    generator = np.random.default_rng((seed, 2))
    positives: dict[int, set[int]] = {}
    for one, other in triplets.positive_pairs().tolist():
        positives.setdefault(one, set()).add(other)
        positives.setdefault(other, set()).add(one)
    taken = {tuple(row) for row in triplets.rows.tolist()}
    everyone = {side: np.flatnonzero(photo_sides == side) for side in (0, 1)}
    inside = {
        (side, int(category)): places[categories[places] == category]
        for side, places in everyone.items()
        for category in np.unique(categories[places])
    }
    rows, labels, which = [], [], []
    for number in np.flatnonzero(known).tolist():
        query, positive, _ = triplets.rows[number].tolist()
        side = int(photo_sides[query])
        same_category = bool(triplets.negative_type[number].startswith("in_class"))
        pool = inside[side, int(categories[query])] if same_category else everyone[side]
        # A few tries find one wherever there are many; a category of three products may have none.
        for place in (
            generator.permutation(pool)[:50].tolist() if len(pool) < 200 else generator.choice(pool, 50).tolist()
        ):
            if (
                units[place] in (units[query], units[positive])
                or (categories[place] == categories[query]) != same_category
                or place in positives.get(query, ())
                or place in positives.get(positive, ())
                or (query, positive, place) in taken
            ):
                continue
            taken.add((query, positive, place))
            rows.append((query, positive, place))
            labels.append("in_class" if same_category else "out_of_class")
            which.append(number)
            break
    return (
        np.array(rows, dtype=np.int32).reshape(-1, 3),
        np.array(labels, dtype=np.str_),
        np.array(which, dtype=np.int64),
    )
