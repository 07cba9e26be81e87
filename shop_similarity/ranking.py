"""The order of a list: similarity and what is added to it, nothing twice, diversity, pinned products in their places.

The list is made pool after pool, and what one pool has added is never moved by the next.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .candidates import Candidate, Match, Pool
from .conf import get_settings
from .diversity import codes_from, marginal_relevance, without_duplicates
from .rules import Rules
from .search_options import SearchOptions

# Reordering takes the square of their number; what comes later is on no page that anybody compares.
_MOST_DIVERSIFIED = 1_000


@dataclass(frozen=True)
class Place:
    """One place of the list.

    Attributes:
        product_id: key of the product.
        match: how it is similar; None for a pinned product that has no embedding.
        pinned: whether a rule has put it there.
    """

    product_id: Any
    match: Match | None
    pinned: bool


class Ranking:
    """A list in the making.

    Args:
        options: diversity and whether near-identical products are collapsed.
        rules: pins and boosts.
        pinnable: keys of those pinned products that may be shown.
    """

    def __init__(self, options: SearchOptions, rules: Rules, pinnable: Collection[Any]) -> None:
        settings = get_settings()
        self._diversity = settings.diversity if options.diversity is None else options.diversity
        self._threshold = settings.duplicate_similarity if options.collapse else 2.0
        self._collapse = options.collapse
        self._category_boost = settings.category_boost if settings.category else 0.0
        self._rules = rules
        self._pins = [pin for pin in rules.pins if pin.category or pin.product_id in pinnable]
        self._fixed: list[tuple[Place, int | None]] = []
        self._started = False
        self._ranked: list[Candidate] = []
        self._codes = codes_from([])
        self._groups: set[str] = set()

    def __len__(self) -> int:
        return len(self._ranked) + len(self._fixed)

    def extend(self, pool: Pool) -> None:
        """Append what of a pool belongs into the list, best first."""
        scores = {candidate.product_id: self._score(candidate, pool) for candidate in pool.candidates}
        candidates = sorted(pool.candidates, key=lambda candidate: -scores[candidate.product_id])
        first = not self._started
        if first:
            self._start(candidates)
        pinned = {place.product_id for place, _ in self._fixed}
        candidates = [
            candidate
            for candidate in candidates
            if candidate.product_id not in pinned
            and not (self._collapse and candidate.variant_groups & pool.own_variant_groups)
        ]
        if not candidates:
            return
        codes = codes_from([candidate.code for candidate in candidates])
        if self._collapse:
            kept = without_duplicates(
                codes,
                [candidate.variant_groups for candidate in candidates],
                self._codes,
                self._groups,
                self._threshold,
            )
            candidates, codes = [candidates[place] for place in kept], codes[kept]
        if first and len(candidates) <= _MOST_DIVERSIFIED:
            order = marginal_relevance(
                np.array([scores[candidate.product_id] for candidate in candidates]),
                codes,
                self._codes,
                self._diversity,
            )
            candidates, codes = [candidates[place] for place in order], codes[order]
        self._take(candidates, codes)
        self._ranked += candidates

    def page(self, offset: int, limit: int) -> list[Place]:
        """The places from ``offset`` on, at most ``limit``."""
        if not self._started:
            self._start([])
        taken: dict[int, Place] = {}
        for place, position in sorted(self._fixed, key=lambda fixed: fixed[1] is None):
            position = position or 1
            while position in taken:
                position += 1
            taken[position] = place
        places: list[Place] = []
        ranked = iter(self._ranked)
        while len(places) < offset + limit:
            position = len(places) + 1
            if position in taken:
                places.append(taken.pop(position))
            elif (candidate := next(ranked, None)) is not None:
                places.append(Place(candidate.product_id, candidate, False))
            else:
                # The list is shorter than a pinned product's position: it closes it.
                places += [taken[position] for position in sorted(taken)]
                break
        return places[offset : offset + limit]

    def _score(self, candidate: Candidate, pool: Pool) -> float:
        same = bool(candidate.categories & pool.own_categories)
        return candidate.similarity + self._category_boost * same + self._rules.boost(candidate)

    def _start(self, candidates: Sequence[Candidate]) -> None:
        """Fill the pins' places: everything else makes way for them."""
        self._started = True
        by_key = {candidate.product_id: candidate for candidate in candidates}
        named = {pin.product_id for pin in self._pins if not pin.category}
        found: list[Candidate] = []
        for pin in self._pins:
            if not pin.category:
                candidate, key = by_key.get(pin.product_id), pin.product_id
            else:
                candidate = next(
                    (c for c in candidates if pin.category in c.categories and c.product_id not in named), None
                )
                if candidate is None:
                    continue
                key = candidate.product_id
                named.add(key)
            self._fixed.append((Place(key, candidate, True), pin.position))
            if candidate is not None:
                found.append(candidate)
        if found:
            self._take(found, codes_from([candidate.code for candidate in found]))

    def _take(self, candidates: Sequence[Candidate], codes: np.ndarray) -> None:
        self._codes = np.concatenate([self._codes, codes])
        for candidate in candidates:
            self._groups |= candidate.variant_groups
