"""Losses of metric learning on embeddings of length 1.

Two kinds. A loss over triplets sees the distances of given (query, positive, negative) and gives one number for each.
A loss over batches sees all cosines of a batch together with two masks, which pairs belong together and which may be
pushed apart, and gives one number for each photo that has a positive. ``D`` is the Euclidean distance; between
embeddings of length 1, ``D**2 = 2 - 2 cos``.

The zero distance of a photo to itself (or to its copy under another name) has no gradient. Everywhere here it counts as
a very small constant one, so that no step ever brings NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

# Squared distance below which two embeddings count as one point, without a gradient.
EPSILON = 1e-12
# Cosines over temperature are at most 1 / .01; this is minus infinity for them, and finite in every float type.
_NEVER = -1e9

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Loss:
    """A loss with its options set.

    Attributes:
        function: ``(query, positive, negative, options) -> (B,)`` for ``"triplet"``,
            ``(embeddings, positive, negative, options) -> ((N,), (N,) bool which of them count)`` for ``"batch"``.
        kind: ``"triplet"`` or ``"batch"``.
        options: all of its options.
        nonzero: average over the terms that are not zero, instead of over all.
    """

    function: Callable[..., Any]
    kind: str
    options: Options
    nonzero: bool = False

    def __call__(self, embeddings: tf.Tensor, rows: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
        """The loss of a batch.

        Args:
            embeddings: ``(N, d)`` of length 1.
            rows: ``(B, 3)`` places of query, positive and negative in ``embeddings``; read by losses over triplets.
            positive: ``(N, N)`` bool, symmetric: pairs that belong together. Read by losses over batches, as is
            negative: ``(N, N)`` bool: pairs that may be pushed apart.

        Returns:
            Scalar ``float32``; 0 where there is nothing to average.
        """
        return self.with_count(embeddings, rows, positive, negative)[0]

    def with_count(
        self, embeddings: tf.Tensor, rows: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The same, and how many terms it is the mean of: scalars ``float32``."""
        embeddings = tf.cast(embeddings, tf.float32)
        if self.kind == "triplet":
            query, near, far = (tf.gather(embeddings, rows[:, column]) for column in range(3))
            terms = self.function(query, near, far, self.options)
            return _mean(terms, terms > 0 if self.nonzero else tf.ones_like(terms, tf.bool))
        terms, counts = self.function(embeddings, positive, negative, self.options)
        return _mean(terms, counts & (terms > 0) if self.nonzero else counts)


def make_loss(name: str, *, nonzero: bool = False, **options: Any) -> Loss:
    """A loss by name; options that are None take the default of that loss.

    Raises:
        ValueError: for an unknown name, an option that the loss does not have, or a value out of range.
    """
    if name not in LOSSES:
        raise ValueError(f"There is no loss {name!r}. Known: {', '.join(sorted(LOSSES))}.")
    loss = LOSSES[name]
    given = {key: value for key, value in options.items() if value is not None}
    unknown = sorted(set(given) - set(loss.options))
    if unknown:
        known = ", ".join(loss.options) or "none"
        raise ValueError(f"The loss {name} has no option {', '.join(unknown)}. It has: {known}.")
    for key, value in given.items():
        if not float(value) > 0:
            raise ValueError(f"The {key.replace('_', ' ')} of a loss must be above 0, not {value!r}.")
    if "angle" in given and not given["angle"] < 90:
        raise ValueError(f"The angle must be below 90 degrees, not {given['angle']!r}.")
    return replace(
        loss, options={**loss.options, **{key: float(value) for key, value in given.items()}}, nonzero=nonzero
    )


