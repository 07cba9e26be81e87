"""Building triplets out of products, their photos and their categories.

Positives are other photos of the same product, and products of the category that simple scorers
(:mod:`shop_similarity.training.triplets.scorers`) put next to it: VisNet's recipe (arXiv 1703.02344, section 4.1).
Negatives are products of the category further down that ranking, from its near half (hard) or from anywhere below, and
products of other categories. No triplet shows products of both sides of the split into training and validation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shop_similarity.training.triplets.sides import VALIDATION, shares, side_of
from shop_similarity.training.triplets.table import Progress, TripletError, Triplets, components

MIN_PRODUCTS = 40
"""Fewer products with photos give the same few pairs again and again."""

NEIGHBOURS = 4
"""So many products nearest to the query's count as similar, of those on its side among the nearest ``REACH``."""

REACH = 2 * NEIGHBOURS

DOUBTFUL = 12
"""So many products nearest to the query's are never its negatives: they may be as alike as the positives. In a small
category it is the nearer half."""

MIN_CATEGORY = 2 * DOUBTFUL
"""Categories with fewer products give no similar positives: their nearest are not near."""

PER_QUERY = 12
"""Triplets for one photo at most."""

MAX_SHARED = 5
"""A photo that more products share shows none of them: a placeholder, a size chart, a logo."""

_CHUNK = 512
_STEPS = 4_000


@dataclass(frozen=True)
class ProductPhoto:
    """One photo of a product.

    Attributes:
        name: path below the root folder; the same for photos with the same bytes.
        product: the product's key.
        category: the category's key; "" for none.
        vector: ``(d,)`` of length 1, see :func:`shop_similarity.training.triplets.scorers.describe`.
        group: name of the product's group of variants; by default the product is one of its own.
    """

    name: str
    product: str
    category: str
    vector: np.ndarray
    group: str = ""

    @property
    def group_name(self) -> str:
        return self.group or self.product


@dataclass(frozen=True)
class BuiltTriplets:
    """Triplets of a catalogue.

    Attributes:
        triplets: of both sides.
        share: of the groups of variants that are on the side of validation.
        of_both_sides: photos that were left out because groups of both sides show them.
    """

    triplets: Triplets
    share: float
    of_both_sides: int


def build_triplets(
    photos: Sequence[ProductPhoto],
    root: Path,
    count: int = 20_000,
    seed: int = 0,
    *,
    share: float = 0.0,
    min_products: int = MIN_PRODUCTS,
    progress: Progress | None = None,
) -> BuiltTriplets:
    """Triplets of a catalogue.

    Each category gets the same number of triplets as far as it has the photos, so that a large one does not drown the
    others. A photo that several products share makes them one product, unless it is a placeholder that more than
    ``MAX_SHARED`` share: that is left out. So is a photo that products of both sides share.

    ``positive_type`` is ``instance_view`` or ``similar``; ``negative_type`` is ``in_class``, ``in_class_hard``,
    ``out_of_class``, or "" where query or negative has no category; the groups are those of variants, and none is its
    own negative; the categories are the products'.

    Args:
        photos: of the catalogue, or of a sample of it.
        root: the folder that their names are relative to.
        count: triplets at most.
        seed: the same photos and seed give the same triplets.
        share: of the groups that :func:`shop_similarity.training.triplets.sides.side_of` sets aside, and of the
            triplets that show them; 0 sets none aside. Where that leaves one side without a triplet, it is doubled, up
            to a half.
        min_products: with a usable photo; fewer are refused.
        progress: called as ``progress(photos done, photos)``.

    Raises:
        TripletError: there are too few products, or nothing that could be a positive.
    """
    shown_by = Counter(name for name, _ in {(photo.name, photo.product) for photo in photos})
    photos = [photo for photo in photos if shown_by[photo.name] <= MAX_SHARED]
    for step in shares(share) if share else [0.0]:
        shop = _Shop(photos, step)
        if shop.products < min_products:
            raise TripletError(
                f"The catalogue is too small to train on: it takes at least {min_products} products with a usable "
                f"photo of their own, and there {'is' if shop.products == 1 else 'are'} {shop.products}. Use the "
                f"calibrated version until there are more, or train on a CSV of triplets."
            )
        rows, types = shop.triplets(count, seed, progress)
        if rows and (not step or len({shop.side[row[0]] for row in rows}) == 2):
            break
    if not rows:
        raise TripletError(
            f"The catalogue has no two photos that could be alike: none of its {shop.products} products has a second "
            f"photo, and no category has {MIN_CATEGORY} products. Add photos, or train on a CSV of triplets."
        )
    triplets = np.array(rows, dtype=np.int32)
    groups = np.array([shop.group_names[product] for product in shop.product])[triplets]
    categories = np.array(shop.category_names)[shop.category][triplets]
    return BuiltTriplets(
        Triplets(
            tuple(shop.names),
            triplets,
            positive_type=np.array([positive for positive, _ in types], dtype=np.str_),
            negative_type=np.array([negative for _, negative in types], dtype=np.str_),
            root=root,
            query_group=groups[:, 0],
            positive_group=groups[:, 1],
            negative_group=groups[:, 2],
            query_category=categories[:, 0],
            positive_category=categories[:, 1],
            negative_category=categories[:, 2],
        ).select(np.arange(len(triplets))),
        step,
        shop.of_both_sides,
    )


