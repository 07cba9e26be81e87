"""What stands below a head: one backbone, or several side by side that look at the same photo.

The first backbone's layers and taps keep their names and its normalisation is the preprocessing's. Every other one's
bear its name in front (``efficientnet_lite0_block2``), so that none meets another's, and it normalises the photo by
numbers of its own, which came with its weights and are kept among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from shop_similarity.training.networks.backbones.registry import Backbone, get_backbone
from shop_similarity.training.networks.precision import dtype_policy
from shop_similarity.training.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD

# Between the names of backbones that are joined.
SEPARATOR = "+"
# The name of a backbone that a shop brings along; see shop_similarity.training.networks.encoders.
ENCODER = "encoder"
# The value of frozen_through that leaves the choice to each backbone.
DEFAULT = "default"
NORMALISATION = "normalisation"


@keras.saving.register_keras_serializable(package="shop_similarity")
class PixelNormalization(keras.layers.Layer):
    """``(x - mean) / std`` of each colour, by numbers that are weights and that training leaves alone.

    ``(B, H, W, 3)``, 0..255, to the same shape. :class:`keras.layers.Normalization` keeps a copy of its weights that
    ``set_weights`` does not renew.
    """

    def build(self, input_shape: tuple) -> None:
        def fixed(values: tuple[float, ...]) -> Callable[..., Any]:
            return lambda shape, dtype: keras.ops.convert_to_tensor(values, dtype)

        self.mean = self.add_weight(name="mean", shape=(3,), initializer=fixed(IMAGENET_MEAN), trainable=False)
        self.std = self.add_weight(name="std", shape=(3,), initializer=fixed(IMAGENET_STD), trainable=False)

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return (inputs - self.mean) / self.std

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@dataclass(frozen=True)
class Part:
    """One backbone of a trunk.

    Attributes:
        backbone: which.
        prefix: of the names of its layers and taps.
    """

    backbone: Backbone
    prefix: str = ""

    @property
    def taps(self) -> tuple[str, ...]:
        """Its taps from input to output."""
        return tuple(self.prefix + tap for tap in self.backbone.taps)

    @property
    def tap_layers(self) -> dict[str, str]:
        """Its taps, each with the layer whose output it is."""
        return {self.prefix + tap: self.prefix + layer for tap, layer in self.backbone.tap_layers.items()}

    @property
    def normalisation(self) -> str:
        """The layer that makes its pixels of the photo."""
        return self.prefix + NORMALISATION


@dataclass(frozen=True)
class Trunk:
    """One or more backbones in an order.

    Attributes:
        parts: the backbones.
    """

    parts: tuple[Part, ...]

    @property
    def title(self) -> str:
        """Its name for people."""
        return " and ".join(part.backbone.title for part in self.parts)

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps, of each backbone from input to output."""
        return tuple(tap for part in self.parts for tap in part.taps)

    @property
    def tap_layers(self) -> dict[str, str]:
        """The taps, each with the layer whose output it is."""
        return {tap: layer for part in self.parts for tap, layer in part.tap_layers.items()}

    @property
    def default_taps(self) -> tuple[str, ...]:
        """Those that MILDNet listens to unless told otherwise."""
        return tuple(
            part.prefix + tap for part in self.parts for tap in part.backbone.default_taps or part.backbone.taps
        )

    @property
    def signed_taps(self) -> frozenset[str]:
        """Those whose numbers may be negative."""
        return frozenset(part.prefix + tap for part in self.parts for tap in part.backbone.signed_taps)

    @property
    def depthwise(self) -> bool:
        """Whether it consists of depthwise convolutions alone."""
        return all(part.backbone.depthwise for part in self.parts)

    @property
    def divides(self) -> bool:
        """Whether training can begin within it, and not only before or behind."""
        return len(set(self.tap_layers.values())) > 1

    @property
    def is_exact(self) -> bool:
        """Whether one of them is computed in ``float32`` everywhere."""
        return any(part.backbone.is_exact for part in self.parts)

    def part_of(self, name: str) -> Part:
        """The backbone that a layer or tap belongs to, by its name."""
        return next(part for part in reversed(self.parts) if name.startswith(part.prefix))

    def filters(self, tap: str, width: float = 1.0) -> int:
        """Number of filters of a tap in a net of the given relative width."""
        part = self.part_of(tap)
        return part.backbone.filters(tap.removeprefix(part.prefix), width)

    def below(self, tap: str) -> str | None:
        """What training leaves alone when it begins with a tap's block: the tap before, in the same backbone.

        For a backbone's first tap that is its normalisation; ``None`` where there is only one backbone.
        """
        part = self.part_of(tap)
        place = part.taps.index(tap)
        if place:
            return part.taps[place - 1]
        return part.normalisation if len(self.parts) > 1 else None

    def last_frozen(self, through: str | None) -> list[str]:
        """The layers up to which training leaves a model alone.

        Args:
            through: ``None`` for nothing; :data:`DEFAULT` for each backbone's own choice; else a layer or a tap. All
                of the backbones that it does not belong to is left alone then.
        """
        if through is None:
            return []
        if through == DEFAULT:
            chosen = [(part.prefix, part.backbone.frozen_through) for part in self.parts]
            return [prefix + layer for prefix, layer in chosen if layer is not None]
        own = self.part_of(through)
        others = [list(part.tap_layers.values())[-1] for part in self.parts if part != own]
        return [self.tap_layers.get(through, through), *others]

    def layer_names(self) -> list[str]:
        """The names of all layers of the backbones."""
        return [
            part.prefix + name
            for part in self.parts
            for name in part.backbone.layers or [layer.name for layer in part.backbone.model(width=0.01).layers]
        ]

    def apply(
        self, photos: keras.KerasTensor, pixels: keras.KerasTensor, width: float = 1.0
    ) -> dict[str, keras.KerasTensor]:
        """Add the backbones to a graph.

        They follow Keras's dtype policy. A backbone of depthwise convolutions beside others computes in ``float32``
        under ``mixed_bfloat16``, by which it would be slower.

        Args:
            photos: ``(B, H, W, 3)``, RGB, 0..255.
            pixels: the same with the first backbone's normalisation.
            width: share of the filters; below 1 only for tests.

        Returns:
            The output of every tap by its name.
        """
        taps: dict[str, Any] = {}
        for part in self.parts:
            policy: Any = keras.config.dtype_policy()
            if part.prefix:
                pixels = PixelNormalization(dtype="float32", name=part.normalisation)(photos)
            if len(self.parts) > 1 and part.backbone.depthwise and policy.name == "mixed_bfloat16":
                policy = "float32"
            with dtype_policy(policy):
                found = part.backbone.apply(pixels, width, part.prefix)
            taps |= {part.prefix + tap: output for tap, output in found.items()}
        return taps


def get_trunk(name: str, encoder: Mapping[str, Any] | None = None) -> Trunk:
    """The trunk of a backbone's name, or of several names with ``+`` between them: ``vgg16+efficientnet_lite0``.

    Args:
        name: of known backbones, or :data:`ENCODER`.
        encoder: of that one, what :class:`~shop_similarity.training.networks.encoders.spec.EncoderSpec` is made of.

    Raises:
        ValueError: for an unknown backbone, or one that stands there twice.
    """
    if (name == ENCODER) != (encoder is not None):
        raise ValueError(
            "The options encoder and backbone=encoder belong together. `calibrate_mildnet --backbone` sets both; train "
            "what it made with --fine-tune."
        )
    if encoder is not None:
        from shop_similarity.training.networks.encoders.spec import EncoderSpec

        return Trunk((Part(EncoderSpec.from_dict(encoder).backbone()),))
    names = str(name).split(SEPARATOR)
    if len(set(names)) != len(names):
        raise ValueError(f"A backbone can't be joined to itself: {name!r}.")
    first, *others = (get_backbone(each) for each in names)
    return Trunk((Part(first), *(Part(backbone, f"{backbone.name}_") for backbone in others)))
