"""An encoder as one layer of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras


class EncoderLayer(keras.layers.Layer):
    """A network as a layer: pixels ``(B, size, size, 3)`` to a list of its outputs, in ``float32``.

    A model within a model says of itself what its own inputs give, not what it gives in its place; a layer does.

    Args:
        network: a functional model, see :meth:`~shop_similarity.training.networks.encoders.encoder.Encoder.tapped`.
        made_of: plain values that say how it is built: what tells one encoder's features from another's in a cache.
    """

    def __init__(self, network: keras.Model, made_of: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.network = network
        self.made_of = dict(made_of)
        self.built = True

    def call(self, inputs: keras.KerasTensor, training: bool | None = None) -> list[keras.KerasTensor]:
        # Keras takes a list of one output for the output.
        found = self.network(inputs, training=training)
        return list(found) if isinstance(found, list | tuple) else [found]

    def get_config(self) -> dict[str, Any]:
        """For fingerprints; nothing is made of it."""
        return {**super().get_config(), "made_of": self.made_of}
