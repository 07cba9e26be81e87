"""Setting the linear head of an untrained model from unlabelled photos.

Pooled ImageNet features share a large common part, and a few directions (brightness, the texture of a background) have
most of their variance, so their cosines say little. Centring takes the common part out, partial whitening levels the
directions. Both are linear, and so is the lift to the length of the embedding, whose columns are orthonormal and keep
every cosine: together they are the kernel and the bias of one Dense layer. The lift also spreads each feature over
all coordinates, which is what makes the signs of the coordinates a good code to search by (Dong, Charikar and Li,
"Asymmetric distance estimation with sketches", SIGIR 2008).

A shop may have forty photos or a million, and VGG16's taps give 1472 features. A covariance of few photos is mostly
noise, and whitening noise blows it up. So it is shrunk towards the identity, at least by the intensity of Ledoit and
Wolf ("A well-conditioned estimator for large-dimensional covariance matrices", 2004, lemma 3.3). That is the best
guess at the covariance of the photos at hand, and too little for what comes after them: directions in which a small
shop's photos hardly differ are those in which a new photo does, and whitening makes most of them. So as long as there
are few photos for each feature the covariance is shrunk much more, see :func:`shrinkage_for`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from shop_similarity.training.errors import TrainingError

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.networks.architectures.mildnet import MildnetConfig

# Photos for each feature from which on the covariance is taken for what it says.
ENOUGH_PHOTOS = 1.5


class CalibrationError(TrainingError):
    """The features cannot be calibrated on; the sentence says why."""


@dataclass(frozen=True)
class Calibration:
    """The head and what it was fitted on.

    Attributes:
        kernel: ``(d, embedding_dim)`` ``float32``, for row vectors: ``features @ kernel + bias``.
        bias: ``(embedding_dim,)`` ``float32``.
        photos: number of rows that it was fitted on.
        shrinkage: 0 (covariance as measured) to 1 (its trace only).
        effective_rank: exponential of the entropy of the shrunk spectrum before whitening: how many directions the
            photos really fill.
        effective_rank_after: the same after whitening.
    """

    kernel: np.ndarray
    bias: np.ndarray
    photos: int
    shrinkage: float
    effective_rank: float
    effective_rank_after: float


def calibrate_head(
    model: keras.Model,
    features: np.ndarray,
    config: Mapping[str, Any] | MildnetConfig,
    *,
    strength: float = 0.5,
    seed: int = 0,
    tap_trust: Mapping[str, float] | None = None,
) -> Calibration:
    """Set the head of a MILDNet, on whichever backbone, from unlabelled photos.

    Args:
        model: built from ``config``, with a linear head.
        features: ``(n, d)``, what :func:`shop_similarity.training.networks.architectures.feature_model` gives for the
            photos.
        config: the model's whole configuration, as a stored version has it.
        strength: see :func:`fit_head`.
        seed: of the random lift.
        tap_trust: of the taps by name, see :func:`fit_head`; 1 for those that it doesn't name.

    Returns:
        What the head was set to.

    Raises:
        CalibrationError: if the head is more than one linear map, the features are not this model's, or they cannot
            be calibrated on.
        ValueError: for a wrong configuration.
    """
    from shop_similarity.training.networks.architectures.mildnet import FEATURES, HEAD, MildnetConfig

    if not isinstance(config, MildnetConfig):
        config = MildnetConfig.from_dict(config)
    if not config.is_linear:
        raise CalibrationError(
            "Only a head that is one linear map of the joined taps can be calibrated: no hidden layers, no shallow "
            "branches, activation linear."
        )
    expected = model.get_layer(FEATURES).output.shape[-1]
    if not config.feature_dim == expected == np.shape(features)[-1]:
        raise CalibrationError(
            f"The model joins {expected} numbers, its configuration {config.feature_dim}, and the features have "
            f"{np.shape(features)[-1]}: they do not belong together."
        )
    tap_trust = tap_trust or {}
    taps = [(length, tap_trust.get(tap, 1.0)) for tap, length in config.tap_lengths.items()]
    head = fit_head(features, config.embedding_dim, strength, seed=seed, taps=taps)
    model.get_layer(HEAD).set_weights([head.kernel, head.bias])
    return head


def guard_head(model: keras.Model, features: np.ndarray, seed: int = 0) -> None:
    """Tell a guarded model which photos are familiar: those that it is about to be trained on.

    Args:
        model: a MILDNet with ``guard``.
        features: ``(n, d)`` of the training photos, as
            :func:`shop_similarity.training.networks.architectures.feature_model` gives them.
        seed: see :func:`shop_similarity.training.heads.familiarity.fit_familiarity`.

    Raises:
        CalibrationError: if the features say nothing.
    """
    from shop_similarity.training.heads.familiarity import fit_familiarity
    from shop_similarity.training.networks.architectures.parts import FAMILIARITY

    gate = model.get_layer(FAMILIARITY)
    try:
        known = fit_familiarity(features, gate.rank, seed=seed)
    except ValueError as error:
        raise CalibrationError(str(error)) from error
    gate.set_weights([known.mean, known.directions, np.float32(known.threshold)])


def fit_head(
    features: np.ndarray,
    embedding_dim: int = 4096,
    strength: float = 0.5,
    shrinkage: float | None = None,
    seed: int = 0,
    taps: Sequence[tuple[int, float]] | None = None,
) -> Calibration:
    """Fit centring, partial whitening and the lift.

    Args:
        features: ``(n, d)``, joined taps of unlabelled photos, finite.
        embedding_dim: length of the embedding. Below ``d``, only the strongest directions are kept.
        strength: each direction of variance v is scaled by v to the power ``-strength / 2``: 0 centres only, 1 whitens.
        shrinkage: 0 to 1; ``None`` for what :func:`shrinkage_for` says.
        seed: of the random lift.
        taps: length and trust (above 0, at most 1) of each of the joined taps. The less the photos say about the
            covariance, the more of a tap's trust becomes its weight, see :func:`tap_weights`. All are weighted 1 by
            default.

    Raises:
        CalibrationError: if there are no features, they are not finite, or the taps don't add up to them.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not features.size:
        raise CalibrationError("There are no features to calibrate on: at least one photo is needed.")
    if not np.isfinite(features).all():
        raise CalibrationError("The features hold numbers that are not finite: the weights or the photos are damaged.")
    n, d = features.shape
    if taps is not None and sum(length for length, _ in taps) != d:
        raise CalibrationError(
            f"The taps add up to {sum(length for length, _ in taps)} numbers, the features have {d}."
        )
    weights = tap_weights(features, taps, shrinkage) if taps is not None else np.ones(d)
    features = features * weights
    mean = features.mean(axis=0)
    centred = features - mean
    covariance = centred.T @ centred / n
    average = np.trace(covariance) / d
    # Photos without any difference (or a single one) have no centre to leave and no spread to level.
    if average <= np.finfo(np.float32).eps * np.square(features).mean():
        mean, variances, directions, rho = np.zeros(d), np.ones(d), np.eye(d), 1.0
    else:
        rho = shrinkage_for(centred) if shrinkage is None else float(shrinkage)
        variances, directions = np.linalg.eigh(covariance)
        order = np.argsort(variances)[::-1]
        variances = (1 - rho) * variances[order].clip(0) + rho * average
        directions = directions[:, order]
        # Without shrinkage, directions that no photo varies in would be scaled without bound.
        variances = variances.clip(1e-6 * variances[0])
    components = min(d, embedding_dim)
    scales = variances[:components] ** (-strength / 2)
    # One common factor changes no cosine and keeps the numbers near 1.
    scales /= np.sqrt(np.mean(variances[:components] * scales**2)) * np.sqrt(components)
    levelled = directions[:, :components] * scales
    if components == d:
        # LAPACK leaves open the signs of the directions, and which ones stand for those of equal variance. Turned back
        # to the features' own axes the map is the same everywhere; a turn changes no cosine.
        levelled = levelled @ directions.T
    kernel = levelled @ orthonormal_lift(components, embedding_dim, seed)
    return Calibration(
        kernel=(weights[:, None] * kernel).astype(np.float32),
        bias=(-mean @ kernel).astype(np.float32),
        photos=n,
        shrinkage=float(rho),
        effective_rank=effective_rank(variances[:components]),
        effective_rank_after=effective_rank(variances[:components] * scales**2),
    )


