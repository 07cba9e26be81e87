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
]


@dataclass(frozen=True)
class Architecture:
    """How one architecture is built.

    Attributes:
        build: from a whole configuration and preprocessing to the model.
        default: the configuration without any option.
        backbone_is_fixed: whether the configuration may not name another backbone.
    """

    build: Callable[[Any, Preprocessing], keras.Model]
    default: Config
    backbone_is_fixed: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "mildnet": Architecture(mildnet.build, mildnet.MildnetConfig()),
    "mildnet-joined": Architecture(mildnet.build, mildnet.JOINED, backbone_is_fixed=True),
    "mildnet-lite": Architecture(mildnet.build, mildnet.LITE, backbone_is_fixed=True),
    "mildnet-lite2": Architecture(mildnet.build, mildnet.LITE2, backbone_is_fixed=True),
    "ranknet": Architecture(ranknet.build, ranknet.RanknetConfig()),
    "visnet": Architecture(visnet.build, visnet.VisnetConfig()),
    "visnet-fynd": Architecture(visnet.build_fynd, visnet.FyndVisnetConfig()),
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
    if known.backbone_is_fixed:
        fixed = known.default.backbone
        if values.setdefault("backbone", fixed) != fixed:
            raise ValueError(f"{architecture} has the backbone {fixed}, not {values['backbone']!r}.")
    return type(known.default).from_dict(values)


def backbone_of(architecture: str, config: Mapping[str, Any]) -> str:
    """The backbone of a configuration, or several with ``+`` between them, as
    :func:`shop_similarity.training.networks.backbones.get_trunk` takes them.

    Raises:
        ValueError: as :func:`build`.
    """
    return full_config(architecture, config).backbone


def _get(architecture: str) -> Architecture:
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown architecture {architecture!r}. Known: {', '.join(sorted(ARCHITECTURES))}.")
    return ARCHITECTURES[architecture]
