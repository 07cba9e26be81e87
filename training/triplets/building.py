"""Building triplets out of products, their photos and their categories.

Positives are other photos of the same product, and products of the category that simple scorers
(:mod:`shop_similarity.training.triplets.scorers`) put next to it: VisNet's recipe (arXiv 1703.02344, section 4.1).
Negatives are products of the category further down that ranking, from its near half (hard) or from anywhere below, and
products of other categories.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shop_similarity.training.triplets.table import Progress, TripletError, Triplets, components

MIN_PRODUCTS = 40
"""Fewer products with photos give the same few pairs again and again."""

NEIGHBOURS = 4
"""So many products nearest to the query's count as similar."""

DOUBTFUL = 12
"""So many products nearest to the query's are never its negatives: they may be as alike as the positives."""

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
    """

    name: str
    product: str
    category: str
    vector: np.ndarray


def build_triplets(
    photos: Sequence[ProductPhoto],
    root: Path,
    count: int = 20_000,
    seed: int = 0,
    *,
    min_products: int = MIN_PRODUCTS,
    progress: Progress | None = None,
) -> Triplets:
    """Triplets of a catalogue.

    Each category gets the same number of triplets as far as it has the photos, so that a large one does not drown the
    others. A photo that several products share makes them one product, unless it is a placeholder that more than
    ``MAX_SHARED`` share: that is left out. ``positive_type`` is ``instance_view`` or ``similar``; ``negative_type`` is
    ``in_class``, ``in_class_hard``, ``out_of_class``, or "" where query or negative has no category; ``query_group``
    and ``negative_group`` name the product.

    Args:
        photos: of the catalogue, or of a sample of it.
        root: the folder that their names are relative to.
        count: triplets at most.
        seed: the same photos and seed give the same triplets.
        min_products: fewer are refused.
        progress: called as ``progress(photos done, photos)``.

    Raises:
        TripletError: there are too few products, or nothing that could be a positive.
    """
    shop = _Shop(photos)
    if shop.products < min_products:
        raise TripletError(
            f"The catalogue is too small to train on: it takes at least {min_products} products with a usable photo "
            f"of their own, and there {'is' if shop.products == 1 else 'are'} {shop.products}. Use the calibrated "
            f"version until there are more, or train on a CSV of triplets."
        )
    generator = np.random.default_rng((seed, 4))
    rows: list[tuple[int, int, int]] = []
    types: list[tuple[str, str]] = []
    done = 0
    offers = [PER_QUERY * len(shop.queries(number)) for number in range(len(shop.members))]
    for number, quota in enumerate(_shares(offers, count)):
        for row, kind in shop.triplets_of(number, quota, generator):
            rows.append(row)
            types.append(kind)
        done += len(shop.members[number])
        if progress:
            progress(done, len(shop.names))
    if not rows:
        raise TripletError(
            f"The catalogue has no two photos that could be alike: none of its {shop.products} products has a second "
            f"photo, and no category has {MIN_CATEGORY} products. Add photos, or train on a CSV of triplets."
        )
    triplets = np.array(rows, dtype=np.int32)
    groups = np.array([shop.group_names[product] for product in shop.product])
    return Triplets(
        tuple(shop.names),
        triplets,
        positive_type=[positive for positive, _ in types],
        negative_type=[negative for _, negative in types],
        root=root,
        query_group=groups[triplets[:, 0]],
        negative_group=groups[triplets[:, 2]],
    ).select(np.arange(len(triplets)))


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
    """Photos numbered, products joined, categories listed."""

    def __init__(self, photos: Sequence[ProductPhoto]) -> None:
        shown_by = Counter(name for name, _ in {(photo.name, photo.product) for photo in photos})
        photos = [photo for photo in photos if shown_by[photo.name] <= MAX_SHARED]
        first: dict[str, int] = {}
        products: dict[str, int] = {}
        links = []
        category_of_product: dict[int, str] = {}
        vectors = []
        for photo in photos:
            product = products.setdefault(photo.product, len(products))
            category_of_product.setdefault(product, photo.category)
            if photo.name not in first:
                first[photo.name] = len(first)
                vectors.append(photo.vector)
            links.append((first[photo.name], product))
        self.names = list(first)
        # In whole steps of 1/4000 every score is a whole number below 2^24, as long as vectors have less than 30,000
        # numbers, and so are all sums on the way to it: exact in float32, in whatever order a machine's BLAS adds, for
        # whatever chunk. Else photos that score the same, or nearly so, would be ranked by the last bit of a sum.
        self.vectors = np.rint(_STEPS * np.array(vectors, dtype=np.float32))
        pairs = np.array(links, dtype=np.int64).reshape(-1, 2)
        # Photos and products as one graph: its components are products, joined where they share a photo.
        joined = components(len(first) + len(products), pairs + np.array([0, len(first)]))
        numbers, self.product = np.unique(joined[: len(first)], return_inverse=True)
        self.product = self.product.reshape(-1)
        self.products = len(numbers)
        keys = list(products)
        self.group_names: list[str] = [""] * self.products
        category = [""] * self.products
        for photo, product in links:
            place = self.product[photo]
            if not self.group_names[place]:
                self.group_names[place] = keys[product]
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

    def queries(self, number: int) -> np.ndarray:
        """The photos of a category that there can be a positive for."""
        members = self.members[number]
        if self._ranks(number):
            return members
        return members[[len(self.of_product[product]) > 1 for product in self.product[members]]]

    def _ranks(self, number: int) -> bool:
        return self.category_names[number] != "" and self.size[number] >= MIN_CATEGORY

    def triplets_of(
        self, number: int, quota: int, generator: np.random.Generator
    ) -> list[tuple[tuple[int, int, int], tuple[str, str]]]:
        """At most ``quota`` triplets whose query is of one category."""
        if not quota:
            return []
        members = self.members[number]
        queries = generator.permutation(self.queries(number))
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
                ranking = products[np.argsort(-row, kind="stable")]
                ranking = ranking[ranking != self.product[query]]
                floor = float(np.sort(row)[-DOUBTFUL - 1]) if self._ranks(number) else np.inf
                for _ in range(each):
                    triplet = self._one(number, query, ranking, floor, generator)
                    if triplet is not None:
                        triplets.setdefault(*triplet)
                if len(triplets) >= quota:
                    return list(triplets.items())[:quota]
        return list(triplets.items())

    def _one(
        self, number: int, query: int, ranking: np.ndarray, floor: float, generator: np.random.Generator
    ) -> tuple[tuple[int, int, int], tuple[str, str]] | None:
        product = self.product[query]
        own = self.of_product[product]
        own = own[own != query]
        ranks = self._ranks(number)
        if not len(own) and not ranks:
            return None
        if len(own) and (not ranks or generator.random() < 0.5):
            positive, kind = int(generator.choice(own)), "instance_view"
            positive_product = product
        else:
            positive_product = int(generator.choice(ranking[:NEIGHBOURS]))
            positive, kind = self._nearest_photo(query, positive_product), "similar"
        negative, negative_kind = self._negative(number, query, ranking, floor, generator)
        if negative is None or self.product[negative] in (product, positive_product):
            return None
        return (query, positive, negative), (kind, negative_kind)

    def _nearest_photo(self, query: int, product: int) -> int:
        places = self.of_product[product]
        return int(places[np.argmax(self.vectors[places] @ self.vectors[query])])

    def _negative(
        self, number: int, query: int, ranking: np.ndarray, floor: float, generator: np.random.Generator
    ) -> tuple[int | None, str]:
        draw = generator.random()
        far = ranking[DOUBTFUL:]
        if self.category_names[number] and len(far) and draw < 0.6:
            near_half = far[: max(1, len(ranking) // 2 - DOUBTFUL)]
            pool, kind = (near_half, "in_class_hard") if draw < 0.3 else (far, "in_class")
            return int(generator.choice(self.of_product[int(generator.choice(pool))])), kind
        if len(self.members[number]) < len(self.names) or not self.category_names[number]:
            for place in generator.integers(0, len(self.names), 30).tolist():
                known = self.category_names[number] and self.category_names[self.category[place]]
                if (known and self.category[place] == number) or self.product[place] == self.product[query]:
                    continue
                # Two categories may sell the same kind of thing ("Shirts" and "Sale"): what scores like the query's
                # own neighbours is no example of something else.
                if float(self.vectors[place] @ self.vectors[query]) < floor:
                    return place, "out_of_class" if known else ""
        if self.category_names[number] and len(far):
            return int(generator.choice(self.of_product[int(generator.choice(far))])), "in_class"
        return None, ""
