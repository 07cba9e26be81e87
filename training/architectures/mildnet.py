"""MILDNet (Vishvakarma, arXiv 1903.00905): one VGG16 whose blocks are all listened to.

The paper pools block5, block1, block2, block3 and block4 (in that order, 1472 numbers), joins them, and maps them by
Dense 2048 ReLU, Dropout 0.6, Dense 2048 ReLU to an embedding of length 1. Ours differs where the paper's form would
not serve:

- 4096 dimensions, and the last layer is linear. A ReLU end leaves no negative coordinate, so that the sign codes that
  search candidates come from would say nothing.
- Each tap is brought to length 1 before joining. Joined raw, the middle blocks, whose numbers are largest, drown the
  others.
- The inputs are normalised as the pretrained weights expect it, inside the model.
- Without a hidden layer, the head is one linear map. Calibration can then set it so that the untrained model is as good
  as its features are (:mod:`training.calibration`).

The paper's own form is :data:`PAPER`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import keras

from training.backbones.vgg16 import TAPS, filters, vgg16_blocks
from training.preprocessing import Preprocessing

POOLINGS = ("avg", "max", "gem")
HEAD = "embedding"
FEATURES = "features"


@dataclass(frozen=True, slots=True)
class MildnetConfig:
    """Options of MILDNet.

    Attributes:
        taps: the blocks that are pooled, in the order in which they are joined.
        pooling: ``"avg"``, ``"max"``, or ``"gem"`` (generalised mean, :class:`GeneralizedMeanPooling2D`).
        gem_power: exponent of ``"gem"``.
        tap_power: every pooled number is raised to this power before it is joined; 1 leaves it alone.
        normalise_taps: whether each pooled tap is brought to length 1 before joining.
        hidden: widths of the ReLU layers before the last one.
        dropout: rate after each hidden layer.
        embedding_dim: length of the embedding.
        activation: of the last layer.
        frozen_through: the last backbone layer that training leaves alone, or ``None``.
        width: share of VGG16's filters; below 1 only for tests.

    Raises:
        ValueError: for a value that cannot be built.
    """

    taps: tuple[str, ...] = TAPS
    pooling: str = "avg"
    gem_power: float = 3.0
    tap_power: float = 1.0
    normalise_taps: bool = True
    hidden: tuple[int, ...] = ()
    dropout: float = 0.6
    embedding_dim: int = 4096
    activation: str = "linear"
    frozen_through: str | None = "block3_conv3"
    width: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", tuple(self.taps))
        object.__setattr__(self, "hidden", tuple(self.hidden))
        unknown = sorted(set(self.taps) - set(TAPS))
        if unknown or not self.taps or len(set(self.taps)) != len(self.taps):
            raise ValueError(f"taps must be different ones of {', '.join(TAPS)}, not {list(self.taps)!r}.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, not {self.pooling!r}.")
        for name in ("gem_power", "tap_power", "width"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)!r}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout!r}.")
        if self.embedding_dim < 1 or any(width < 1 for width in self.hidden):
            raise ValueError("embedding_dim and the hidden widths must be positive.")

    @property
    def tap_lengths(self) -> dict[str, int]:
        """Numbers of each pooled tap, in the order in which they are joined."""
        return {tap: filters(TAPS.index(tap) + 1, self.width) for tap in self.taps}

    @property
    def feature_dim(self) -> int:
        """Length of the joined taps."""
        return sum(self.tap_lengths.values())

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MildnetConfig:
        """Read back what :meth:`to_dict` wrote; missing keys take their defaults.

        Raises:
            ValueError: for an unknown key or a wrong value.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown MILDNet option: {', '.join(unknown)}.")
        return cls(**values)


# The paper's form (section 4 and the authors' code): 21,927,744 parameters.
PAPER = MildnetConfig(
    taps=("block5_pool", "block1_pool", "block2_pool", "block3_pool", "block4_pool"),
    normalise_taps=False,
    hidden=(2048,),
    embedding_dim=2048,
    activation="relu",
)


