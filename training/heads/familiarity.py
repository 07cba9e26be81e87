"""How familiar a photo is to a model that was fine-tuned, judged by its features alone.

The features of the photos that a model was trained on fill a small part of the space. What of a photo lies outside
that part tells, without any label, that it shows something else (one-class classification by principal components:
Hoffmann, Pattern Recognition 40, 2007, section 2.2). What training has changed can then be left out for such photos,
so that goods which training never saw are embedded as before
(:mod:`shop_similarity.training.networks.architectures.mildnet`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Share of the training photos that count as familiar rather than not.
FAMILIAR_SHARE = 0.9
FOLDS = 5
# So many photos for each direction; fewer say nothing about it.
PHOTOS_PER_DIRECTION = 8
_TINY = 1e-12


@dataclass(frozen=True)
class Familiarity:
    """What is known of the training photos' features.

    Attributes:
        mean: ``(d,)``.
        directions: ``(d, rank)`` orthonormal columns, zero where there were too few photos for them.
        threshold: logarithm of the energy outside these directions at which a photo counts half.
    """

    mean: np.ndarray
    directions: np.ndarray
    threshold: float

    def residuals(self, features: np.ndarray) -> np.ndarray:
        """``(n,)``: logarithm of the energy that the features ``(n, d)`` have outside the directions."""
        return _residuals(features, self.mean, self.directions)


def fit_familiarity(
    features: np.ndarray, rank: int, share: float = FAMILIAR_SHARE, folds: int = FOLDS, seed: int = 0
) -> Familiarity:
    """Find the part of the space that the features fill, and where it ends.

    The threshold is taken from photos that were left out when the directions were found, for the photos that directions
    were found on always lie closer to them.

    Args:
        features: ``(n, d)`` of the training photos.
        rank: directions at most.
        share: of photos like these that shall lie within the threshold.
        folds: parts that the photos are divided into, each left out once.
        seed: of that division.

    Raises:
        ValueError: if there are no features, or some are not finite.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not features.size:
        raise ValueError("There are no features to learn from: at least one photo is needed.")
    if not np.isfinite(features).all():
        raise ValueError("The features hold numbers that are not finite: the weights or the photos are damaged.")
    n, d = features.shape
    count = min(rank, d, n // PHOTOS_PER_DIRECTION)
    mean, directions = _principal(features, count)
    if n < 2 * folds:
        left_out = _residuals(features, mean, directions)
    else:
        part = np.random.default_rng(seed).permutation(n) % folds
        left_out = np.concatenate(
            [_residuals(features[part == fold], *_principal(features[part != fold], count)) for fold in range(folds)]
        )
    columns = np.zeros((d, rank))
    columns[:, : directions.shape[1]] = directions
    return Familiarity(
        mean.astype(np.float32), columns.astype(np.float32), float(np.quantile(left_out, share, method="higher"))
    )


def _principal(features: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and so many directions of largest variance."""
    n, d = features.shape
    mean = features.mean(axis=0)
    centred = features - mean
    if not count:
        return mean, np.zeros((d, 0))
    if n < d:
        # The same directions from the smaller of the two matrices of products.
        _, vectors = np.linalg.eigh(centred @ centred.T)
        directions = centred.T @ vectors[:, ::-1][:, :count]
        lengths = np.linalg.norm(directions, axis=0)
        return mean, directions / np.where(lengths > _TINY, lengths, np.inf)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return mean, vectors[:, ::-1][:, :count]


def _residuals(features: np.ndarray, mean: np.ndarray, directions: np.ndarray) -> np.ndarray:
    centred = features - mean
    outside = np.square(centred).sum(axis=1) - np.square(centred @ directions).sum(axis=1)
    return np.log(np.maximum(outside, _TINY))
