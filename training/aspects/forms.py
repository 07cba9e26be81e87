"""Splitting the similarities of a model into what colour, pattern and shape add to them.

A model's embeddings are given, of the shop's photos and of drawn families
(:mod:`shop_similarity.training.aspects.drawings`), in which two pictures differ in one thing alone. The covariance C_t
of those differences says in which directions the embedding moves when only the aspect t changes. Within the r principal
directions V of all these embeddings the forms are

    K_t = S^-1/2 (C_t + mu P_t) S^-1/2,   S = sum over t of (C_t + mu P_t),

each the share that its aspect has in a direction (simultaneous diagonalisation, as in Fukunaga, "Introduction to
Statistical Pattern Recognition", 1990, section 10.2, for three classes). They are positive and add up to the identity.
What moves with the setting alone, light, place, size and ground, belongs to no aspect and is divided equally.

P_t is what is believed where the drawings say little. MILDNet joins pooled taps of several depths and its head is
linear, so an embedding is a sum of the taps' parts, E = sum E_t, and each part is nearly a linear function of the
embedding, E_t ~ E Q_t, found by ridge regression on the shop's photos. The early taps stand for colour, as does a tap
that is a histogram of colours, the middle ones for pattern and the last for shape: P_t is the positive part of
(Q_t + Q_t') / 2, divided so that they add up to the identity. A model whose head is more than one linear map has
P_t = 1/3.

Which of these forms is better, and on what it was measured: ``docs/explanations.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shop_similarity.training.aspects.drawings import MEMBERS
from shop_similarity.training.errors import TrainingError

ASPECTS = ("colour", "pattern", "shape")
# Drawn families that the forms are found on.
FAMILIES = 100
# Photos of the shop that are looked at, at most and at least.
PHOTOS = 1_000
FEWEST_PHOTOS = 8
RANK = 256
# Parts of the families, each left out once when it is measured how well the aspects are told apart.
FOLDS = 4
# Of so many of the left-out pairs of drawings it must be recognised in which aspect they differ, on average, and of the
# pairs of each aspect in so many less. Chance gives a third. A network that is blind to one aspect mistakes half of the
# pairs that differ in another for pairs that differ in it, and reaches two thirds.
TOLD_APART = 0.7
_WORST = 0.2
_PRIOR = 0.05
_RIDGE = 1e-3
# Where the depths of a network end that stand for colour and for pattern, as parts of its taps.
_DEPTHS = (0.4, 0.8)


class AspectsError(TrainingError):
    """No forms can be found; the sentence says why."""


def _divided(rows: np.ndarray, lengths_of: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(lengths_of, axis=1, keepdims=True), 1e-12)


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A head that is one linear map of joined taps, with features of the shop's photos.

    Attributes:
        features: ``(n, d)`` joined taps of the photos whose embeddings are given, in their order.
        kernel: ``(d, embedding_dim)``.
        bias: ``(embedding_dim,)``.
        lengths: of the joined taps.
        aspects: of each the place in :data:`ASPECTS` that it stands for, see :func:`depths`.
        divided: what is made of rows ``(n, embedding_dim)`` of the map on the way to embeddings, given all of the map
            of the same photos: they are divided by its length, or by those of its parts.
    """

    features: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    lengths: Sequence[int]
    aspects: Sequence[int]
    divided: Callable[[np.ndarray, np.ndarray], np.ndarray] = _divided


@dataclass(frozen=True, eq=False)
class Forms:
    """What splits a model's cosines; the arrays are those of ``shop_similarity.search.aspects.Basis``.

    Attributes:
        directions: ``(embedding_dim, r)`` orthonormal columns.
        forms: ``(3, r, r)``, positive, symmetric, adding up to the identity.
        outside: ``(3,)`` shares of what lies outside the directions.
        typical: ``(3,)`` mean contribution to the cosine of two photos of the shop.
        own: ``(3,)`` mean contribution to the cosine of a photo with itself.
        metrics: plain JSON values; ``told_apart`` gives for each aspect how many of the left-out pairs that differ in
            it, and in the setting, are recognised as such.
    """

    directions: np.ndarray
    forms: np.ndarray
    outside: np.ndarray
    typical: np.ndarray
    own: np.ndarray
    metrics: Mapping[str, Any]


