"""Architectures by name: what a stored model version is rebuilt from.

Every architecture is a module with ``build(config, preprocessing) -> keras.Model``. The model takes photos
``(B, size, size, 3)``, RGB, 0..255, ``uint8`` or ``float32``, and returns ``float32`` embeddings
``(B, embedding_dim)`` of length 1. Normalisation of the pixels is part of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from training.architectures import mildnet
from training.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

ARCHITECTURES: dict[str, Callable[[Mapping[str, Any], Preprocessing], keras.Model]] = {"mildnet": mildnet.build}


def build(architecture: str, config: Mapping[str, Any], preprocessing: Preprocessing) -> keras.Model:
    """Build an architecture with fresh weights.

    Args:
        architecture: a key of :data:`ARCHITECTURES`.
        config: the architecture's own options; missing ones have defaults.
        preprocessing: gives the input's size and the normalisation that is built in.

    Raises:
        ValueError: for an unknown architecture, an unknown option or a wrong value.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"Unknown architecture {architecture!r}. Known: {', '.join(sorted(ARCHITECTURES))}.")
    return ARCHITECTURES[architecture](config, preprocessing)