@keras.saving.register_keras_serializable(package="shop_similarity")
class GeneralizedMeanPooling2D(keras.layers.Layer):
    """Generalised mean over the positions (Radenovic et al., arXiv 1711.02512, eq. 3) with a fixed exponent.

    ``(B, H, W, C)`` of non-negative numbers becomes ``(B, C)``; exponent 1 is the average, infinity the maximum.
    """

    def __init__(self, power: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.power = power

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        # Zero has no finite gradient under the outer root.
        raised = keras.ops.power(keras.ops.maximum(inputs, 1e-6), self.power)
        return keras.ops.power(keras.ops.mean(raised, axis=(1, 2)), 1.0 / self.power)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable(package="shop_similarity")
class PowerNormalization(keras.layers.Layer):
    """Raises non-negative numbers to a fixed power (Perronnin et al., ECCV 2010, section 3.1).

    A power below 1 keeps a few large activations from deciding the cosine alone.
    """

    def __init__(self, power: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.power = power

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.power(keras.ops.maximum(inputs, 1e-12), self.power)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


def build(config: Mapping[str, Any] | MildnetConfig, preprocessing: Preprocessing) -> keras.Model:
    """Build MILDNet with fresh weights.

    The backbone follows Keras's global dtype policy (``mixed_bfloat16`` doubles its speed where the CPU can); pooling
    and the head always compute in ``float32``. The joined taps are the output of the layer :data:`FEATURES`, the
    last Dense layer is :data:`HEAD`.

    Raises:
        ValueError: for an unknown option or a wrong value.
    """
    if not isinstance(config, MildnetConfig):
        config = MildnetConfig.from_dict(config)
    photos = keras.Input((preprocessing.size, preprocessing.size, 3), dtype="float32", name="photos")
    variance = [value**2 for value in preprocessing.std]
    x = keras.layers.Normalization(
        mean=list(preprocessing.mean), variance=variance, dtype="float32", name="normalisation"
    )(photos)
    blocks = vgg16_blocks(x, config.width)
    pooled = [_pool(blocks[tap], tap, config) for tap in config.taps]
    x = keras.layers.Concatenate(dtype="float32", name=FEATURES)(pooled) if len(pooled) > 1 else pooled[0]
    if len(pooled) == 1:
        x = keras.layers.Identity(dtype="float32", name=FEATURES)(x)
    for number, width in enumerate(config.hidden, start=1):
        x = keras.layers.Dense(width, activation="relu", dtype="float32", name=f"hidden{number}")(x)
        x = keras.layers.Dropout(config.dropout, dtype="float32", name=f"dropout{number}")(x)
    x = keras.layers.Dense(config.embedding_dim, activation=config.activation, dtype="float32", name=HEAD)(x)
    x = keras.layers.UnitNormalization(dtype="float32", name="unit_length")(x)
    model = keras.Model(photos, x, name="mildnet")
    if config.frozen_through is not None:
        _freeze(model, config.frozen_through)
    return model


def feature_model(model: keras.Model) -> keras.Model:
    """The same model up to the joined taps, which is what calibration is fitted on: ``(B, feature_dim)``."""
    return keras.Model(model.input, model.get_layer(FEATURES).output, name="mildnet_features")


def _pool(block: keras.KerasTensor, tap: str, config: MildnetConfig) -> keras.KerasTensor:
    if config.pooling == "gem":
        x = GeneralizedMeanPooling2D(config.gem_power, dtype="float32", name=f"{tap}_gem")(block)
    elif config.pooling == "max":
        x = keras.layers.GlobalMaxPooling2D(dtype="float32", name=f"{tap}_max")(block)
    else:
        x = keras.layers.GlobalAveragePooling2D(dtype="float32", name=f"{tap}_avg")(block)
    if config.tap_power != 1:
        x = PowerNormalization(config.tap_power, dtype="float32", name=f"{tap}_power")(x)
    if config.normalise_taps:
        x = keras.layers.UnitNormalization(dtype="float32", name=f"{tap}_unit")(x)
    return x


def _freeze(model: keras.Model, last: str) -> None:
    names = [layer.name for layer in model.layers]
    if last not in names:
        raise ValueError(f"frozen_through names no layer of the model: {last!r}.")
    for layer in model.layers[: names.index(last) + 1]:
        layer.trainable = False
