"""Training a guarded linear head in the space that its start maps to.

The start of a guarded head is a linear map that calibration has levelled: in the space behind it, all directions of the
features weigh about the same. In front of it a few weigh far more than the others, and an optimizer that moves every
weight equally far moves mostly along those; a head learns there what its photos have in common sooner than what tells
them apart. So the change is learned behind the start, ``y = z + g z D``, which takes a square matrix ``D`` of the
features' own length instead of one as wide as the embedding. It is folded into the weights of the model whenever these
are kept: the lift to the embedding's length is an isometry and changes no cosine.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import keras
import numpy as np

from shop_similarity.training.networks.architectures.parts import CHANGE, FAMILIARITY, FEATURES, HEAD, unit
from shop_similarity.training.networks.splitting import Split

# Of the energy along the strongest direction; weaker ones could not be told from rounding.
_LEAST = 1e-7
# Share of a change that may get lost between the two forms.
_TOLERANCE = 1e-3


class HeadSpace:
    """The form in which the change of a guarded head is trained.

    Args:
        model: with :data:`~shop_similarity.training.networks.architectures.parts.CHANGE`.
        split: its halves, between which the features lie.
        left_alone: numbers at the end of the features that training leaves alone.
        scope: of the devices.
        root: ``(d, d)`` symmetric root of the start's kernel times itself: the start without its lift.

    Attributes:
        split: the same photos to embeddings that have the same cosines, of another length; its trainable half has ``D``
            as its only trainable weight.
    """

    def __init__(
        self, model: keras.Model, split: Split, left_alone: int, scope: AbstractContextManager, root: np.ndarray
    ) -> None:
        self._model = model
        self._kept = len(root) - left_alone
        kernel, bias = (weights.astype(np.float64) for weights in model.get_layer(HEAD).get_weights())
        self._root = root
        self._inverse = np.linalg.inv(root)
        self._lift = self._inverse @ kernel
        self._bias = self._lift @ bias
        with scope:
            features = keras.Input((len(root),), dtype="float32", name="features_in")
            start = keras.layers.Dense(len(root), dtype="float32", name="start", trainable=False)
            z = start(features)
            moved = z[:, : self._kept] if left_alone else z
            self._change = keras.layers.Dense(
                self._kept, use_bias=False, kernel_initializer="zeros", dtype="float32", name=CHANGE
            )
            change = self._change(moved) * model.get_layer(FAMILIARITY)(features)
            parts = [moved + change, z[:, self._kept :]] if left_alone else [moved + change]
            joined = keras.layers.Concatenate(dtype="float32")(parts) if left_alone else parts[0]
            trainable = keras.Model([features], unit(joined, "unit_length"), name=f"{model.name}_in_its_space")
        start.set_weights([root.astype(np.float32), self._bias.astype(np.float32)])
        self.split = Split(split.frozen, trainable, split.boundary)

    @classmethod
    def of(cls, model: keras.Model, split: Split, left_alone: int, scope: AbstractContextManager) -> HeadSpace | None:
        """The space of a model's head; None where its change can't be trained there.

        That is a model without a guard, one whose backbone is trained as well, one that maps several features to the
        same embedding, and one whose change was trained in front of the start.
        """
        names = {layer.name for layer in model.layers}
        if CHANGE not in names or split.boundary != (FEATURES,):
            return None
        kernel, bias = (weights.astype(np.float64) for weights in model.get_layer(HEAD).get_weights())
        energies, directions = np.linalg.eigh(kernel @ kernel.T)
        if not energies[0] > _LEAST * energies[-1]:
            return None
        space = cls(model, split, left_alone, scope, (directions * np.sqrt(energies)) @ directions.T)
        inside = np.abs(space._bias @ space._lift - bias).max() <= _TOLERANCE * max(np.abs(bias).max(), 1e-12)
        return space if inside and space.take() else None

    def fold(self) -> None:
        """Give the model the change as it is now."""
        change = self._change.get_weights()[0].astype(np.float64) @ self._lift[: self._kept]
        kernel, bias = self._root[:, : self._kept] @ change, self._bias[: self._kept] @ change
        self._model.get_layer(CHANGE).set_weights([kernel.astype(np.float32), bias.astype(np.float32)])

    def take(self) -> bool:
        """Take the change over from the model; returns whether it is one that this space has."""
        kernel, bias = (weights.astype(np.float64) for weights in self._model.get_layer(CHANGE).get_weights())
        change = (self._inverse @ kernel @ self._lift.T)[: self._kept, : self._kept]
        self._change.set_weights([change.astype(np.float32)])
        lifted = change @ self._lift[: self._kept]
        lost = np.square(self._root[:, : self._kept] @ lifted - kernel).sum()
        lost += np.square(self._bias[: self._kept] @ lifted - bias).sum()
        return bool(lost <= _TOLERANCE**2 * max(np.square(kernel).sum(), 1e-12))