def fit_aspects(
    embeddings: np.ndarray, drawn: np.ndarray, head: LinearHead | None = None, rank: int = RANK, seed: int = 0
) -> Forms:
    """Find the forms of a model.

    Args:
        embeddings: ``(n, embedding_dim)`` of length 1, of the shop's photos, a thousand or so.
        drawn: ``(5 m, embedding_dim)`` of length 1, of drawn families in the order of
            :func:`shop_similarity.training.aspects.drawings.families`.
        head: of a model whose embedding is one linear map of joined taps.
        rank: number of directions at most.
        seed: of the pairs of photos that the typical contribution is taken from.

    Raises:
        AspectsError: there are too few photos or drawings, some numbers are not finite, or the model does not tell the
            aspects apart on drawings that were left out.
    """
    embeddings, drawn = np.asarray(embeddings, np.float64), np.asarray(drawn, np.float64)
    if len(embeddings) < FEWEST_PHOTOS:
        raise AspectsError(
            f"There are {len(embeddings)} photos; it takes {FEWEST_PHOTOS} to know what is typical of the shop."
        )
    if len(drawn) % len(MEMBERS) or len(drawn) < 2 * FOLDS * len(MEMBERS):
        raise AspectsError(f"{len(drawn)} drawings are no {2 * FOLDS} families of {len(MEMBERS)} or more.")
    if not (np.isfinite(embeddings).all() and np.isfinite(drawn).all()):
        raise AspectsError("The embeddings hold numbers that are not finite: the weights or the photos are damaged.")
    directions = _principal(embeddings, drawn, rank)
    inside, drawn_inside = embeddings @ directions, drawn @ directions
    prior = _even(len(directions.T)) if head is None else _tap_forms(head, embeddings, directions)
    families = drawn_inside.reshape(-1, len(MEMBERS), drawn_inside.shape[1])
    fold = np.arange(len(families)) % FOLDS
    told_apart = np.mean(
        [_told_apart(_forms(families[fold != out], prior), families[fold == out]) for out in range(FOLDS)], axis=0
    )
    if np.mean(told_apart) < TOLD_APART or min(told_apart) < TOLD_APART - _WORST:
        figures = ", ".join(f"{aspect} {share:.2f}" for aspect, share in zip(ASPECTS, told_apart, strict=True))
        raise AspectsError(
            "The model does not tell colour, pattern and shape apart: of drawn pairs that differ in one of them, so "
            f"many are recognised ({figures}; by chance {1 / len(ASPECTS):.2f})."
        )
    forms = _forms(families, prior)
    outside = np.full(len(ASPECTS), 1 / len(ASPECTS))
    random = np.random.default_rng(seed)
    left = random.integers(len(inside), size=8 * len(inside))
    right = (left + random.integers(1, len(inside), size=len(left))) % len(inside)
    cosines = np.einsum("nd,nd->n", embeddings[left], embeddings[right])
    typical = _contributions(forms, inside[left], inside[right], cosines).mean(axis=1)
    own = _contributions(forms, inside, inside, np.ones(len(inside))).mean(axis=1)
    return Forms(
        directions=directions.astype(np.float32),
        forms=forms.astype(np.float32),
        outside=outside.astype(np.float32),
        typical=typical.astype(np.float32),
        own=own.astype(np.float32),
        metrics={
            "photos": len(embeddings),
            "drawings": len(drawn),
            "rank": directions.shape[1],
            "by_taps": head is not None,
            "inside": round(float(np.square(inside).sum(axis=1).mean()), 4),
            "told_apart": {aspect: round(float(share), 4) for aspect, share in zip(ASPECTS, told_apart, strict=True)},
        },
    )


def depths(taps: int) -> list[int]:
    """For each of so many taps, first to last, the place in :data:`ASPECTS` that its depth stands for.

    >>> depths(5)
    [0, 0, 1, 1, 2]
    """
    return [sum(place >= round(end * taps) for end in _DEPTHS) for place in range(taps)]


