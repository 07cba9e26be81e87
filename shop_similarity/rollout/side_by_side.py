"""What two model versions show for the same products, side by side."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef

from ..catalogue import get_catalogue
from ..models import Embedding, ModelVersion
from ..search import similar_products

# How many keys the sample is drawn from: the draw must not read a catalogue of millions.
_POOL = 2_000


@dataclass(frozen=True)
class Place:
    """A look-alike in one of the two lists.

    Attributes:
        product: as the search returned it, with ``similarity``.
        rank: 1 is the first.
        other_rank: its rank in the other list, None where that one doesn't have it.
    """

    product: models.Model
    rank: int
    other_rank: int | None

    @property
    def moved(self) -> int:
        """By how many places it stands higher than in the other list; below 0 lower."""
        return 0 if self.other_rank is None else self.other_rank - self.rank

    @property
    def fell(self) -> int:
        """By how many places it stands lower than in the other list."""
        return max(-self.moved, 0)


@dataclass(frozen=True)
class Comparison:
    """The look-alikes of one product by two versions."""

    product: models.Model
    old: tuple[Place, ...]
    new: tuple[Place, ...]

    @property
    def overlap(self) -> float:
        """Share of the longer list that both have, 0 to 1; 1 where both are empty."""
        longest = max(len(self.old), len(self.new))
        return sum(place.other_rank is not None for place in self.new) / longest if longest else 1.0

    @property
    def is_same_first(self) -> bool:
        return bool(self.old and self.new and self.old[0].product.pk == self.new[0].product.pk)

    @property
    def is_same(self) -> bool:
        return [place.product.pk for place in self.old] == [place.product.pk for place in self.new]


def compare_lists(product: models.Model, old: Sequence[models.Model], new: Sequence[models.Model]) -> Comparison:
    """Put two lists of look-alikes of one product beside each other."""
    ranks = [{item.pk: rank for rank, item in enumerate(items, start=1)} for items in (old, new)]
    return Comparison(
        product,
        tuple(Place(item, rank, ranks[1].get(item.pk)) for rank, item in enumerate(old, start=1)),
        tuple(Place(item, rank, ranks[0].get(item.pk)) for rank, item in enumerate(new, start=1)),
    )


def compare_versions(
    old: ModelVersion, new: ModelVersion, products: Sequence[models.Model], limit: int = 8
) -> list[Comparison]:
    """What pages would show of these products by either version, the merchandiser's rules included.

    Args:
        products: with their photos, as :func:`sample_products` returns them.
        limit: look-alikes per product and version.
    """
    return [
        compare_lists(
            product,
            similar_products(product, limit, version=old),
            similar_products(product, limit, version=new),
        )
        for product in products
    ]


def sample_products(versions: Sequence[ModelVersion], count: int, seed: int = 0) -> list[models.Model]:
    """Products that may be shown and that all of these versions have embedded, drawn with a seed.

    The same seed draws the same products as long as the catalogue stays as it is. Five statements at most.
    """
    catalogue = get_catalogue()
    products = catalogue.visible_products().order_by()
    for version in versions:
        products = products.filter(Exists(Embedding.objects.filter(version=version, product_id=OuterRef("pk"))))
    keys = list(products.order_by("pk").values_list("pk", flat=True)[:_POOL])
    if len(keys) == _POOL:
        # Where a shop has more than the pool holds, the hashes of their photos are as good as drawn numbers, and an
        # index has them in order: the seed decides where in it the pool begins.
        keys = list(products.filter(pk__in=_pool(versions[0], seed)).order_by("pk").values_list("pk", flat=True))
    drawn = random.Random(seed).sample(keys, min(count, len(keys)))  # noqa: S311
    return in_order(drawn)


def _pool(version: ModelVersion, seed: int) -> set[Any]:
    """Keys of products of which the version has photos, with a seed."""
    rows = Embedding.objects.filter(version=version).order_by("content_sha256", "pk")
    start = f"{random.Random(seed).getrandbits(256):064x}"  # noqa: S311
    found: set[Any] = set()
    for part in (rows.filter(content_sha256__gte=start), rows.filter(content_sha256__lt=start)):
        found |= set(part.values_list("product_id", flat=True)[: _POOL - len(found)])
    return found


def in_order(keys: Sequence[Any]) -> list[models.Model]:
    """The products of these keys with their photos, in the order of the keys; those that are gone are left out."""
    catalogue = get_catalogue()
    products = {product.pk: product for product in catalogue.with_images(catalogue.all_products().filter(pk__in=keys))}
    return [products[key] for key in keys if key in products]


def comparable_versions() -> list[ModelVersion]:
    """The versions that have embeddings, the active one first. One statement."""
    versions = ModelVersion.objects.filter(Exists(Embedding.objects.filter(version=OuterRef("pk"))))
    return sorted(versions, key=lambda version: (version.rank, -version.pk))
