"""Miners: which triplets of a batch a loss over triplets is given instead of those that the data names.

A random negative is soon so far away that it teaches nothing. Among all photos of a batch there is usually a nearer
one. Photos that show the same thing without being labelled so are the danger of it, so a miner chooses only among the
pairs that the masks allow (:mod:`shop_similarity.training.learning.relations`).
"""

from __future__ import annotations

import tensorflow as tf

from shop_similarity.training.learning.losses import EPSILON

_FAR = 1e9


def semi_hard(embeddings: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    """For each (anchor, positive) of the batch the nearest negative of both that is farther than the positive.

    Where all are nearer, the farthest of them (Schroff et al., FaceNet, arXiv 1503.03832, section 3.2).

    Args:
        embeddings: ``(N, d)`` of length 1.
        positive: ``(N, N)`` bool, pairs that belong together.
        negative: ``(N, N)`` bool, pairs that may be pushed apart.

    Returns:
        ``(M, 3)`` ``int32`` places of anchor, positive and negative; M is the number of positive pairs (each in both
        directions) that have a negative in common.
    """
    squares = _squared_distances(embeddings)
    pairs = tf.where(positive)
    allowed = tf.gather(negative, pairs[:, 0]) & tf.gather(negative, pairs[:, 1])
    some = tf.reduce_any(allowed, axis=1)
    pairs, allowed = tf.boolean_mask(pairs, some), tf.boolean_mask(allowed, some)
    anchors, positives = pairs[:, 0], pairs[:, 1]
    distances = tf.gather(squares, anchors)
    near = tf.gather_nd(squares, pairs)[:, None]
    outside = allowed & (distances > near)
    nearest_outside = tf.argmin(tf.where(outside, distances, _FAR), axis=1)
    farthest_inside = tf.argmax(tf.where(allowed, distances, -_FAR), axis=1)
    negatives = tf.where(tf.reduce_any(outside, axis=1), nearest_outside, farthest_inside)
    return tf.cast(tf.stack([anchors, positives, negatives], axis=1), tf.int32)


def hard(embeddings: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tf.Tensor:
    """For each photo of the batch its farthest positive and the nearest negative of both.

    "Batch hard" of Hermans, Beyer and Leibe, "In defense of the triplet loss", arXiv 1703.07737, eq. 5.

    Args:
        embeddings: ``(N, d)`` of length 1.
        positive: ``(N, N)`` bool, pairs that belong together.
        negative: ``(N, N)`` bool, pairs that may be pushed apart.

    Returns:
        ``(M, 3)`` ``int32`` places of anchor, positive and negative; M is the number of photos that have such.
    """
    squares = _squared_distances(embeddings)
    farthest = tf.argmax(tf.where(positive, squares, -_FAR), axis=1)
    allowed = negative & tf.gather(negative, farthest)
    nearest = tf.argmin(tf.where(allowed, squares, _FAR), axis=1)
    anchors = tf.where(tf.reduce_any(positive, axis=1) & tf.reduce_any(allowed, axis=1))[:, 0]
    return tf.cast(tf.stack([anchors, tf.gather(farthest, anchors), tf.gather(nearest, anchors)], axis=1), tf.int32)


MINERS = {"semi-hard": semi_hard, "hard": hard}


def _squared_distances(embeddings: tf.Tensor) -> tf.Tensor:
    """``(N, N)``; a choice is made by them, so no gradient flows through."""
    embeddings = tf.stop_gradient(tf.cast(embeddings, tf.float32))
    return tf.maximum(2 - 2 * embeddings @ tf.transpose(embeddings), EPSILON)