def distance(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """``D``, over the last axis; its gradient is 0, not NaN, where the two are equal."""
    return tf.sqrt(tf.maximum(squared_distance(one, other), EPSILON))


def squared_distance(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """``D**2``, over the last axis."""
    return tf.reduce_sum(tf.square(one - other), axis=-1)


def correct(embeddings: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """``(B,)`` bool: triplets whose negative is strictly farther from the query than their positive."""
    query, near, far = (tf.gather(embeddings, rows[:, column]) for column in range(3))
    return squared_distance(query, far) > squared_distance(query, near)


def contrastive(query: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options) -> tf.Tensor:
    """``(D(q,p)**2 + max(0, margin - D(q,n))**2) / 2``.

    With margin 1 the mean over a batch of B is the article's ``(sum D(q,p)**2 + sum max(0, 1 - D(q,n))**2) / 2B``
    (arXiv 1901.03546; the form is that of Hadsell, Chopra and LeCun, CVPR 2006). Unrelated photos often lie farther
    apart than 1, so that such a negative teaches nothing, while positives are pulled together without end.
    """
    near = squared_distance(query, positive)
    far = tf.square(tf.nn.relu(options["margin"] - distance(query, negative)))
    return (near + far) / 2


def contrastive_margins(query: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options) -> tf.Tensor:
    """``max(0, D(q,p) - positive_margin) + max(0, negative_margin - D(q,n))``.

    Positives that are near enough are left alone. The margins are those tuned on vectors of length 1 by Musgrave,
    Belongie and Lim ("A metric learning reality check", arXiv 2003.08505).
    """
    near = tf.nn.relu(distance(query, positive) - options["positive_margin"])
    return near + tf.nn.relu(options["negative_margin"] - distance(query, negative))


def triplet(query: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options) -> tf.Tensor:
    """``max(0, margin + D(q,p) - D(q,n))``, of each triplet and not of the batch's mean.

    :func:`triplet_squared` without the squares.
    """
    return tf.nn.relu(options["margin"] + distance(query, positive) - distance(query, negative))


def triplet_squared(query: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options) -> tf.Tensor:
    """``max(0, margin + D(q,p)**2 - D(q,n)**2)`` (Schroff et al., FaceNet, arXiv 1503.03832, eq. 3).

    With margin .0009 it is VisNet's loss (arXiv 1703.02344).
    """
    return tf.nn.relu(options["margin"] + squared_distance(query, positive) - squared_distance(query, negative))


def triplet_both(query: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options) -> tf.Tensor:
    """Hinge with both negatives: ``max(0, margin + D(q,p) - D(q,n)) + max(0, margin + D(q,p) - D(p,n))``.

    The negative has to keep away from the positive as well as from the query, as in the code of arXiv 1903.00905.
    """
    near = distance(query, positive)
    from_query = tf.nn.relu(options["margin"] + near - distance(query, negative))
    return from_query + tf.nn.relu(options["margin"] + near - distance(positive, negative))


def angular(query: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options) -> tf.Tensor:
    """``max(0, D(q,p)**2 - 4 tan(angle)**2 D(n,c)**2)`` with the centre ``c = (q + p) / 2``.

    Wang et al., "Deep metric learning with angular loss", arXiv 1708.01682, section 3; ``angle`` in degrees.
    """
    slope = tf.square(tf.tan(tf.constant(options["angle"] * 3.141592653589793 / 180, tf.float32)))
    centre = (query + positive) / 2
    return tf.nn.relu(squared_distance(query, positive) - 4 * slope * squared_distance(negative, centre))


def supcon(
    embeddings: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options
) -> tuple[tf.Tensor, tf.Tensor]:
    """Softmax over a batch: every photo's positives against all it may be pushed apart from, and its other positives.

    ``- mean over p of log(exp(s(i,p)) / (sum over other positives and negatives of exp(s(i,a))))`` with
    ``s = cos / temperature``: Khosla et al., "Supervised contrastive learning", arXiv 2004.11362, eq. 2. A photo
    without positives or without negatives does not count.
    """
    logits = embeddings @ tf.transpose(embeddings) / options["temperature"]
    everything = _log_sum_exp(logits, positive | negative)
    terms = _row_mean(everything[:, None] - logits, positive)
    return terms, tf.reduce_any(positive, axis=1) & tf.reduce_any(negative, axis=1)


def infonce(
    embeddings: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options
) -> tuple[tf.Tensor, tf.Tensor]:
    """Softmax over a batch: each positive by itself against all that its photo may be pushed apart from.

    As :func:`supcon`, but the other positives of a photo do not compete with this one, as in the multi-class N-pair
    loss (Sohn, NIPS 2016) and InfoNCE (van den Oord et al., arXiv 1807.03748, eq. 4).
    """
    logits = embeddings @ tf.transpose(embeddings) / options["temperature"]
    others = _log_sum_exp(logits, negative)
    terms = _row_mean(tf.nn.softplus(others[:, None] - logits), positive)
    return terms, tf.reduce_any(positive, axis=1) & tf.reduce_any(negative, axis=1)


def multi_similarity(
    embeddings: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, options: Options
) -> tuple[tf.Tensor, tf.Tensor]:
    """Multi-similarity loss with its pair mining (Wang et al., arXiv 1904.06627, section 4).

    ``log(1 + sum over p of exp(-alpha (cos - base))) / alpha + log(1 + sum over n of exp(beta (cos - base))) / beta``,
    over positives that are not nearer than the nearest negative by ``mining_margin`` or more, and negatives that are
    not farther than the farthest positive by as much.
    """
    cosines = embeddings @ tf.transpose(embeddings)
    farthest_positive = tf.reduce_min(tf.where(positive, cosines, -_NEVER), axis=1, keepdims=True)
    nearest_negative = tf.reduce_max(tf.where(negative, cosines, _NEVER), axis=1, keepdims=True)
    near = positive & (cosines - options["mining_margin"] < nearest_negative)
    far = negative & (cosines + options["mining_margin"] > farthest_positive)
    alpha, beta = options["alpha"], options["beta"]
    shifted = cosines - options["base"]
    pull = tf.nn.softplus(_log_sum_exp(-alpha * shifted, near)) / alpha
    push = tf.nn.softplus(_log_sum_exp(beta * shifted, far)) / beta
    return pull + push, tf.reduce_any(positive, axis=1) & tf.reduce_any(negative, axis=1)


# With their default options.
LOSSES: dict[str, Loss] = {
    "contrastive": Loss(contrastive, "triplet", {"margin": 1.0}),
    "contrastive-margins": Loss(contrastive_margins, "triplet", {"positive_margin": 0.27, "negative_margin": 0.5}),
    "triplet": Loss(triplet, "triplet", {"margin": 0.1}),
    "triplet-squared": Loss(triplet_squared, "triplet", {"margin": 0.1}),
    "triplet-both": Loss(triplet_both, "triplet", {"margin": 0.1}),
    "angular": Loss(angular, "triplet", {"angle": 45.0}),
    "supcon": Loss(supcon, "batch", {"temperature": 0.1}),
    "infonce": Loss(infonce, "batch", {"temperature": 0.1}),
    "multi-similarity": Loss(
        multi_similarity, "batch", {"alpha": 2.0, "beta": 50.0, "base": 0.5, "mining_margin": 0.1}
    ),
}


def _mean(terms: tf.Tensor, counts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    number = tf.reduce_sum(tf.cast(counts, terms.dtype))
    # Masked by choice and not by product: what does not count may be infinite.
    total = tf.reduce_sum(tf.where(counts, terms, 0.0))
    return total / tf.maximum(number, 1.0), number


def _row_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """``(N,)``: mean of each row over the mask, 0 where it is empty."""
    total = tf.reduce_sum(tf.where(mask, values, 0.0), axis=1)
    return total / tf.maximum(tf.reduce_sum(tf.cast(mask, values.dtype), axis=1), 1.0)


def _log_sum_exp(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """``(N,)``: over the mask of each row; very small where it is empty."""
    return tf.reduce_logsumexp(tf.where(mask, values, _NEVER), axis=1)