def tap_weights(features: np.ndarray, taps: Sequence[tuple[int, float]], shrinkage: float | None = None) -> np.ndarray:
    """Weight of every feature before the covariance is taken.

    With few photos whitening can't find out that the early blocks mostly tell what all photos share, and joined with
    equal weight they drown the last one. So a tap is weighted by its trust to the power of the shrinkage: near 0 with
    many photos (all taps count the same and whitening sorts them out), near 1 with few.

    Args:
        features: ``(n, d)`` joined taps.
        taps: length and trust of each.
        shrinkage: 0 to 1; ``None`` for what :func:`shrinkage_for` says.

    Returns:
        ``(d,)`` weights, above 0 and at most 1.
    """
    if shrinkage is None:
        shrinkage = shrinkage_for(features - features.mean(axis=0))
    return np.concatenate([np.full(length, trust**shrinkage) for length, trust in taps])


def shrinkage_for(centred: np.ndarray) -> float:
    """How far the covariance of these photos' features is drawn towards a multiple of the identity.

    At least by Ledoit and Wolf's intensity, and with fewer than 1.5 photos for each of d features by
    ``1 - n / (1.5 d)``. ``docs/model.md`` has the figures.

    Args:
        centred: ``(n, d)`` observations with mean 0.

    Returns:
        0 (trust the covariance) to 1 (trust its trace alone).
    """
    n, d = centred.shape
    return max(ledoit_wolf_intensity(centred), 1 - n / (ENOUGH_PHOTOS * d))


