"""What models are evaluated on, and everything that is measured of one there.

:meth:`Evaluation.to_dict` is what a model version keeps in ``metrics["evaluation"]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shop_similarity.training.evaluation.codes import CANDIDATES, CodeResult, code_recall
from shop_similarity.training.evaluation.fingerprints import fingerprint
from shop_similarity.training.evaluation.metrics import Estimate
from shop_similarity.training.evaluation.results import (
    Asked,
    EvaluationError,
    RetrievalResult,
    TripletResult,
    evaluate_look_alikes,
    evaluate_retrieval,
    evaluate_triplets,
    triplets_sha256,
)
from shop_similarity.training.evaluation.retrieval_set import EXACT, PARTIAL, RetrievalSet
from shop_similarity.training.networks.questions import Questions
from shop_similarity.training.triplets.table import Triplets

_CODE_QUERIES = 2_000


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that was measured of one model.

    Attributes:
        set: names what it was measured on and what counted as a hit; figures may be compared where it is equal.
        look_alike: other products that look like the query's: what a list of similar products is judged by.
        retrieval: the same product or style again: what a search by photo is judged by.
        triplets, codes: what else was measured. Each of the four is ``None`` where it was not.
    """

    set: str
    retrieval: RetrievalResult | None = None
    triplets: TripletResult | None = None
    codes: CodeResult | None = None
    look_alike: RetrievalResult | None = None

    def difference(self, other: Evaluation) -> dict[str, dict[str, Estimate]]:
        """By how much this model is better than another, by part (``"look_alike"``, ``"retrieval"``, ``"triplets"``)
        and metric, as far as both were measured."""
        differences: dict[str, dict[str, Estimate]] = {}
        for part in ("look_alike", "retrieval"):
            ours, theirs = getattr(self, part), getattr(other, part)
            if ours and theirs:
                differences[part] = ours.difference(theirs)
        if self.triplets and other.triplets:
            differences["triplets"] = {"accuracy": self.triplets.difference(other.triplets)}
        return differences

    def to_dict(self) -> dict[str, Any]:
        """``set`` and, by their names, all parts that were measured."""
        parts = {name: getattr(self, name) for name in ("look_alike", "retrieval", "triplets", "codes")}
        return {"set": self.set} | {name: part.to_dict() for name, part in parts.items() if part is not None}


def asked_by_photo(config: Mapping[str, Any]) -> Asked | None:
    """What a search by photo makes of an embedding; None where it asks with the embedding itself.

    Args:
        config: of the version or the run.
    """
    questions = Questions.of(config)
    return questions.asked_by_photo if questions else None


class Validation:
    """What models are evaluated on: a look-alike set, a retrieval set, triplets, or any of them together.

    Args:
        retrieval: a retrieval set.
        triplets: triplets.
        min_relevance: what counts as a hit in the retrieval set.
        look_alike: a look-alike set.

    Attributes:
        paths: the photos, each once, also where the sets share them.
        sha256: names what is measured, see :class:`Evaluation`.

    Raises:
        EvaluationError: if there is none of them, or a photo cannot be read.
    """

    def __init__(
        self,
        retrieval: RetrievalSet | None = None,
        triplets: Triplets | None = None,
        min_relevance: int = PARTIAL,
        look_alike: RetrievalSet | None = None,
    ) -> None:
        if retrieval is None and triplets is None and look_alike is None:
            raise EvaluationError(
                "There is nothing to evaluate on: give a look-alike set, a retrieval set or triplets."
            )
        if min_relevance not in (PARTIAL, EXACT):
            raise EvaluationError(f"min_relevance must be {PARTIAL} or {EXACT}, not {min_relevance!r}.")
        self.look_alike = look_alike
        self.retrieval = retrieval
        self.triplets = triplets
        self.min_relevance = min_relevance
        places: dict[Path, int] = {}

        def number(paths: Sequence[Path]) -> np.ndarray:
            return np.array([places.setdefault(path.resolve(), len(places)) for path in paths], dtype=np.intp)

        self._in_retrieval = number(retrieval.paths if retrieval else ())
        self._in_triplets = number(triplets.paths() if triplets else ())
        self._in_look_alike = number(look_alike.paths if look_alike else ())
        self.paths = tuple(places)
        try:
            self._triplets_sha256 = triplets_sha256(triplets) if triplets else None
            parts: list[tuple[Any, ...]] = [("look-alike", look_alike.sha256)] if look_alike else []
            parts += [("retrieval", retrieval.sha256, min_relevance)] if retrieval else []
        except OSError as error:
            raise EvaluationError(
                f"A photo cannot be read: {error}. Put it back, or take its lines out of the set."
            ) from error
        parts += [("triplets", self._triplets_sha256)] if triplets else []
        self.sha256 = fingerprint(parts)

    def evaluate(
        self,
        vectors: np.ndarray,
        candidates: Sequence[int] | None = CANDIDATES,
        seed: int = 0,
        asked: Asked | None = None,
    ) -> Evaluation:
        """Measure a model.

        Args:
            vectors: ``(len(paths), d)`` embeddings of the photos.
            candidates: for :func:`code_recall`; ``None`` leaves it out, for what is never searched by codes.
            seed: of the draw of queries for the codes, where there are very many.
            asked: what a search by photo asks the retrieval set with, see :func:`asked_by_photo`.

        Raises:
            EvaluationError: if an embedding is unusable or there is nothing to find.
        """
        retrieval = triplets = codes = look_alike = None
        if self.look_alike:
            look_alike = evaluate_look_alikes(vectors[self._in_look_alike], self.look_alike)
        if self.retrieval:
            retrieval = evaluate_retrieval(vectors[self._in_retrieval], self.retrieval, self.min_relevance, asked)
        if self.triplets:
            triplets = evaluate_triplets(vectors[self._in_triplets], self.triplets, self._triplets_sha256)
        if candidates is not None:
            codes = self._codes(vectors, candidates, seed)
        return Evaluation(self.sha256, retrieval, triplets, codes, look_alike)

    def _codes(self, vectors: np.ndarray, candidates: Sequence[int], seed: int) -> CodeResult:
        # Every photo of the database is also a query: as many searches as there are, and none of them finds itself.
        galleries = ((self.retrieval, self._in_retrieval), (self.look_alike, self._in_look_alike))
        database = next(
            (np.unique(places[photos.gallery]) for photos, places in galleries if photos), self._in_triplets
        )
        queries = np.arange(len(database))
        if len(queries) > _CODE_QUERIES:
            queries = np.sort(np.random.default_rng(seed).choice(queries, _CODE_QUERIES, replace=False))
        itself = queries[:, None] == np.arange(len(database))[None, :]
        return code_recall(vectors[database[queries]], vectors[database], itself, candidates=candidates)
