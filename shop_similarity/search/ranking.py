"""The order of a list: similarity and what is added to it, nothing twice, diversity, pinned products in their places.

The list is made pool after pool, and what one pool has added is never moved by the next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ..conf import get_settings
from .aspects import Explanation
from .candidates import Candidate, Pool
from .diversity import codes_from, select
from .options import SearchOptions
from .rules import Rules


@dataclass(frozen=True)
class Place:
    """One place of a list, by key; what the cache keeps and what the product's instance is told.

    Attributes:
        product_id: key of the product.
        similarity, image_id: how and where it is similar; None for a pinned product without an embedding.
        pinned: whether a rule has put it there.
        explanation: what the similarity is made of, where that was asked for.
    """

    product_id: Any
    similarity: float | None = None
    image_id: Any = None
    pinned: bool = False
    explanation: Explanation | None = None


class Ranking:
    """A list in the making.

    Args:
        options: the page, diversity and whether near-identical products are collapsed.
        rules: pins and boosts.
        pinnable: keys of those pinned products that may be shown.
    """

    def __init__(self, options: SearchOptions, rules: Rules, pinnable: Collection[Any]) -> None:
        settings = get_settings()
        self._diversity = settings.diversity if options.diversity is None else options.diversity
        self._threshold = settings.duplicate_similarity if options.collapse else 2.0
        self._collapse = options.collapse
        self._least = -2.0 if options.min_similarity is None else options.min_similarity
        self._reached_least = False
        self._offset, self._wanted = options.offset, options.offset + options.limit
        self._category_boost = settings.category_boost if settings.category else 0.0
        self._rules = rules
        self._pins = [pin for pin in rules.pins if pin.category or pin.product_id in pinnable]
        self._fixed: list[tuple[Place, int | None]] = []
        self._started = False
        self._ranked: list[Candidate] = []
        self._codes = codes_from([])
        self._groups: set[str] = set()

    @property
    def is_complete(self) -> bool:
        """Whether the list reaches to the end of the page, wherever pinned products stand, or no more can come."""
        return self._reached_least or len(self._ranked) >= self._wanted

    def extend(self, pool: Pool, boosts: Mapping[Any, float] = MappingProxyType({})) -> None:
        """Append what of a pool belongs into the list, best first; ``boosts`` are added to similarities, by key."""
        scores = {
            candidate.product_id: self._score(candidate) + boosts.get(candidate.product_id, 0.0)
            for candidate in pool.candidates
        }
        candidates = sorted(pool.candidates, key=lambda candidate: -scores[candidate.product_id])
        if not self._started:
            self._start(candidates, pool.own_variant_groups)
        pinned = {place.product_id for place, _ in self._fixed}
        similar = [candidate for candidate in candidates if candidate.similarity >= self._least]
        # Pools go outwards. Boosted and pinned products are in them from wherever they are, so that a few that are far
        # away say nothing yet.
        self._reached_least = 2 * len(similar) < len(candidates)
        candidates = [
            candidate
            for candidate in similar
            if candidate.product_id not in pinned
            and not (self._collapse and candidate.variant_groups & pool.own_variant_groups)
        ]
        codes = codes_from([candidate.code for candidate in candidates])
        order = select(
            np.array([scores[candidate.product_id] for candidate in candidates]),
            codes,
            [candidate.variant_groups if self._collapse else frozenset() for candidate in candidates],
            count=self._wanted - len(self._ranked),
            diversity=self._diversity,
            threshold=self._threshold,
            taken=self._codes,
            taken_groups=self._groups,
        )
        selected = [candidates[place] for place in order]
        self._take(selected, codes[order])
        self._ranked += selected

    def page(self) -> list[Place]:
        """The places from ``options.offset`` on, at most ``options.limit``."""
        if not self._started:
            self._start([], frozenset())
        taken: dict[int, Place] = {}
        for place, position in sorted(self._fixed, key=lambda fixed: fixed[1] is None):
            position = position or 1
            while position in taken:
                position += 1
            taken[position] = place
        places: list[Place] = []
        ranked = iter(self._ranked)
        while len(places) < self._wanted:
            position = len(places) + 1
            if position in taken:
                places.append(taken.pop(position))
            elif (candidate := next(ranked, None)) is not None:
                places.append(Place(candidate.product_id, candidate.similarity, candidate.image_id))
            else:
                # The list is shorter than a pinned product's position: it closes it.
                places += [taken[position] for position in sorted(taken)]
                break
        return places[self._offset : self._wanted]

    def _score(self, candidate: Candidate) -> float:
        return candidate.similarity + self._category_boost * candidate.closeness + self._rules.boost(candidate)

    def _start(self, candidates: Sequence[Candidate], own_variant_groups: frozenset[str]) -> None:
        """Fill the pins' places: everything else makes way for them."""
        self._started = True
        by_key = {candidate.product_id: candidate for candidate in candidates}
        keys = {pin.product_id for pin in self._pins if not pin.category}
        pinned: list[Candidate] = []
        for pin in self._pins:
            if not pin.category:
                candidate = by_key.get(pin.product_id)
            else:
                candidate = next(
                    (
                        c
                        for c in candidates
                        if pin.category in c.categories
                        and c.product_id not in keys
                        and not c.variant_groups & own_variant_groups
                    ),
                    None,
                )
                if candidate is None:
                    continue
                keys.add(candidate.product_id)
            if candidate is None:
                self._fixed.append((Place(pin.product_id, pinned=True), pin.position))
            else:
                place = Place(candidate.product_id, candidate.similarity, candidate.image_id, pinned=True)
                self._fixed.append((place, pin.position))
                pinned.append(candidate)
        if pinned:
            self._take(pinned, codes_from([candidate.code for candidate in pinned]))

    def _take(self, candidates: Sequence[Candidate], codes: np.ndarray) -> None:
        self._codes = np.concatenate([self._codes, codes])
        for candidate in candidates:
            self._groups |= candidate.variant_groups