def _principal(embeddings: np.ndarray, drawn: np.ndarray, rank: int) -> np.ndarray:
    """``(embedding_dim, r)``: directions of most of the photos' and the drawings' length, both counting the same."""
    rows = np.concatenate([embeddings / np.sqrt(len(embeddings)), drawn / np.sqrt(len(drawn))])
    values, vectors = np.linalg.eigh(rows @ rows.T)
    filled = values > 1e-9 * values[-1]
    values, vectors = values[filled][::-1][:rank], vectors[:, filled][:, ::-1][:, :rank]
    directions = rows.T @ (vectors / np.sqrt(values))
    # Rounding has left small values' columns less than orthogonal.
    return np.linalg.qr(directions)[0]


def _even(rank: int) -> np.ndarray:
    return np.stack([np.eye(rank) / len(ASPECTS)] * len(ASPECTS))


def _tap_forms(head: LinearHead, embeddings: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """``(3, r, r)``: what the depths of the network say."""
    features = np.asarray(head.features, np.float64)
    kernel = np.asarray(head.kernel, np.float64)
    whole = features @ kernel + head.bias
    centred = features - features.mean(axis=0)
    inside = embeddings @ directions
    gram = inside.T @ inside
    rank = len(gram)
    ridge = gram + _RIDGE * np.trace(gram) / rank * np.eye(rank)
    ends = np.cumsum(head.lengths)
    aspect_of = np.repeat(head.aspects, head.lengths)
    if ends[-1] != features.shape[1]:
        raise AspectsError(f"The taps add up to {ends[-1]} numbers, the features have {features.shape[1]}.")
    forms = _even(rank)
    for aspect in range(len(ASPECTS)):
        columns = aspect_of == aspect
        part = head.divided(centred[:, columns] @ kernel[columns], whole) @ directions
        # Drawn towards a third of the embedding, not towards nothing.
        form = np.linalg.solve(ridge, inside.T @ (part - inside / len(ASPECTS)))
        forms[aspect] += (form + form.T) / 2
    return _shared_out([_positive(form) for form in forms])


def _forms(families: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """``(3, r, r)`` of families ``(m, 5, r)``."""
    moves = []
    for member in range(1, len(MEMBERS)):
        differences = families[:, member] - families[:, 0]
        covariance = differences.T @ differences
        # By nature a change of shape moves an embedding further than one of colour.
        moves.append(covariance / max(np.trace(covariance), 1e-12))
    *aspects, setting = moves
    weight = _PRIOR * len(moves) / prior.shape[1]
    return _shared_out(
        [move + setting / len(ASPECTS) + weight * form for move, form in zip(aspects, prior, strict=True)]
    )


def _shared_out(forms: Sequence[np.ndarray]) -> np.ndarray:
    """Positive forms, changed so that they add up to the identity."""
    values, vectors = np.linalg.eigh(sum(forms))
    half = vectors / np.sqrt(np.maximum(values, 1e-12 * values[-1])) @ vectors.T
    shared = np.stack([half @ form @ half for form in forms])
    shared = (shared + shared.transpose(0, 2, 1)) / 2
    return shared + (np.eye(len(half)) - shared.sum(axis=0)) / len(forms)


def _positive(form: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(form)
    return vectors * np.maximum(values, 1e-6) @ vectors.T


def _contributions(forms: np.ndarray, left: np.ndarray, right: np.ndarray, cosines: np.ndarray) -> np.ndarray:
    inside = np.stack([np.einsum("nr,nr->n", left @ form, right) for form in forms])
    return inside + (cosines - inside.sum(axis=0)) / len(forms)


def _told_apart(forms: np.ndarray, families: np.ndarray) -> list[float]:
    """For each aspect, in how many pairs that differ in it and in the setting its level is the lowest of the three."""
    setting = families[:, MEMBERS.index("setting")]
    flat = families.reshape(-1, families.shape[-1])
    own = np.array([np.einsum("nr,nr->n", flat @ form, flat).mean() for form in forms])
    mean = flat.mean(axis=0)
    typical = np.array([mean @ form @ mean for form in forms])
    shares = []
    for place, aspect in enumerate(ASPECTS):
        other = families[:, MEMBERS.index(aspect)]
        products = np.stack([np.einsum("fr,fr->f", setting @ form, other) for form in forms])
        levels = (products - typical[:, None]) / np.maximum(own - typical, 1e-12)[:, None]
        shares.append(float((levels.argmin(axis=0) == place).mean()))
    return shares
