"""Backbones by name: how each is built, what can be tapped of it, and where its weights come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras

from shop_similarity.training.networks.backbones import (
    efficientnet_lite,
    mobilenet,
    mobilenet_sources,
    vgg,
    vgg16,
    vgg16_sources,
    vgg19,
    vgg19_sources,
)
from shop_similarity.training.networks.backbones.efficientnet_lite_sources import (
    LITE0_PACKAGE,
    LITE2_PACKAGE,
    LitePackage,
)
from shop_similarity.training.networks.backbones.sources import Pretrained, Progress


class Sources(Protocol):
    """Where a backbone's pretrained weights come from: a module, or an object.

    Attributes:
        REMOTE: what fetches them, to be tried in turn.
        FILES: what a user may name instead, for people.
        ADVICE: what to do where they can't be fetched.
    """

    @property
    def REMOTE(self) -> Sequence[Callable[[Progress], Pretrained]]: ...

    @property
    def FILES(self) -> str: ...

    @property
    def ADVICE(self) -> str: ...

    def from_file(self, path: Path) -> Pretrained | None:
        """Read a file that a user names and that is no HDF5; ``None`` if it is of no known kind.

        Raises:
            SourceError: if it is of a known kind and cannot be read.
        """

    def from_keras_file(self, path: Path) -> Pretrained:
        """Read the HDF5 file of ``keras.applications``.

        Raises:
            SourceError: if it is not that.
        """


@dataclass(frozen=True)
class Backbone:
    """A convolutional network without its top.

    Attributes:
        name: key of :data:`BACKBONES`.
        title: its name for people, and in ``keras.applications`` where it is there.
        tap_layers: the taps (places to listen at) from input to output, each with the layer whose output it is.
        apply: adds its layers to normalised images ``(B, H, W, 3)`` and returns the output of every tap; called as
            ``apply(pixels, width, prefix)`` with the share of the filters (1 by default) and what the layers' names
            begin with (nothing by default).
        filters: number of filters of a tap, called as ``filters(tap, width)``.
        sources: reads its pretrained weights; ``None`` where they are brought along
            (:mod:`shop_similarity.training.networks.encoders`).
        frozen_through: the last layer that training leaves alone unless told otherwise, or ``None``.
        default_taps: those that MILDNet listens to unless told otherwise; empty for all.
        signed_taps: those whose numbers may be negative.
        depthwise: whether it consists of depthwise convolutions, which bfloat16 makes slower on a CPU.
        size: side in pixels of the photos that its published weights were trained on.
        is_exact: whether it is computed in ``float32`` everywhere, for nobody has measured what less does to it.
        layers: names of its layers, where they are known without building it.
    """

    name: str
    title: str
    tap_layers: Mapping[str, str]
    apply: Callable[..., dict[str, keras.KerasTensor]]
    filters: Callable[[str, float], int]
    sources: Sources | None
    frozen_through: str | None = None
    default_taps: tuple[str, ...] = ()
    signed_taps: frozenset[str] = frozenset()
    depthwise: bool = False
    size: int = 224
    is_exact: bool = False
    layers: tuple[str, ...] = ()

    @property
    def taps(self) -> tuple[str, ...]:
        """The taps from input to output; the last is the backbone's output."""
        return tuple(self.tap_layers)

    def model(self, size: int | None = None, width: float = 1.0) -> keras.Model:
        """The backbone alone, as a model from normalised images ``(B, size, size, 3)`` to its last tap."""
        pixels = keras.Input((size, size, 3), name="pixels")
        return keras.Model(pixels, self.apply(pixels, width)[self.taps[-1]], name=self.name)


_VGG_TAPS = {tap: tap for tap in vgg.TAPS}


def _lite(name: str, package: LitePackage) -> Backbone:
    network = package.network
    return Backbone(
        name,
        package.title,
        network.tap_layers,
        network.apply,
        network.filters,
        package,
        "top_activation",
        default_taps=efficientnet_lite.DEFAULT_TAPS,
        signed_taps=efficientnet_lite.SIGNED_TAPS,
        depthwise=True,
        size=network.size,
    )


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
        _lite("efficientnet_lite0", LITE0_PACKAGE),
        _lite("efficientnet_lite2", LITE2_PACKAGE),
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