def ledoit_wolf_intensity(centred: np.ndarray) -> float:
    """The shrinkage by which a covariance is expected to be nearest to that of what the photos were drawn from.

    Args:
        centred: ``(n, d)`` observations with mean 0.

    Returns:
        0 (trust the covariance) to 1 (trust its trace alone).
    """
    n, d = centred.shape
    covariance = centred.T @ centred / n
    average = np.trace(covariance) / d
    squares = np.square(covariance).sum()
    distance = squares / d - average**2
    if distance <= 0:
        return 1.0
    spread = (np.square(np.square(centred).sum(axis=1)).sum() / n - squares) / (n * d)
    return float(np.clip(spread / distance, 0.0, 1.0))


def orthonormal_lift(components: int, embedding_dim: int, seed: int = 0) -> np.ndarray:
    """A random ``(components, embedding_dim)`` matrix with orthonormal rows; the same for the same seed.

    Raises:
        CalibrationError: if there is no room for that many rows.
    """
    if components > embedding_dim:
        raise CalibrationError(f"{components} directions do not fit into an embedding of {embedding_dim}.")
    gaussian = np.random.default_rng(seed).standard_normal((embedding_dim, components))
    q, r = np.linalg.qr(gaussian)
    # LAPACK leaves the signs open; fixing them makes the lift uniformly random and the same everywhere.
    return (q * np.sign(np.diag(r))).T


def effective_rank(variances: np.ndarray) -> float:
    """Exponential of the entropy of the normalised spectrum (Roy and Vetterli, EUSIPCO 2007)."""
    share = variances[variances > 0] / variances[variances > 0].sum()
    return float(np.exp(-(share * np.log(share)).sum()))
