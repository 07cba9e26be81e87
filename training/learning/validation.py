"""What every epoch is measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shop_similarity.training.evaluation.metrics import rank, triplet_accuracy
from shop_similarity.training.evaluation.retrieval_set import EXACT
from shop_similarity.training.learning.relations import Relations
from shop_similarity.training.learning.sampling import TripletSampler

# Called as loss(embeddings, rows, positive, negative) of one batch.
BatchLoss = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True, eq=False)
class Search:
    """A look-alike set whose photos are places in the trainer's list.

    Attributes:
        queries, gallery: ``(q,)`` and ``(g,)`` places.
        relevance: ``(q, g)``: 2 exact, 1 partial.
        left_out: ``(q, g)`` bool, what is no result.
    """

    queries: np.ndarray
    gallery: np.ndarray
    relevance: np.ndarray
    left_out: np.ndarray


@dataclass(frozen=True, eq=False)
class Validation:
    """Triplets, and a retrieval set and a look-alike set if there are any; places are in the trainer's list of photos.

    Attributes:
        rows: ``(m, 3)`` triplets.
        relations: for the loss of losses over batches.
        batch_size: triplets of a batch of that loss, as in training.
        queries: ``(q,)`` places of a retrieval set's queries; without them no retrieval is measured.
        gallery: ``(g,)`` places.
        relevance: ``(q, g)``, from 1 on a hit.
        itself: ``(q, g)`` bool, where the photo of the gallery is the query.
        look_alike: without it no look-alikes are measured.
    """

    rows: np.ndarray
    relations: Relations
    batch_size: int = 64
    queries: np.ndarray | None = None
    gallery: np.ndarray | None = None
    relevance: np.ndarray | None = None
    itself: np.ndarray | None = None
    look_alike: Search | None = None

    def photos(self) -> np.ndarray:
        """Places of all photos that have to be embedded, ascending."""
        retrieval = [] if self.queries is None else [self.queries, self.gallery]
        if self.look_alike is not None:
            retrieval += [self.look_alike.queries, self.look_alike.gallery]
        return np.unique(np.concatenate([self.rows.reshape(-1), *retrieval])).astype(np.int64)

    def measure(
        self, embeddings: np.ndarray, loss: BatchLoss, asked: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> dict[str, float]:
        """Figures of one epoch.

        Args:
            embeddings: ``(n, d)`` of :meth:`photos`, in their order.
            loss: of a batch.
            asked: from embeddings to what a search by photo asks the retrieval set with; the same by default.
        """
        photos = self.photos()
        rows = np.searchsorted(photos, self.rows).astype(np.int32)
        # Mixed once and for all: neighbours in a file often share their photos.
        batches = TripletSampler(self.rows, self.batch_size, seed=0).epoch(0)
        losses = [
            loss(embeddings[np.searchsorted(photos, batch.photos)], batch.rows, *self.relations.masks(batch.photos))
            for batch in batches
        ]
        figures = {
            "val_loss": float(np.average(losses, weights=[len(batch) for batch in batches])),
            "val_accuracy": triplet_accuracy(embeddings, rows),
        }
        if self.queries is not None:
            assert self.gallery is not None and self.relevance is not None
            queries = embeddings[np.searchsorted(photos, self.queries)]
            gallery = embeddings[np.searchsorted(photos, self.gallery)]
            ranking = rank((asked(queries) if asked else queries) @ gallery.T, self.relevance, self.itself)
            figures["recall_at_1"] = ranking.recall_at(1)
            figures["mean_average_precision"] = ranking.mean_average_precision
        if (search := self.look_alike) is not None:
            queries = embeddings[np.searchsorted(photos, search.queries)]
            gallery = embeddings[np.searchsorted(photos, search.gallery)]
            ranking = rank(queries @ gallery.T, search.relevance, search.left_out)
            figures["look_alike_ndcg_at_10"] = float(ranking.ndcgs_at(10).mean())
            figures["look_alike_map"] = ranking.of_relevance(EXACT).mean_average_precision
        return figures
