"""Backbones by name: how each is built, what can be tapped of it, and where its weights come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import keras

from shop_similarity.training.networks.backbones import (
    efficientnet_lite0,
    efficientnet_lite0_sources,
    mobilenet,
    mobilenet_sources,
    vgg,
    vgg16,
    vgg16_sources,
    vgg19,
    vgg19_sources,
)


@dataclass(frozen=True)
class Backbone:
    """A convolutional network without its top.

    Attributes:
        name: key of :data:`BACKBONES`.
        title: its name for people, and in ``keras.applications`` where it is there.
        tap_layers: the taps (places to listen at) from input to output, each with the layer whose output it is.
        apply: adds its layers to normalised images ``(B, H, W, 3)`` and returns the output of every tap; called as
            ``apply(pixels, width)``.
        filters: number of filters of a tap, called as ``filters(tap, width)``.
        sources: the module that reads its pretrained weights.
        frozen_through: the last layer that training leaves alone unless told otherwise, or ``None``.
        signed_taps: those whose numbers may be negative.
        depthwise: whether it consists of depthwise convolutions, which bfloat16 makes slower on a CPU.
    """

    name: str
    title: str
    tap_layers: Mapping[str, str]
    apply: Callable[[keras.KerasTensor, float], dict[str, keras.KerasTensor]]
    filters: Callable[[str, float], int]
    sources: ModuleType
    frozen_through: str | None = None
    signed_taps: frozenset[str] = frozenset()
    depthwise: bool = False

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps from input to output; the last is the backbone's output."""
        return tuple(self.tap_layers)

    def model(self, size: int | None = None, width: float = 1.0) -> keras.Model:
        """The backbone alone, as a model from normalised images ``(B, size, size, 3)`` to its last tap."""
        pixels = keras.Input((size, size, 3), name="pixels")
        return keras.Model(pixels, self.apply(pixels, width)[self.taps[-1]], name=self.name)


_VGG_TAPS = {tap: tap for tap in vgg.TAPS}

BACKBONES: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        Backbone("vgg16", "VGG16", _VGG_TAPS, vgg16.vgg16_blocks, vgg.tap_filters, vgg16_sources, "block3_conv3"),
        Backbone("vgg19", "VGG19", _VGG_TAPS, vgg19.vgg19_blocks, vgg.tap_filters, vgg19_sources, "block3_conv3"),
        Backbone(
            "mobilenet",
            "MobileNet",
            mobilenet.TAP_LAYERS,
            mobilenet.mobilenet_taps,
            mobilenet.filters,
            mobilenet_sources,
            "conv_pw_11_relu",
            depthwise=True,
        ),
        Backbone(
            "efficientnet_lite0",
            "EfficientNet-Lite0",
            efficientnet_lite0.TAP_LAYERS,
            efficientnet_lite0.efficientnet_lite0_taps,
            efficientnet_lite0.filters,
            efficientnet_lite0_sources,
            "top_activation",
            signed_taps=efficientnet_lite0.SIGNED_TAPS,
            depthwise=True,
        ),
    )
}


def get_backbone(name: str) -> Backbone:
    """The backbone of that name.

    Raises:
        ValueError: if there is none.
    """
    if name not in BACKBONES:
        raise ValueError(f"Unknown backbone {name!r}. Known: {', '.join(BACKBONES)}.")
    return BACKBONES[name]
