"""Setting the linear head of an untrained model from a shop's photos, in closed form.

Pooled ImageNet features share a large common part, and a few directions (brightness, the texture of a background) have
most of their variance, so their cosines say little. Centring takes the common part out, partial whitening levels the
directions. Both are linear, and so is the lift to the length of the embedding, whose columns are orthonormal and keep
every cosine: together they are the kernel and the bias of one Dense layer. The lift also spreads each feature over
all coordinates, which is what makes the signs of the coordinates a good code to search by (Dong, Charikar and Li,
"Asymmetric distance estimation with sketches", SIGIR 2008).

**Learned whitening.** Which directions should count less? Those in which photos of one product differ from each other:
they tell how a photo was taken and not what it shows. A shop knows which photos are of one product, so the covariance W
of photos around their product's mean can be taken beside C, that of all photos, and the features are levelled by a
mixture of the two (Mikolajczyk and Matas, "Improving descriptors for fast tree matching by optimal linear projection",
ICCV 2007; Radenovic and others, arXiv 1711.02512, section 4.2). Only views in one colour count: where photos of one
product in two colours are taken in, what is learned is to overlook colour, and look-alikes get worse than without.

A shop may have forty photos or a million, and VGG16's taps give 1472 features. A covariance of few photos is mostly
noise, and whitening noise blows it up. So C is shrunk towards the identity, at least by the intensity of Ledoit and
Wolf ("A well-conditioned estimator for large-dimensional covariance matrices", 2004, lemma 3.3). That is the best
guess at the covariance of the photos at hand, and too little for what comes after them: directions in which a small
shop's photos hardly differ are those in which a new photo does, and whitening makes most of them. So as long as there
are few photos for each feature the covariance is shrunk much more, see :func:`shrinkage_for`. W gets the larger a share
the more pairs of views there are, see :func:`within_share`.

**Colour.** Where the features end in a histogram of colours
(:class:`~shop_similarity.training.networks.architectures.colour.LabHistogram`), that block is centred and scaled so
that it has a given share of the embedding's energy, measured over the photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.networks.questions import Questions

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.networks.architectures.mildnet import MildnetConfig

# Photos for each feature from which on the covariance is taken for what it says.
ENOUGH_PHOTOS = 1.5
# The share of W in the mixture where there are very many pairs of views, and the pairs at which it is half of that.
WITHIN = 0.7
HALF_OF_PAIRS = 40
# How far the mixture is drawn towards the identity at least.
DRAWN = 0.1
# The dot product of two colour histograms from which on two views of a product are taken for views in one colour.
ONE_COLOUR = 0.7


class CalibrationError(TrainingError):
    """The features cannot be calibrated on; the sentence says why."""


@dataclass(frozen=True)
class Calibration:
    """The head and what it was fitted on.

    Attributes:
        kernel: ``(d, embedding_dim)`` ``float32``, for row vectors: ``features @ kernel + bias``.
        bias: ``(embedding_dim,)`` ``float32``.
        photos: number of rows that it was fitted on.
        shrinkage: 0 (covariances as measured) to 1 (their traces only).
        pairs: views of a product in one colour beyond the first of each.
        within: share of the covariance within products in the mixture.
        colour: share of the energy that the histogram of colours has.
        effective_rank: exponential of the entropy of the shrunk spectrum before whitening: how many directions the
            photos really fill.
        effective_rank_after: the same after whitening.
    """

    kernel: np.ndarray
    bias: np.ndarray
    photos: int
    shrinkage: float
    pairs: int
    within: float
    colour: float
    effective_rank: float
    effective_rank_after: float

    def figures(self) -> dict[str, float]:
        """What a version's metrics tell of it."""
        return {
            "photos": self.photos,
            "pairs": self.pairs,
            "within": round(self.within, 4),
            "shrinkage": round(self.shrinkage, 4),
            "colour": self.colour,
            "effective_rank": round(self.effective_rank, 1),
            "effective_rank_after": round(self.effective_rank_after, 1),
        }


