"""Who carries MobileNet's ImageNet weights: Keras itself, and nobody else that is known.

Keras publishes no hash of this file. What arrives over HTTPS is taken if it is HDF5 with every layer in its shape.
"""

from __future__ import annotations

from pathlib import Path

from shop_similarity.training.networks.backbones.mobilenet import PAIRS
from shop_similarity.training.networks.backbones.sources import (
    KERAS_HOST,
    Pretrained,
    Progress,
    keras_download,
    read_keras_layers,
)

# Keras scales MobileNet's input to -1..1.
MEAN = (127.5, 127.5, 127.5)
STD = (127.5, 127.5, 127.5)

KERAS_FILE = "mobilenet_1_0_224_tf_no_top.h5"
KERAS_URL = f"{KERAS_HOST}mobilenet/{KERAS_FILE}"

FILES = "the HDF5 file of keras.applications.MobileNet"
ADVICE = f"Fetch {KERAS_FILE} (Keras) on another machine"

_UNITS = ("conv1", *(f"conv_{kind}_{number}" for number in range(1, len(PAIRS) + 1) for kind in ("dw", "pw")))
LAYERS = tuple(name for unit in _UNITS for name in (unit, f"{unit}_bn"))


def from_keras_file(path: Path, source: str | None = None) -> Pretrained:
    """Read the HDF5 file of ``keras.applications.MobileNet`` (with or without its top).

    Raises:
        SourceError: if the file is not that.
    """
    source = source or f"the file {path.name}"
    return Pretrained(read_keras_layers(path, LAYERS, "MobileNet", source), MEAN, STD, source)


def from_keras_host(progress: Progress, url: str = KERAS_URL, timeout: float = 5) -> Pretrained:
    """Download Keras's own ``imagenet`` weights, or take the copy that Keras keeps in the user's home.

    Raises:
        SourceError: if the host does not answer or the file is not MobileNet's.
    """
    with keras_download("MobileNet", url, None, progress, timeout) as (path, source):
        return from_keras_file(path, source)


def from_file(path: Path) -> Pretrained | None:
    """No file of another format is known."""
    return None


REMOTE = (from_keras_host,)
