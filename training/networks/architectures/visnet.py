"""VisNet (Shankar et al., arXiv 1703.02344) as published, and as Fynd rebuilt it to compare MILDNet with.

Original, from the authors' Caffe definition: VGG16 with its fully connected layers (fc6 and fc7 4096 ReLU with dropout
0.4, fc8 4096 linear), two shallow branches of 2400
(:func:`~shop_similarity.training.networks.architectures.shallow.visnet_branches`), each side normalised by ``x / sqrt(1
+ |x|^2)``, joined to 8896 and mapped by a linear Dense 4096. 187,521,024 parameters. The published network ends in that
norm again; ours ends in a division by the length, as every architecture here does, which keeps the direction. No source
here carries the fully connected layers' ImageNet weights: they start from random numbers.

Fynd's form: VGG16's last block pooled to 512, two Dense 4096 ReLU with dropout 0.6, length 1; two shallow branches of
1536 (:func:`~shop_similarity.training.networks.architectures.shallow.fynd_branches`), joined to 3072, length 1; joined
to 7168, Dense 4096 linear, length 1. 62,998,528 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import keras

from shop_similarity.training.networks.architectures.deep_and_shallow import deep_and_shallow
from shop_similarity.training.networks.architectures.parts import (
    BoundedNormalization,
    Config,
    dense_layers,
    embedding,
    freeze,
    joined,
    photos_and_pixels,
)
from shop_similarity.training.networks.architectures.shallow import fynd_branches, visnet_branches
from shop_similarity.training.networks.backbones.registry import get_backbone
from shop_similarity.training.networks.backbones.trunk import get_trunk
from shop_similarity.training.networks.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class VisnetConfig(Config):
    """Options of the original VisNet.

    Attributes:
        hidden: widths of fc6 and fc7.
        deep_dim: width of fc8.
        dropout: rate after fc6 and fc7.
        embedding_dim: length of the embedding.
        frozen_through: the last layer of the backbone, or the tap, that training leaves alone, or ``None``.
        width: share of the filters of the backbone and the shallow branches; below 1 only for tests.
        backbone: a key of :data:`~shop_similarity.training.networks.backbones.registry.BACKBONES`.

    Raises:
        ValueError: for a value that cannot be built.
    """

    kind: ClassVar[str] = "VisNet option"

    hidden: tuple[int, ...] = (4096, 4096)
    deep_dim: int = 4096
    dropout: float = 0.4
    embedding_dim: int = 4096
    frozen_through: str | None = None
    width: float = 1.0
    backbone: str = "vgg16"

    def __post_init__(self) -> None:
        get_backbone(self.backbone)
        self._check_head()
        if self.deep_dim < 1:
            raise ValueError(f"deep_dim must be positive, not {self.deep_dim!r}.")


@dataclass(frozen=True, slots=True)
class FyndVisnetConfig(Config):
    """Options of Fynd's VisNet; they mean what RankNet's mean."""

    kind: ClassVar[str] = "Fynd's VisNet option"

    hidden: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.6
    embedding_dim: int = 4096
    frozen_through: str | None = None
    width: float = 1.0
    backbone: str = "vgg16"

    def __post_init__(self) -> None:
        get_backbone(self.backbone)
        self._check_head()


def build(config: VisnetConfig, preprocessing: Preprocessing) -> keras.Model:
    """Build the original VisNet with fresh weights.

    Photos ``(B, size, size, 3)``, of 32 pixels or more, become ``(B, embedding_dim)`` of length 1. The backbone follows
    Keras's dtype policy, all else computes in ``float32``. The layer ``features`` gives the join before the last Dense
    layer, ``(B, 8896)`` at 224 pixels.
    """
    spec = get_backbone(config.backbone)
    photos, pixels = photos_and_pixels(preprocessing)
    shallow = joined(visnet_branches(pixels, config.width), "shallow")
    deep = spec.apply(pixels, config.width)[spec.taps[-1]]
    deep = keras.layers.Flatten(dtype="float32", name="flat")(deep)
    deep = dense_layers(deep, config.hidden, config.dropout)
    deep = keras.layers.Dense(config.deep_dim, dtype="float32", name="deep")(deep)
    x = joined(
        [
            BoundedNormalization(dtype="float32", name="shallow_norm")(shallow),
            BoundedNormalization(dtype="float32", name="deep_norm")(deep),
        ]
    )
    model = keras.Model(photos, embedding(x, config.embedding_dim), name="visnet")
    freeze(model, get_trunk(config.backbone), config.frozen_through)
    return model


def build_fynd(config: FyndVisnetConfig, preprocessing: Preprocessing) -> keras.Model:
    """Build Fynd's VisNet with fresh weights; the layer ``features`` gives ``(B, 7168)`` at 224 pixels."""
    return deep_and_shallow(config, preprocessing, fynd_branches, "visnet_fynd")
