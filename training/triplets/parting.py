"""Making two sets of triplets out of one.

:func:`split` takes a validation set from triplets that came without one, so that no product stands on both sides;
:func:`split_by_query` does so where products are compared with each other all over, as clicks do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from shop_similarity.training.triplets.table import TripletError, Triplets, components


@dataclass(frozen=True, eq=False)
class SplitTriplets:
    """Two sets of triplets that share no photo.

    Attributes:
        train: most of the triplets.
        validation: the others.
        redrawn: triplets whose negative fell on the other side and was replaced by another of its kind.
        dropped: triplets whose photos fell on different sides and could not be kept.
    """

    train: Triplets
    validation: Triplets
    redrawn: int
    dropped: int

    def __str__(self) -> str:
        return (
            f"{len(self.train):,} triplets to train on, {len(self.validation):,} to validate with, no photo in both: "
            f"{self.redrawn:,} got another negative of the same kind, {self.dropped:,} fell between the two."
        )


def split(triplets: Triplets, share: float = 0.1, seed: int = 0) -> SplitTriplets:
    """Split by product, so that validation measures what the model makes of products it has never seen.

    What must stay together: photos of one group where the file names groups, photos linked by an instance positive
    (``positive_type`` beginning with ``instance``), and where a file says neither, photos linked by any positive. Each
    category, as far as in-class negatives tell categories apart, gives the same share of its triplets; positives that
    are only similar are followed from product to product, so that few of them are cut.

    A triplet whose query and positive lie on one side and whose negative does not gets a new negative from its own
    side: for an in-class negative a photo of the query's category that is no known positive, for an out-of-class one a
    photo of another category. Where the file does not say which is which, guessing might call a look-alike a negative:
    such a triplet is dropped.

    Args:
        triplets: at least a few products of them.
        share: of the triplets that should go to validation, between 0 and 1.
        seed: the same gives the same split.

    Raises:
        ValueError: ``share`` is not between 0 and 1.
        TripletError: the triplets can't be split in two.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share for validation must be between 0 and 1, not {share!r}.")
    count = len(triplets.images)
    units = _units(triplets)
    categories = _categories(triplets, units)
    chosen = _choose(triplets, units, categories, share, np.random.default_rng((seed, 1)))
    in_validation = chosen[units]
    sides = in_validation[triplets.rows]
    together = sides[:, 0] == sides[:, 1]
    whole = together & (sides[:, 0] == sides[:, 2])
    rows, labels, redrawn = _redraw(triplets, units, categories, in_validation, together & ~whole, seed)
    groups = _group_names(triplets, count)
    origins = np.concatenate([np.flatnonzero(whole), redrawn])
    order = np.argsort(origins, kind="stable")
    result = replace(
        triplets,
        rows=np.concatenate([triplets.rows[whole], rows])[order],
        positive_type=triplets.positive_type[origins[order]],
        query_group=triplets.query_group[origins[order]],
        negative_type=np.concatenate([triplets.negative_type[whole], labels])[order],
        # The group of a photo that was drawn is not written in its row.
        negative_group=np.concatenate([triplets.negative_group[whole], groups[rows[:, 2]]])[order],
    )
    validation = in_validation[result.rows[:, 0]]
    parts = SplitTriplets(result.select(~validation), result.select(validation), len(rows), len(triplets) - len(result))
    if not len(parts.train) or not len(parts.validation):
        raise TripletError(
            f"These {len(triplets):,} triplets can't be split into training and validation: they show only "
            f"{units.max() + 1 if count else 0:,} groups of photos that must stay together. Add triplets of other "
            f"products, or give a validation file of its own."
        )
    return parts


@dataclass(frozen=True, eq=False)
class QuerySplit:
    """Two sets of triplets that share no query and no pair of query and positive.

    Attributes:
        train: most of the triplets.
        validation: the others.
        dropped: triplets whose query and positive stand the other way round in validation.
    """

    train: Triplets
    validation: Triplets
    dropped: int

    def __str__(self) -> str:
        return (
            f"{len(self.train):,} triplets to train on, {len(self.validation):,} to validate with, of other queries: "
            f"{self.dropped:,} were left out because validation asks for the same pair."
        )


