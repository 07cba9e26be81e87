"""Architectures by name: what a stored model version is rebuilt from.

Every architecture takes photos ``(B, size, size, 3)``, RGB, 0..255, ``uint8`` or ``float32``, and returns ``float32``
embeddings ``(B, embedding_dim)`` of length 1. Normalisation of the pixels is part of the model. The layer
:data:`FEATURES` gives what the last layers are fed with (of MILDNet the joined taps, of the others the join of deep and
shallow), :data:`HEAD` is the last Dense layer. Layers that training leaves alone have ``trainable`` set to ``False``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_similarity.training.networks.architectures import mildnet, ranknet, visnet
from shop_similarity.training.networks.architectures.parts import FEATURES, HEAD, Config, feature_model
from shop_similarity.training.networks.backbones.trunk import ENCODER, Trunk, get_trunk
from shop_similarity.training.networks.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

__all__ = [
    "ARCHITECTURES",
    "FEATURES",
    "HEAD",
    "Architecture",
    "backbone_of",
    "build",
    "feature_model",
    "full_config",
    "trunk_of",
]


@dataclass(frozen=True)
class Architecture:
    """How one architecture is built.

    Attributes:
        build: from a whole configuration and preprocessing to the model.
        options: the class of its configurations.
        backbone: the one that each of them has; ``None`` where they may choose.
    """

    build: Callable[[Any, Preprocessing], keras.Model]
    options: type[Config]
    backbone: str | None = None


ARCHITECTURES: dict[str, Architecture] = {
    "mildnet": Architecture(mildnet.build, mildnet.MildnetConfig),
    "mildnet-encoder": Architecture(mildnet.build, mildnet.MildnetConfig, ENCODER),
    "mildnet-joined": Architecture(mildnet.build, mildnet.MildnetConfig, mildnet.JOINED.backbone),
    "mildnet-lite": Architecture(mildnet.build, mildnet.MildnetConfig, mildnet.LITE.backbone),
    "mildnet-lite2": Architecture(mildnet.build, mildnet.MildnetConfig, mildnet.LITE2.backbone),
    "ranknet": Architecture(ranknet.build, ranknet.RanknetConfig),
    "visnet": Architecture(visnet.build, visnet.VisnetConfig),
    "visnet-fynd": Architecture(visnet.build_fynd, visnet.FyndVisnetConfig),
}


def build(architecture: str, config: Mapping[str, Any], preprocessing: Preprocessing) -> keras.Model:
    """Build an architecture with fresh weights.

    Args:
        architecture: a key of :data:`ARCHITECTURES`.
        config: the architecture's own options; missing ones have defaults.
        preprocessing: gives the input's size and the normalisation that is built in.

    Raises:
        ValueError: for an unknown architecture, an unknown option or a wrong value.
    """
    return _get(architecture).build(full_config(architecture, config), preprocessing)


def full_config(architecture: str, config: Mapping[str, Any]) -> Config:
    """The whole configuration: the given options, and defaults for the others.

    Raises:
        ValueError: as :func:`build`.
    """
    known = _get(architecture)
    values = dict(config)
    if known.backbone and values.setdefault("backbone", known.backbone) != known.backbone:
        raise ValueError(f"{architecture} has the backbone {known.backbone}, not {values['backbone']!r}.")
    return known.options.from_dict(values)


def backbone_of(architecture: str, config: Mapping[str, Any]) -> str:
    """The backbone of a configuration, or several with ``+`` between them, as
    :func:`shop_similarity.training.networks.backbones.get_trunk` takes them.

    Raises:
        ValueError: as :func:`build`.
    """
    return full_config(architecture, config).backbone


def trunk_of(architecture: str, config: Mapping[str, Any]) -> Trunk:
    """The backbone of a configuration, or several; none is built yet.

    Raises:
        ValueError: as :func:`build`.
    """
    whole = full_config(architecture, config)
    return get_trunk(whole.backbone, getattr(whole, "encoder", None))


def _get(architecture: str) -> Architecture:
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown architecture {architecture!r}. Known: {', '.join(sorted(ARCHITECTURES))}.")
    return ARCHITECTURES[architecture]
