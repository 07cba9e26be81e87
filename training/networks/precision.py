"""Which precision the backbone computes in on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shop_similarity.training.networks.backbones.trunk import Trunk

CPUINFO = Path("/proc/cpuinfo")


def cpu_multiplies_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this CPU has instructions for bfloat16; without them it is slower than ``float32``."""
    return _has_one_of(cpuinfo, "avx512_bf16", "amx_bf16")


def cpu_multiplies_int8(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this CPU has instructions that add up products of int8 without overflow."""
    return _has_one_of(cpuinfo, "avx512_vnni", "avx_vnni", "amx_int8")


def _has_one_of(cpuinfo: Path, *flags: str) -> bool:
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(flag in text for flag in flags)


def fast_policy(backbone: str | Trunk = "vgg16") -> str:
    """The Keras dtype policy that is fastest here and still exact enough to embed with.

    Args:
        backbone: one or several, as :func:`shop_similarity.training.networks.backbones.get_trunk` takes them, or what
            it gives; bfloat16 makes depthwise convolutions slower on a CPU.

    Raises:
        ValueError: for an unknown backbone.
    """
    import tensorflow as tf

    from shop_similarity.training.networks.backbones.trunk import get_trunk

    trunk = get_trunk(backbone) if isinstance(backbone, str) else backbone
    if trunk.is_exact:
        return "float32"
    if tf.config.get_visible_devices("GPU"):
        return "mixed_float16"
    if trunk.depthwise:
        return "float32"
    return "mixed_bfloat16" if cpu_multiplies_bfloat16() else "float32"


def saliency_policy() -> str:
    """The Keras dtype policy in which the objects of a photo are found.

    bfloat16 halves the time where the CPU multiplies it. In 95 of a hundred photos it moves no edge of the largest box
    by more than two per cent of the photo (``docs/visual_search.md``).
    """
    import tensorflow as tf

    if tf.config.get_visible_devices("GPU") or not cpu_multiplies_bfloat16():
        return "float32"
    return "mixed_bfloat16"


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build models under a Keras dtype policy, and put the former one back."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
