"""MILDNet (Vishvakarma, arXiv 1903.00905): one backbone whose blocks are all listened to.

The paper pools VGG16's block5, block1, block2, block3 and block4 (in that order, 1472 numbers), joins them, and maps
them by Dense 2048 ReLU, Dropout 0.6, Dense 2048 ReLU to an embedding of length 1. Ours differs where the paper's form
would not serve:

- 4096 dimensions, and the last layer is linear. A ReLU end leaves no negative coordinate, so that the sign codes that
  search candidates come from would say nothing.
- Each tap is brought to length 1 before joining. Joined raw, the middle blocks, whose numbers are largest, drown the
  others.
- The inputs are normalised as the pretrained weights expect it, inside the model.
- Without a hidden layer, the head is one linear map. Calibration can then set it so that the untrained model is as good
  as its features are (:mod:`shop_similarity.training.heads.calibration`).

The paper's own form is :data:`PAPER`, its ablations and small forms are :data:`PUBLISHED`. The same idea on other
networks: :data:`LITE` and :data:`LITE2` on EfficientNet-Lite, for shops without a GPU; :data:`JOINED` on VGG16 and
EfficientNet-Lite0 together, for shops that look for more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras

from shop_similarity.training.networks.architectures.colour import COLOUR, LENGTH, LabHistogram
from shop_similarity.training.networks.architectures.parts import (
    FEATURES,
    HEAD,
    Config,
    GeneralizedMeanPooling2D,
    PowerNormalization,
    dense_layers,
    embedding,
    feature_model,
    freeze,
    guarded_embedding,
    joined,
    photos_and_pixels,
    unit,
)
from shop_similarity.training.networks.architectures.shallow import ranknet_branches
from shop_similarity.training.networks.backbones.trunk import DEFAULT, Trunk, get_trunk
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.questions import SEARCH, Questions

__all__ = [
    "FEATURES",
    "HEAD",
    "JOINED",
    "LITE",
    "LITE2",
    "PAPER",
    "PUBLISHED",
    "GeneralizedMeanPooling2D",
    "MildnetConfig",
    "PowerNormalization",
    "build",
    "feature_model",
]

POOLINGS = ("avg", "max", "gem")


# Taps that are not named become those of the backbone.
_OF_BACKBONE: Any = None


@dataclass(frozen=True, slots=True)
class MildnetConfig(Config):
    """Options of MILDNet.

    Attributes:
        backbone: a key of :data:`~shop_similarity.training.networks.backbones.registry.BACKBONES`, or several with
            ``+`` between them, whose taps are joined (``vgg16+efficientnet_lite0``); ``encoder`` for one that a shop
            brings along.
        encoder: which one that is, as :class:`~shop_similarity.training.networks.encoders.spec.EncoderSpec` writes it.
        taps: the blocks that are pooled, in the order in which they are joined; ``None`` for the backbone's own choice.
            Of several backbones, those of the second and later ones have its name in front
            (``efficientnet_lite0_block2``).
        pooling: ``"avg"``, ``"max"``, or ``"gem"`` (generalised mean, :class:`GeneralizedMeanPooling2D`; only for
            taps that are never negative).
        gem_power: exponent of ``"gem"``.
        tap_power: every pooled number is raised to this power before it is joined; 1 leaves it alone.
        normalise_taps: whether each pooled tap is brought to length 1 before joining.
        hidden: widths of the ReLU layers before the last one.
        dropout: rate after each hidden layer.
        shallow: whether RankNet's two shallow branches are joined to what the hidden layers give. The features are
            then that join, and no longer the taps alone.
        embedding_dim: length of the embedding.
        activation: of the last layer.
        frozen_through: the last layer of the backbone, or the tap, that training leaves alone; ``None`` for nothing,
            ``"default"`` for the backbone's own choice (block3_conv3 of VGG, as in the paper; all of
            EfficientNet-Lite). Of several backbones, all of those that it does not belong to is left alone.
        frozen_batch_norm: whether batch normalisations keep ImageNet's statistics wherever training reaches.
        width: share of the backbone's filters; below 1 only for tests.
        guard: 0 for none, else the number of directions by which a photo is judged to be like those that the model was
            trained on. A guarded model's last Dense layer stays as it was before training; what training adds to it
            holds only for familiar photos
            (:class:`~shop_similarity.training.networks.architectures.parts.FamiliarityGate`), so that other goods are
            embedded as before. Only where the embedding is one linear map. What the colours give stays as it was for
            all photos: triplets of one style in several colours would teach to look away from them.
        colour: 0 for none, else the share of the embedding's energy that calibration gives to one more tap, the
            histogram of the photo's colours
            (:class:`~shop_similarity.training.networks.architectures.colour.LabHistogram`), joined after the blocks.
        instance: 0 for one question, else the share of the energy that calibration gives to a second linear map of the
            same features, by which photos of one product find each other
            (:mod:`shop_similarity.training.networks.questions`). Only beside ``colour``, where the embedding is one
            linear map and its length a power of two.
        search: with ``instance``, shares of look-alikes, the product itself and colours in the similarity that a search
            by photo asks for; they add up to 1.

    Raises:
        ValueError: for a value that cannot be built.
    """

    kind: ClassVar[str] = "MILDNet option"

    taps: tuple[str, ...] = _OF_BACKBONE
    pooling: str = "avg"
    gem_power: float = 3.0
    tap_power: float = 1.0
    normalise_taps: bool = True
    hidden: tuple[int, ...] = ()
    dropout: float = 0.6
    embedding_dim: int = 4096
    activation: str = "linear"
    frozen_through: str | None = DEFAULT
    width: float = 1.0
    backbone: str = "vgg16"
    shallow: bool = False
    frozen_batch_norm: bool = True
    guard: int = 0
    colour: float = 0.0
    encoder: Mapping[str, Any] | None = None
    instance: float = 0.0
    search: tuple[float, float, float] = SEARCH

    def __post_init__(self) -> None:
        known = self.spec.taps
        if self.taps is None:
            object.__setattr__(self, "taps", self.spec.default_taps)
        object.__setattr__(self, "taps", tuple(self.taps))
        unknown = sorted(set(self.taps) - set(known))
        if unknown or not self.taps or len(set(self.taps)) != len(self.taps):
            raise ValueError(f"taps must be different ones of {', '.join(known)}, not {list(self.taps)!r}.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, not {self.pooling!r}.")
        if self.pooling == "gem" and (signed := self.spec.signed_taps & set(self.taps)):
            raise ValueError(f"pooling by gem needs taps that are never negative; {', '.join(sorted(signed))} can be.")
        for name in ("gem_power", "tap_power"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)!r}.")
        self._check_head()
        if self.guard < 0 or (self.guard and not self.is_linear):
            raise ValueError(
                "guard must be 0 or, for a model whose embedding is one linear map, a number of directions."
            )
        if not 0 <= self.colour < 1:
            raise ValueError(f"colour must be at least 0 and below 1, not {self.colour!r}.")
        self._check_questions()

    def _check_questions(self) -> None:
        object.__setattr__(self, "search", tuple(self.search))
        if len(self.search) != 3 or min(self.search) < 0 or abs(sum(self.search) - 1) > 1e-6:
            raise ValueError(f"search must be three shares that add up to 1, not {list(self.search)!r}.")
        if self.instance and not (self.takes_questions and 0 < self.instance < 1 - self.colour):
            raise ValueError(
                "instance must be above 0 and, with colour, below 1. It takes an embedding that is one linear map, "
                "with colour above 0, and whose length is a power of two, 1024 or more."
            )

    @property
    def takes_questions(self) -> bool:
        """Whether the embedding can hold what ``instance`` asks for."""
        length = self.embedding_dim
        return bool(self.is_linear and self.colour and not length & (length - 1) and length >= 2 * LENGTH)

    @property
    def spec(self) -> Trunk:
        """The backbone or backbones."""
        return get_trunk(self.backbone, self.encoder)

    @property
    def tap_lengths(self) -> dict[str, int]:
        """Numbers of each pooled tap, in the order in which they are joined."""
        lengths = {tap: self.spec.filters(tap, self.width) for tap in self.taps}
        return {**lengths, COLOUR: LENGTH} if self.colour else lengths

    @property
    def feature_dim(self) -> int:
        """Length of the joined taps."""
        return sum(self.tap_lengths.values())

    @property
    def is_linear(self) -> bool:
        """Whether the embedding is one linear map of the joined taps, which calibration can set."""
        return not self.hidden and not self.shallow and self.activation == "linear"


# The paper's form (section 4 and the authors' code): 21,927,744 parameters.
PAPER = MildnetConfig(
    taps=("block5_pool", "block1_pool", "block2_pool", "block3_pool", "block4_pool"),
    normalise_taps=False,
    hidden=(2048,),
    embedding_dim=2048,
    activation="relu",
)

# The forms that the paper and its authors' code compare. What they tell of the MobileNet form is its size alone, 5.33
# million; the last 1024 numbers, mapped twice to 1024, have 5,328,064.
PUBLISHED = {
    "paper": PAPER,
    "without-block1": replace(PAPER, taps=("block5_pool", "block2_pool", "block3_pool", "block4_pool")),
    "without-blocks-1-2": replace(PAPER, taps=("block5_pool", "block3_pool", "block4_pool")),
    "without-blocks-1-3": replace(PAPER, taps=("block5_pool", "block4_pool")),
    "block5-alone": replace(PAPER, taps=("block5_pool",)),
    "head-1024-512": replace(PAPER, hidden=(1024,), embedding_dim=512, dropout=0.0),
    "head-512-512": replace(PAPER, hidden=(512,), embedding_dim=512, dropout=0.0),
    "block5-512-512": replace(PAPER, taps=("block5_pool",), hidden=(512,), embedding_dim=512, dropout=0.0),
    "vgg19": replace(PAPER, backbone="vgg19"),
    "nothing-frozen": replace(PAPER, frozen_through=None),
    "shallow": replace(PAPER, hidden=(2048, 2048), shallow=True, embedding_dim=4096, activation="linear"),
    "mobilenet": replace(
        PAPER, backbone="mobilenet", taps=("pair13",), hidden=(1024,), embedding_dim=1024, frozen_through=None
    ),
}

# 24 + 40 + 112 + 320 + 1280 = 1776 numbers.
LITE = MildnetConfig(backbone="efficientnet_lite0")
# 24 + 48 + 120 + 352 + 1280 = 1824 numbers.
LITE2 = MildnetConfig(backbone="efficientnet_lite2")
# 1472 + 1776 = 3248 numbers.
JOINED = MildnetConfig(backbone="vgg16+efficientnet_lite0")


def build(config: MildnetConfig, preprocessing: Preprocessing) -> keras.Model:
    """Build MILDNet with fresh weights.

    Photos ``(B, size, size, 3)`` become ``(B, embedding_dim)`` of length 1. The backbone follows Keras's global dtype
    policy (``mixed_bfloat16`` doubles VGG's speed where the CPU can); pooling and the head always compute in
    ``float32``. The joined taps (1472 of VGG16's) are the output of the layer :data:`FEATURES`, the last Dense layer
    is :data:`HEAD`.
    """
    photos, pixels = photos_and_pixels(preprocessing)
    blocks = config.spec.apply(photos, pixels, config.width)
    pooled = [_pool(blocks[tap], tap, config) for tap in config.taps]
    if config.colour:
        pooled.append(LabHistogram(dtype="float32", name=COLOUR)(photos))
    x = joined(pooled, "taps" if config.shallow else FEATURES)
    x = dense_layers(x, config.hidden, config.dropout)
    if config.shallow:
        branches = joined(ranknet_branches(pixels, config.width), "shallow")
        x = joined([unit(branches, "shallow_unit"), unit(x, "deep_unit")])
    questions = Questions.of(config.to_dict())
    if config.guard:
        x = guarded_embedding(x, config.embedding_dim, config.guard, LENGTH if config.colour else 0, questions)
    else:
        x = embedding(x, config.embedding_dim, config.activation, questions)
    model = keras.Model(photos, x, name="mildnet_lite" if config.backbone == LITE.backbone else "mildnet")
    freeze(model, config.spec, config.frozen_through, config.frozen_batch_norm)
    return model


def _pool(block: keras.KerasTensor, tap: str, config: MildnetConfig) -> keras.KerasTensor:
    if len(block.shape) == 2:
        # An encoder's tap may be a vector already.
        x = keras.layers.Identity(dtype="float32", name=f"{tap}_vector")(block)
    elif config.pooling == "gem":
        x = GeneralizedMeanPooling2D(config.gem_power, dtype="float32", name=f"{tap}_gem")(block)
    elif config.pooling == "max":
        x = keras.layers.GlobalMaxPooling2D(dtype="float32", name=f"{tap}_max")(block)
    else:
        x = keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"{tap}_avg")(block)
    if config.tap_power != 1:
        x = PowerNormalization(config.tap_power, dtype="float32", name=f"{tap}_power")(x)
    if config.normalise_taps:
        x = unit(x, f"{tap}_unit")
    return x