def _shares(offers: Sequence[int], total: int) -> list[int]:
    """As equal shares of ``total`` as the offers allow."""
    shares = [0] * len(offers)
    left = total
    order = sorted(range(len(offers)), key=lambda number: (offers[number], number))
    for place, number in enumerate(order):
        shares[number] = min(offers[number], left // (len(order) - place))
        left -= shares[number]
    return shares


class _Shop:
    """Photos numbered, products joined, categories listed, sides told."""

    def __init__(self, photos: Sequence[ProductPhoto], share: float) -> None:
        sides: dict[str, set[bool]] = {}
        for photo in photos:
            aside = bool(share) and side_of(photo.group_name, share) == VALIDATION
            sides.setdefault(photo.name, set()).add(aside)
        self.of_both_sides = sum(len(found) == 2 for found in sides.values())
        photos = [photo for photo in photos if len(sides[photo.name]) == 1]
        first: dict[str, int] = {}
        products: dict[str, int] = {}
        groups: dict[str, int] = {}
        links, group_links = [], []
        category_of_product: dict[int, str] = {}
        vectors = []
        for photo in photos:
            product = products.setdefault(photo.product, len(products))
            category_of_product.setdefault(product, photo.category)
            if photo.name not in first:
                first[photo.name] = len(first)
                vectors.append(photo.vector)
            links.append((first[photo.name], product))
            group_links.append((first[photo.name], groups.setdefault(photo.group_name, len(groups))))
        self.names = list(first)
        self.side = np.array([sides[name] == {True} for name in first], dtype=bool)
        self.of_side = [np.flatnonzero(self.side == side) for side in (False, True)]
        # In whole steps of 1/4000 every score is a whole number below 2^24, as long as vectors have less than 30,000
        # numbers, and so are all sums on the way to it: exact in float32, in whatever order a machine's BLAS adds, for
        # whatever chunk. Else photos that score the same, or nearly so, would be ranked by the last bit of a sum.
        self.vectors = np.rint(_STEPS * np.array(vectors, dtype=np.float32))
        self.product = _joined(len(first), links)
        self.products = int(self.product.max()) + 1 if len(first) else 0
        # Of products: those of one group of variants have the same number.
        self.group = np.zeros(self.products, dtype=np.int64)
        self.group[self.product] = _joined(len(first), [*group_links, *self._behind(len(groups))])
        self.side_of_product = np.zeros(self.products, dtype=bool)
        self.side_of_product[self.product] = self.side
        names_of_groups = list(groups)
        self.group_names: list[str] = [""] * self.products
        category = [""] * self.products
        for (number, product), (_, group) in zip(links, group_links, strict=True):
            place = self.product[number]
            if not self.group_names[place]:
                self.group_names[place] = names_of_groups[group]
                category[place] = category_of_product[product]
        names = sorted(set(category))
        self.category_names = names
        of_product = np.array([names.index(name) for name in category], dtype=np.int64)
        self.category = of_product[self.product] if len(first) else np.zeros(0, dtype=np.int64)
        self.members = [np.flatnonzero(self.category == number) for number in range(len(names))]
        self.of_product = [np.zeros(0, dtype=np.int64)] * self.products
        order = np.argsort(self.product, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(self.product[order])) + 1):
            if len(places):
                self.of_product[self.product[places[0]]] = places
        self.size = [len(np.unique(self.product[members])) for members in self.members]

    def triplets(
        self, count: int, seed: int, progress: Progress | None
    ) -> tuple[list[tuple[int, int, int]], list[tuple[str, str]]]:
        """At most ``count`` triplets, those of one side after those of the other."""
        rows: list[tuple[int, int, int]] = []
        types: list[tuple[str, str]] = []
        done = 0
        aside = round(count * len(self.of_side[1]) / max(1, len(self.names)))
        for side, total in ((False, count - aside), (True, aside)):
            # A stream of its own, so that what is trained on does not hang on the number of those set aside.
            generator = np.random.default_rng((seed, 4 + side))
            queries = [self.queries(number, side) for number in range(len(self.members))]
            for number, quota in enumerate(_shares([PER_QUERY * len(each) for each in queries], total)):
                for row, kind in self.triplets_of(number, queries[number], quota, generator):
                    rows.append(row)
                    types.append(kind)
                done += int((self.side[self.members[number]] == side).sum())
                if progress:
                    progress(done, len(self.names))
        return rows, types

    def queries(self, number: int, side: bool) -> np.ndarray:
        """The photos of a category and a side that there can be a positive for."""
        members = self.members[number]
        members = members[self.side[members] == side]
        if self._ranks(number):
            return members
        return members[[len(self.of_product[product]) > 1 for product in self.product[members]]]

    def _ranks(self, number: int) -> bool:
        return self.category_names[number] != "" and self.size[number] >= MIN_CATEGORY

    def triplets_of(
        self, number: int, queries: np.ndarray, quota: int, generator: np.random.Generator
    ) -> list[tuple[tuple[int, int, int], tuple[str, str]]]:
        """At most ``quota`` triplets whose query is one of these, all of one category."""
        if not quota:
            return []
        members = self.members[number]
        queries = generator.permutation(queries)
        each = min(PER_QUERY, max(1, -(-quota // len(queries))))
        # All products of the category in order of likeness to each query, for a few queries at a time.
        products, column = np.unique(self.product[members], return_inverse=True)
        order = np.argsort(column.reshape(-1), kind="stable")
        starts = np.searchsorted(column.reshape(-1)[order], np.arange(len(products)))
        vectors = self.vectors[members[order]].T
        triplets: dict[tuple[int, int, int], tuple[str, str]] = {}
        for start in range(0, len(queries), _CHUNK):
            chunk = queries[start : start + _CHUNK]
            # The best photo of a product stands for it.
            scores = np.maximum.reduceat(self.vectors[chunk] @ vectors, starts, axis=1)
            for query, row in zip(chunk.tolist(), scores, strict=True):
                choice = self._choice(number, query, products, row)
                for _ in range(each):
                    triplet = self._one(query, choice, generator)
                    if triplet is not None:
                        triplets.setdefault(*triplet)
                if len(triplets) >= quota:
                    return list(triplets.items())[:quota]
        return list(triplets.items())

    def _choice(self, number: int, query: int, products: np.ndarray, scores: np.ndarray) -> _Choice:
        """Among the products of the query's category, by their likeness to it."""
        product = self.product[query]
        ranking = products[np.argsort(-scores, kind="stable")]
        ranking = ranking[ranking != product]
        ranks = self._ranks(number)
        floor = float(np.sort(scores)[-DOUBTFUL - 1]) if ranks else np.inf

        def of_this_side(places: np.ndarray) -> np.ndarray:
            return places[self.side_of_product[places] == self.side[query]]

        def unlike(places: np.ndarray) -> np.ndarray:
            places = of_this_side(places)
            return places[self.group[places] != self.group[product]]

        doubtful = min(DOUBTFUL, (len(ranking) + 1) // 2)
        near_half = slice(doubtful, max(doubtful + 1, len(ranking) // 2))
        own = self.of_product[product]
        return _Choice(
            number,
            own[own != query],
            of_this_side(ranking[:REACH])[:NEIGHBOURS] if ranks else ranking[:0],
            unlike(ranking[near_half]),
            unlike(ranking[doubtful:]),
            floor,
        )

    def _one(
        self, query: int, choice: _Choice, generator: np.random.Generator
    ) -> tuple[tuple[int, int, int], tuple[str, str]] | None:
        if not len(choice.own) and not len(choice.similar):
            return None
        if len(choice.own) and (not len(choice.similar) or generator.random() < 0.5):
            positive, kind = int(generator.choice(choice.own)), "instance_view"
        else:
            positive, kind = self._nearest_photo(query, int(generator.choice(choice.similar))), "similar"
        negative, negative_kind = self._negative(query, choice, generator)
        if negative is None:
            return None
        if self._are_one_group(negative, query) or self._are_one_group(negative, positive):
            return None
        return (query, positive, negative), (kind, negative_kind)

    def _are_one_group(self, one: int, other: int) -> bool:
        return bool(self.group[self.product[one]] == self.group[self.product[other]])

    def _nearest_photo(self, query: int, product: int) -> int:
        places = self.of_product[product]
        return int(places[np.argmax(self.vectors[places] @ self.vectors[query])])

    def _photo_of(self, products: np.ndarray, generator: np.random.Generator) -> int:
        return int(generator.choice(self.of_product[int(generator.choice(products))]))

    def _negative(self, query: int, choice: _Choice, generator: np.random.Generator) -> tuple[int | None, str]:
        draw = generator.random()
        category = self.category_names[choice.category]
        if category and len(choice.far) and draw < 0.6:
            if draw < 0.3 and len(choice.near_half):
                return self._photo_of(choice.near_half, generator), "in_class_hard"
            return self._photo_of(choice.far, generator), "in_class"
        side = self.of_side[int(self.side[query])]
        if len(self.members[choice.category]) < len(self.names) or not category:
            for place in side[generator.integers(0, len(side), 30)].tolist():
                known = category and self.category_names[self.category[place]]
                if (known and self.category[place] == choice.category) or self._are_one_group(place, query):
                    continue
                # Two categories may sell the same kind of thing ("Shirts" and "Sale"): what scores like the query's
                # own neighbours is no example of something else.
                if float(self.vectors[place] @ self.vectors[query]) < choice.floor:
                    return place, "out_of_class" if known else ""
        if category and len(choice.far):
            return self._photo_of(choice.far, generator), "in_class"
        return None, ""

    def _behind(self, groups: int) -> list[tuple[int, int]]:
        """Links that hold the photos of a product together, behind so many others."""
        return [(photo, groups + int(product)) for photo, product in enumerate(self.product)]


@dataclass(frozen=True)
class _Choice:
    """What there is for a query to be paired with, all on its side of the split.

    Attributes:
        category: its number.
        own: other photos of the product.
        similar: products that count as similar.
        near_half, far: products of the category that are unlike it, the more alike ones and all.
        floor: scores below it are no look-alikes.
    """

    category: int
    own: np.ndarray
    similar: np.ndarray
    near_half: np.ndarray
    far: np.ndarray
    floor: float


def _joined(photos: int, links: Sequence[tuple[int, int]]) -> np.ndarray:
    """``(photos,)`` numbers from 0: equal for photos that are linked, over whatever."""
    pairs = np.array(links, dtype=np.int64).reshape(-1, 2)
    others = int(pairs[:, 1].max()) + 1 if len(pairs) else 0
    return components(photos + others, pairs + np.array([0, photos]))[:photos]