def calibrate_head(
    model: keras.Model,
    features: np.ndarray,
    config: Mapping[str, Any] | MildnetConfig,
    *,
    strength: float = 0.5,
    seed: int = 0,
    tap_trust: Mapping[str, float] | None = None,
    products: np.ndarray | None = None,
) -> Calibration:
    """Set the head of a MILDNet, on whichever backbone, from a shop's photos.

    Args:
        model: built from ``config``, with a linear head.
        features: ``(n, d)``, what :func:`shop_similarity.training.networks.architectures.feature_model` gives for the
            photos.
        config: the model's whole configuration, as a stored version has it.
        strength: see :func:`fit_head`.
        seed: of the random lift.
        tap_trust: of the taps by name, see :func:`fit_head`; 1 for those that it doesn't name.
        products: ``(n,)`` numbers, the same for photos of one product. Which of them are in one colour is told by their
            histograms (:func:`views_in_one_colour`), so a model without the colour tap can't make use of it.

    Returns:
        What the head was set to.

    Raises:
        CalibrationError: if the head is more than one linear map, the features are not this model's, or they cannot
            be calibrated on.
        ValueError: for a wrong configuration.
    """
    from shop_similarity.training.networks.architectures.colour import COLOUR
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
    lengths = config.tap_lengths
    hues = lengths.pop(COLOUR, 0)
    taps = [(length, tap_trust.get(tap, 1.0)) for tap, length in lengths.items()]
    views = None
    if products is not None and hues:
        views = views_in_one_colour(products, np.asarray(features)[:, -hues:])
    head = fit_head(
        features,
        config.embedding_dim,
        strength,
        seed=seed,
        taps=taps,
        views=views,
        colour=(hues, config.colour),
        questions=Questions.of(config.to_dict()),
    )
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
    views: np.ndarray | None = None,
    within: float | None = None,
    colour: tuple[int, float] = (0, 0.0),
    questions: Questions | None = None,
) -> Calibration:
    """Fit centring, partial whitening, the colours' share and the lift.

    Args:
        features: ``(n, d)``, joined taps of photos, finite.
        embedding_dim: length of the embedding. Below ``d``, only the strongest directions are kept.
        strength: each direction of variance v is scaled by v to the power ``-strength / 2``: 0 centres only, 1 whitens.
        shrinkage: 0 to 1; ``None`` for what :func:`shrinkage_for` says, and :data:`DRAWN` at least where views count.
        seed: of the random lift.
        taps: length and trust (above 0, at most 1) of each of the joined taps, without the histogram of colours. The
            less the photos say about the covariance, the more of a tap's trust becomes its weight, see
            :func:`tap_weights`. All are weighted 1 by default.
        views: ``(n,)`` numbers, the same for views of one product in one colour.
        within: share of the covariance within products, 0 to 1; ``None`` for what :func:`within_share` says.
        colour: length of the histogram of colours at the end of the features, 0 for none, and its share of the energy.
        questions: of an embedding in three parts; the first two begin alike.

    Raises:
        CalibrationError: if there are no features, they are not finite, or the taps don't add up to them.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or not features.size:
        raise CalibrationError("There are no features to calibrate on: at least one photo is needed.")
    if not np.isfinite(features).all():
        raise CalibrationError("The features hold numbers that are not finite: the weights or the photos are damaged.")
    n, d = features.shape
    hues, share = colour
    if taps is not None and sum(length for length, _ in taps) + hues != d:
        raise CalibrationError(
            f"The taps add up to {sum(length for length, _ in taps) + hues} numbers, the features have {d}."
        )
    deep, histograms = np.split(features, [d - hues], axis=1)
    weights = tap_weights(deep, taps, shrinkage) if taps is not None else np.ones(d - hues)
    levelled = _levelled(deep * weights, strength, shrinkage, views, within)
    colours = _centred(histograms).with_energy(share) if hues else None
    if questions:
        if colours is None:
            raise CalibrationError("An embedding of two questions needs the histogram of colours.")
        shares = questions.stored
        first = [_map(levelled.block.with_energy(energy), questions.part_length) for energy in shares[:2]]
        rows = np.zeros((d, questions.parts[-1].stop))
        for part, kernel in zip(questions.parts, first, strict=False):
            rows[: d - hues, part] = np.pad(kernel, ((0, 0), (0, questions.part_length - kernel.shape[1])))
        rows[d - hues :, questions.parts[-1]] = np.diag(colours.scales)
        mean = np.concatenate([levelled.block.mean, colours.mean])
        kernel = questions.lift(rows)
    else:
        block = levelled.block.with_energy(1 - share if hues else 1.0)
        if colours:
            block = _beside(block, colours)
        mean, kernel = block.mean, _map(block, embedding_dim)
        kernel = kernel @ orthonormal_lift(kernel.shape[1], embedding_dim, seed)
    variances = levelled.variances
    return Calibration(
        kernel=(np.concatenate([weights, np.ones(hues)])[:, None] * kernel).astype(np.float32),
        bias=(-mean @ kernel).astype(np.float32),
        photos=n,
        shrinkage=levelled.shrinkage,
        pairs=levelled.pairs,
        within=levelled.within,
        colour=share if hues else 0.0,
        effective_rank=effective_rank(variances),
        effective_rank_after=effective_rank(levelled.block.energies),
    )


@dataclass(frozen=True)
class _Block:
    """A part of the features that is centred and levelled by itself.

    Attributes:
        mean: ``(d,)``.
        directions: ``(d, d)`` orthonormal columns.
        scales: ``(d,)`` of the directions.
        moments: ``(d,)`` mean square of the photos along each direction, before it is scaled.
    """

    mean: np.ndarray
    directions: np.ndarray
    scales: np.ndarray
    moments: np.ndarray

    @property
    def energies(self) -> np.ndarray:
        """``(d,)`` mean square of the photos along each direction."""
        return self.moments * np.square(self.scales)

    def with_energy(self, energy: float) -> _Block:
        """The same with this energy in all; nothing can be scaled to have some."""
        total = self.energies.sum()
        return replace(self, scales=self.scales * np.sqrt(energy / total)) if total > 0 else self


@dataclass(frozen=True)
class _Levelled:
    block: _Block
    variances: np.ndarray
    shrinkage: float
    pairs: int = 0
    within: float = 0.0


def _levelled(
    features: np.ndarray, strength: float, shrinkage: float | None, views: np.ndarray | None, within: float | None
) -> _Levelled:
    n, d = features.shape
    if not _spread(features):
        block = _Block(np.zeros(d), np.eye(d), np.ones(d), np.square(features).mean(axis=0))
        return _Levelled(block, np.ones(d), 1.0)
    mean = features.mean(axis=0)
    centred = features - mean
    covariance = centred.T @ centred / n
    mixture = covariance * (d / np.trace(covariance))
    rho = shrinkage_for(centred) if shrinkage is None else float(shrinkage)
    around, pairs = around_their_mean(features, views) if views is not None else (features[:0], 0)
    share = 0.0
    if pairs and (scatter := np.square(around).sum()) > 0:
        share = within_share(pairs) if within is None else float(within)
        mixture = (1 - share) * mixture + share * (d / scatter) * (around.T @ around)
        rho = max(rho, DRAWN * share / WITHIN) if shrinkage is None else rho
    variances, directions = np.linalg.eigh(mixture)
    variances, directions = (1 - rho) * variances[::-1].clip(0) + rho, directions[:, ::-1]
    # Without shrinkage, directions that no photo varies in would be scaled without bound.
    variances = variances.clip(1e-6 * variances[0])
    moments = (covariance @ directions * directions).sum(axis=0).clip(0)
    block = _Block(mean, directions, variances ** (-strength / 2), moments)
    return _Levelled(block, variances, rho, pairs, share)


def _map(block: _Block, length: int) -> np.ndarray:
    """``(d, length or less)``: the block's strongest directions, scaled."""
    energies = block.energies
    # Full whitening makes all equal but for the last bits; then the first of each block are the strongest.
    strongest = np.argsort(-np.round(energies / max(energies.max(), 1e-300), 9), kind="stable")[:length]
    kernel = (block.directions * block.scales)[:, strongest]
    if len(strongest) == len(energies):
        # LAPACK leaves open the signs of the directions, and which ones stand for those of equal variance. Turned back
        # to the features' own axes the map is the same everywhere; a turn changes no cosine.
        kernel = kernel @ block.directions[:, strongest].T
    return kernel


