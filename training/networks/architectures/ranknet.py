"""RankNet (Sharma and Vishvakarma, arXiv 1901.03546): VGG19 for what a thing is, two shallow branches for its looks.

Deep: VGG19's last block pooled to 512, Dense 4096 ReLU, Dropout 0.5, Dense 4096 ReLU, Dropout 0.5, length 1. Shallow:
two branches of 1536 (:func:`~shop_similarity.training.networks.architectures.shallow.ranknet_branches`), joined to
3072, length 1. Joined to 7168, Dense 4096 linear, length 1. Everything is trained. 68,308,224 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import keras

from shop_similarity.training.networks.architectures.deep_and_shallow import deep_and_shallow
from shop_similarity.training.networks.architectures.parts import Config
from shop_similarity.training.networks.architectures.shallow import ranknet_branches
from shop_similarity.training.networks.backbones.registry import get_backbone
from shop_similarity.training.networks.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class RanknetConfig(Config):
    """Options of RankNet.

    Attributes:
        hidden: widths of the deep branch's ReLU layers.
        dropout: rate after each of them.
        embedding_dim: length of the embedding.
        frozen_through: the last layer of the backbone, or the tap, that training leaves alone, or ``None``.
        width: share of the filters of the backbone and the shallow branches; below 1 only for tests.
        backbone: a key of :data:`~shop_similarity.training.networks.backbones.registry.BACKBONES`.

    Raises:
        ValueError: for a value that cannot be built.
    """

    kind: ClassVar[str] = "RankNet option"

    hidden: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5
    embedding_dim: int = 4096
    frozen_through: str | None = None
    width: float = 1.0
    backbone: str = "vgg19"

    def __post_init__(self) -> None:
        get_backbone(self.backbone)
        self._check_head()


def build(config: RanknetConfig, preprocessing: Preprocessing) -> keras.Model:
    """Build RankNet with fresh weights.

    Photos ``(B, size, size, 3)``, of 32 pixels or more, become ``(B, embedding_dim)`` of length 1. The backbone follows
    Keras's dtype policy, all else computes in ``float32``. The layer ``features`` gives the join before the last Dense
    layer, ``(B, 7168)`` at 224 pixels.
    """
    return deep_and_shallow(config, preprocessing, ranknet_branches, "ranknet")