def split_by_query(triplets: Triplets, share: float = 0.1, seed: int = 0) -> QuerySplit:
    """Split preferences among products that are compared with each other again and again, such as clicks tell.

    There :func:`split` finds no two sets of products with nothing between them, and a skipped product can't be replaced
    by another one, which nobody has skipped. So, as is usual where rankings are learned, it is queries that are set
    aside: validation measures what the model makes of queries that it was not trained on, among products it may know.

    Raises:
        ValueError: ``share`` is not between 0 and 1.
        TripletError: the triplets can't be split in two.
    """
    if not 0 < share < 1:
        raise ValueError(f"The share for validation must be between 0 and 1, not {share!r}.")
    queries = np.unique(triplets.rows[:, 0])
    shuffled = np.random.default_rng((seed, 1)).permutation(queries)
    counts = np.bincount(triplets.rows[:, 0], minlength=len(triplets.images))
    # So many queries that their triplets come nearest to the share, but neither none nor all.
    sums = np.cumsum(counts[shuffled])
    number = int(np.clip(np.abs(sums - share * len(triplets)).argmin() + 1 if len(sums) else 0, 0, len(queries) - 1))
    validation = np.isin(triplets.rows[:, 0], shuffled[:number])
    pairs = np.sort(triplets.rows[:, :2], axis=1).astype(np.int64)
    keys = pairs[:, 0] * len(triplets.images) + pairs[:, 1]
    dropped = ~validation & np.isin(keys, keys[validation])
    result = QuerySplit(
        triplets.select(~validation & ~dropped), triplets.select(validation), int(np.count_nonzero(dropped))
    )
    if not len(result.train) or not len(result.validation):
        raise TripletError(
            f"These {len(triplets):,} triplets of {len(queries):,} queries can't be split into training and "
            f"validation. Add triplets of other queries, or give a validation file of its own."
        )
    return result


def _group_names(triplets: Triplets, count: int) -> np.ndarray:
    names = np.full(count, "", dtype=np.object_)
    names[triplets.rows[:, 2]] = triplets.negative_group
    names[triplets.rows[:, 0]] = np.where(triplets.query_group != "", triplets.query_group, names[triplets.rows[:, 0]])
    return names.astype(np.str_)


def _units(triplets: Triplets) -> np.ndarray:
    """``(images,)``: photos that must not be parted have the same number."""
    count = len(triplets.images)
    names = _group_names(triplets, count)
    links = []
    known: dict[str, int] = {}
    for place, name in enumerate(names.tolist()):
        if name:
            links.append((known.setdefault(name, place), place))
    instance = np.char.startswith(triplets.positive_type, "instance")
    links = np.array(links, dtype=np.int64).reshape(-1, 2)
    if known or instance.any():
        # Positives of unknown origin are taken for instances: they may be.
        instance |= triplets.positive_type == ""
        return components(count, np.concatenate([links, triplets.rows[instance][:, :2]]))
    return components(count, triplets.rows[:, :2])


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


def _choose(
    triplets: Triplets,
    units: np.ndarray,
    categories: np.ndarray | None,
    share: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """``(units,)`` bool: which go to validation."""
    count = int(units.max()) + 1 if len(units) else 0
    weights = np.bincount(units[triplets.rows[:, 0]], minlength=count)
    category = np.zeros(count, dtype=np.int64)
    if categories is not None:
        category[units] = categories
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for one, other in np.unique(units[triplets.rows[:, :2]], axis=0).tolist():
        if one != other:
            neighbours[one].append(other)
            neighbours[other].append(one)
    chosen = np.zeros(count, dtype=bool)
    # What small categories are short of, later ones give, so that the share holds over all.
    owed = 0.0
    for number in generator.permutation(np.unique(category)).tolist():
        members = np.flatnonzero(category == number)
        total = int(weights[members].sum())
        owed += share * total
        given = 0
        queue: deque[int] = deque()
        seeds = iter(generator.permutation(members).tolist())
        while owed > 0 and given < total / 2:
            unit = queue.popleft() if queue else next(seeds, None)
            if unit is None:
                break
            # A unit much larger than what is owed would turn the split over.
            if chosen[unit] or weights[unit] > max(2 * owed, 1) or given + weights[unit] > total / 2:
                continue
            chosen[unit] = True
            given += int(weights[unit])
            owed -= float(weights[unit])
            queue.extend(generator.permutation(neighbours[unit]).astype(int).tolist())
    return chosen


def _redraw(
    triplets: Triplets,
    units: np.ndarray,
    categories: np.ndarray | None,
    in_validation: np.ndarray,
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
    everyone = {side: np.flatnonzero(in_validation == side) for side in (False, True)}
    inside = {
        (side, int(category)): places[categories[places] == category]
        for side, places in everyone.items()
        for category in np.unique(categories[places])
    }
    rows, labels, which = [], [], []
    for number in np.flatnonzero(known).tolist():
        query, positive, _ = triplets.rows[number].tolist()
        side = bool(in_validation[query])
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
