"""Which triplets and which queries a report shows, each as one row of photos."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np

from shop_similarity.training.evaluation.metrics import rank
from shop_similarity.training.evaluation.retrieval_set import PARTIAL, RetrievalSet
from shop_similarity.training.report.contact_sheets import ranking_row, sheet, triplet_row
from shop_similarity.training.triplets.table import Triplets

_TRIPLET_SIDE, _RESULT_SIDE = 132, 92
RESULTS = 10


@dataclass(frozen=True)
class Row:
    """One row of photos.

    Attributes:
        picture: its JPEG as a data URI.
        caption: what stands below it.
        alt: the same row in words.
    """

    picture: str
    caption: str
    alt: str


def triplet_distances(embeddings: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances between embeddings of length 1, 0 to 2.

    Args:
        embeddings: ``(n, d)``; they are scaled to length 1.
        rows: ``(m, 3)`` places of query, positive and negative.

    Returns:
        D(query, positive) and D(query, negative), ``(m,)`` each.
    """
    unit = _unit(embeddings)
    positive, negative = np.empty(len(rows)), np.empty(len(rows))
    # Differences of all triplets at once would take 16 KiB a triplet.
    for start in range(0, len(rows), 1024):
        part = slice(start, start + 1024)
        query = unit[rows[part, 0]]
        positive[part] = np.linalg.norm(query - unit[rows[part, 1]], axis=1)
        negative[part] = np.linalg.norm(query - unit[rows[part, 2]], axis=1)
    return positive, negative


def triplet_rows(triplets: Triplets, embeddings: np.ndarray, count: int, worst: bool) -> list[Row]:
    """The triplets of the largest or smallest margin D(query, negative) - D(query, positive), one of each query."""
    distances = triplet_distances(embeddings, triplets.rows)
    margin = distances[1] - distances[0]
    order = np.argsort(margin if worst else -margin, kind="stable")
    first = np.sort(np.unique(triplets.rows[order, 0], return_index=True)[1])
    return [_triplet_row(triplets, place, *distances) for place in order[first[:count]].tolist()]


def random_triplet_rows(triplets: Triplets, embeddings: np.ndarray, count: int, seed: int = 0) -> list[Row]:
    """Triplets drawn at random, which say how most of them are; the same for the same seed."""
    distances = triplet_distances(embeddings, triplets.rows)
    drawn = np.random.default_rng(seed).permutation(len(triplets))[:count]
    return [_triplet_row(triplets, place, *distances) for place in drawn.tolist()]


def _triplet_row(triplets: Triplets, place: int, positive: np.ndarray, negative: np.ndarray) -> Row:
    names = [triplets.images[photo] for photo in triplets.rows[place]]
    near, far = float(positive[place]), float(negative[place])
    kinds = ", ".join(filter(None, (str(triplets.positive_type[place]), str(triplets.negative_type[place]))))
    caption = f"margin {far - near:+.3f}" + (f" ({kinds})" if kinds else "")
    alt = f"Query {names[0]}; positive {names[1]} at distance {near:.3f}; negative {names[2]} at distance {far:.3f}."
    query, alike, other = (triplets.root / name for name in names)
    row = triplet_row(query, alike, other, near, far)
    return Row(data_uri(sheet([row], thumbnail=_TRIPLET_SIDE)), caption, alt)


def ranking_rows(photos: RetrievalSet, embeddings: np.ndarray, count: int) -> list[Row]:
    """Queries with their first results: a third of the best, of the middling and of the worst average precision."""
    unit = _unit(embeddings)
    similarities = unit[photos.queries] @ unit[photos.gallery].T
    ranking = rank(similarities, photos.relevance, photos.left_out, PARTIAL)
    precision = ranking.average_precisions()
    order = np.argsort(-precision, kind="stable")
    if len(order) > count:
        third = count // 3
        middle = (len(order) - third) // 2
        order = np.concatenate([order[:third], order[middle : middle + count - 2 * third], order[-third:]])
    return [
        _ranking_row(photos, similarities[query], query, precision[place])
        for place, query in zip(order.tolist(), ranking.queries[order].tolist(), strict=True)
    ]


def _ranking_row(photos: RetrievalSet, similarities: np.ndarray, query: int, precision: float) -> Row:
    candidates = np.flatnonzero(~photos.left_out[query])
    first = candidates[np.argsort(-similarities[candidates], kind="stable")][:RESULTS]
    distances = np.sqrt(np.maximum(0, 2 - 2 * similarities[first]))
    relevance = photos.relevance[query, first]
    results = [
        (photos.paths[photos.gallery[place]], float(distance), int(grade))
        for place, distance, grade in zip(first.tolist(), distances, relevance, strict=True)
    ]
    row = ranking_row(photos.paths[photos.queries[query]], results)
    to_find = int(((photos.relevance[query] >= PARTIAL) & ~photos.left_out[query]).sum())
    hits = [f"{place} ({'exact' if grade == 2 else 'partial'})" for place, grade in enumerate(relevance, 1) if grade]
    name = photos.query_ids[query]
    caption = f"{name}: average precision {precision:.2f}, {len(hits)} of {to_find} hits among the first {len(first)}"
    alt = f"Query {name} and its first {len(first)} results; hits at place {', '.join(hits) or 'none'}."
    return Row(data_uri(sheet([row], thumbnail=_RESULT_SIDE)), caption, alt)


def data_uri(jpeg: bytes) -> str:
    """The bytes of a JPEG, to stand in a page."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, dtype=np.float32)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