def _beside(one: _Block, other: _Block) -> _Block:
    """Two blocks of features, one behind the other, as one."""
    directions = np.zeros((len(one.mean) + len(other.mean),) * 2)
    directions[: len(one.mean), : len(one.mean)] = one.directions
    directions[len(one.mean) :, len(one.mean) :] = other.directions
    joined = (np.concatenate(pair) for pair in zip(*((b.mean, b.scales, b.moments) for b in (one, other)), strict=True))
    mean, scales, moments = joined
    return _Block(mean, directions, scales, moments)


def _centred(features: np.ndarray) -> _Block:
    """Features that are centred and nothing else, where photos differ in them at all."""
    d = features.shape[1]
    mean = features.mean(axis=0) if _spread(features) else np.zeros(d)
    return _Block(mean, np.eye(d), np.ones(d), np.square(features - mean).mean(axis=0))


def _spread(features: np.ndarray) -> bool:
    """Whether photos differ: those that don't (or a single one) have no centre to leave and no spread to level."""
    return features.var(axis=0).mean() > np.finfo(np.float32).eps * np.square(features).mean()


def views_in_one_colour(products: np.ndarray, histograms: np.ndarray, agreement: float = ONE_COLOUR) -> np.ndarray:
    """Divide the photos of each product by their colours.

    Args:
        products: ``(n,)`` numbers, the same for photos of one product.
        histograms: ``(n, bins)`` of length 1.
        agreement: dot product from which on two photos of a product belong together; chains of such photos do too.

    Returns:
        ``(n,)`` numbers, the same for photos of one product that belong together.
    """
    views = np.arange(len(products))
    for photos in _members(products):
        alike = histograms[photos] @ histograms[photos].T >= agreement
        numbers = np.arange(len(photos))
        before: Any = None
        # Along chains each photo takes the lowest number among those that it is linked to.
        while not np.array_equal(numbers, before):
            numbers, before = np.where(alike, numbers, len(photos)).min(axis=1), numbers
        views[photos] = photos[numbers]
    return views


def around_their_mean(features: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, int]:
    """Features of views of one product in one colour, around the mean of these.

    Args:
        features: ``(n, d)``.
        views: ``(n,)`` numbers, the same for photos that belong together.

    Returns:
        ``(m, d)``, of photos that do not stand alone, and how many of them there are beyond the first of each product.
        The same photo twice counts once.
    """
    rows, pairs = [features[:0]], 0
    for photos in _members(views):
        different = np.unique(features[photos].round(4), axis=0, return_index=True)[1]
        if len(different) > 1:
            chosen = features[photos[different]]
            rows.append(chosen - chosen.mean(axis=0))
            pairs += len(different) - 1
    return np.concatenate(rows), pairs


def _members(numbers: np.ndarray) -> list[np.ndarray]:
    """Places of each number that stands there more than once."""
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return [places for places in parts if len(places) > 1]


def within_share(pairs: int) -> float:
    """Share of the covariance within products in the mixture: none without pairs, :data:`WITHIN` with very many."""
    return WITHIN * pairs / (pairs + HALF_OF_PAIRS)


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
