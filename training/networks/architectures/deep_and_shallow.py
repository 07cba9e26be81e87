"""RankNet's form, which Fynd's VisNet shares: a pooled deep branch and two shallow ones, joined at equal length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from shop_similarity.training.networks.architectures.parts import (
    dense_layers,
    embedding,
    freeze,
    joined,
    photos_and_pixels,
    unit,
)
from shop_similarity.training.networks.backbones.registry import get_backbone
from shop_similarity.training.networks.backbones.trunk import get_trunk
from shop_similarity.training.networks.preprocessing import Preprocessing


def deep_and_shallow(
    config: Any,
    preprocessing: Preprocessing,
    branches: Callable[[keras.KerasTensor, float], list[keras.KerasTensor]],
    name: str,
) -> keras.Model:
    """Photos ``(B, size, size, 3)`` to ``(B, embedding_dim)`` of length 1.

    Args:
        config: has ``backbone``, ``hidden``, ``dropout``, ``embedding_dim``, ``frozen_through`` and ``width``.
        preprocessing: gives the input's size and normalisation.
        branches: the shallow branches, from normalised pixels and the width.
        name: of the model.
    """
    spec = get_backbone(config.backbone)
    photos, pixels = photos_and_pixels(preprocessing)
    shallow = joined(branches(pixels, config.width), "shallow")
    deep = spec.apply(pixels, config.width)[spec.taps[-1]]
    deep = keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"{spec.taps[-1]}_avg")(deep)
    deep = dense_layers(deep, config.hidden, config.dropout)
    x = joined([unit(shallow, "shallow_unit"), unit(deep, "deep_unit")])
    model = keras.Model(photos, embedding(x, config.embedding_dim), name=name)
    freeze(model, get_trunk(config.backbone), config.frozen_through)
    return model
