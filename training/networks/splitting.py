"""Splitting a model where training begins.

What lies below the first trainable layer gives the same numbers for a photo in every epoch. Split off, it can be
computed once per photo and kept (:mod:`shop_similarity.training.photos.feature_cache`), and an epoch costs only what is
trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.networks.architectures.parts import FEATURES


class NothingToTrain(TrainingError):
    """No layer of the model is trainable."""


@dataclass(frozen=True)
class Split:
    """Two halves of a model that share its layers, so that training the second trains the model.

    Attributes:
        frozen: photos to boundary tensors; called by :meth:`features`.
        trainable: ``[boundary tensors] -> embeddings (B, d)``.
        boundary: name of the layer that each boundary tensor comes from.
    """

    frozen: keras.Model
    trainable: keras.Model
    boundary: tuple[str, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each boundary tensor of one photo."""
        return [tuple(tensor.shape[1:]) for tensor in self.trainable.inputs]

    def features(self, photos: Any) -> list[Any]:
        """Boundary tensors of photos ``(B, size, size, 3)``, in inference mode."""
        tensors = self.frozen(keras.ops.cast(photos, "float32"), training=False)
        # Keras takes a list of one output for the output.
        return list(tensors) if isinstance(tensors, list | tuple) else [tensors]


def split(model: keras.Model) -> Split:
    """Split a functional model at the boundary between what is frozen and what is trained.

    A layer belongs to the frozen half if all before it does and its output can't change in training: it has no
    trainable weight and draws no random numbers. Layers without weights (pooling, normalisation) are moved along, so
    that what is kept is small: for MILDNet frozen through ``block4_pool`` the pooled taps of blocks 1 to 4 and the
    14 x 14 x 512 map that block 5 goes on from.

    What comes after the layer :data:`~shop_similarity.training.networks.architectures.parts.FEATURES`, where a model
    has one, is never part of the frozen half, for it may be set from the features themselves (calibration, guard).

    Raises:
        NothingToTrain: if the whole model is frozen.
        ValueError: if the model is not functional, with one input and one output.
    """
    if not isinstance(model, keras.models.Model) or not hasattr(model, "_nodes_by_depth"):
        raise ValueError("Only functional models can be split.")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError("Only models with one input and one output can be split.")
    if not model.trainable_variables:
        raise NothingToTrain(
            "Every layer of the model is frozen, so there is nothing to train. Train at least its head."
        )
    below = _before_head(model)
    still = {id(model.inputs[0])}
    boundary: dict[int, keras.KerasTensor] = {}
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.is_input:
                continue
            movable = below is None or node.operation.name in below
            if movable and _unchanging(node.operation) and all(id(tensor) in still for tensor in node.input_tensors):
                still.update(id(tensor) for tensor in node.outputs)
            else:
                boundary.update({id(tensor): tensor for tensor in node.input_tensors if id(tensor) in still})
    tensors = list(boundary.values())
    names = tuple(tensor._keras_history.operation.name for tensor in tensors)
    return Split(
        frozen=keras.Model(model.inputs[0], tensors, name=f"{model.name}_frozen"),
        trainable=keras.Model(tensors, model.outputs[0], name=f"{model.name}_trainable"),
        boundary=names,
    )


def _before_head(model: keras.Model) -> set[str] | None:
    """Names of the layers up to and with the features; ``None`` for a model that has no such layer."""
    if FEATURES not in {layer.name for layer in model.layers}:
        return None
    return {layer.name for layer in keras.Model(model.input, model.get_layer(FEATURES).output).layers}


def _unchanging(layer: keras.layers.Layer) -> bool:
    if getattr(layer, "trainable_variables", None):
        return False
    # Dropout, noise and random pixels draw new numbers in each step.
    return not any(hasattr(layer, name) for name in ("seed_generator", "_seed_generator"))
