"""Which devices this process computes on, and how much of their memory it takes: for commands and workers alike."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from shop_similarity.training.errors import TrainingError

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(CPU|GPU):(0|[1-9][0-9]{0,3})")


class DeviceError(TrainingError):
    """Devices that can't be computed on; the sentence says which there are."""


def share_gpus() -> None:
    """Have TensorFlow take GPU memory as it needs it, not all at once, so that other processes find some."""
    import tensorflow as tf

    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            # TensorFlow has been used in this process before and has its settings.
            logger.debug("GPU memory growth is settled already.")


def use_devices(names: Sequence[str]) -> list[str]:
    """Compute on these devices alone, in this process from now on; other GPUs are hidden from it.

    Args:
        names: such as ``["GPU:0", "GPU:1"]``, all of one kind; none leaves everything that there is.

    Returns:
        What the same devices are called from now on, for TensorFlow numbers those that it sees.

    Raises:
        DeviceError: there is no such device, or TensorFlow has begun with others.
    """
    share_gpus()
    if not names:
        return []
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    kind, numbers = parse_devices(names, {"CPU": _cpus(), "GPU": len(gpus)})
    try:
        tf.config.set_visible_devices([gpus[number] for number in numbers] if kind == "GPU" else [], "GPU")
    except RuntimeError as error:
        raise DeviceError(
            f"This process has begun to compute on other devices than {' and '.join(names)}. Start the command in a "
            "process of its own."
        ) from error
    return [f"{kind}:{number}" for number in (range(len(numbers)) if kind == "GPU" else numbers)]


def parse_devices(names: Sequence[str], counts: dict[str, int]) -> tuple[str, list[int]]:
    """The kind and the numbers of devices that are named.

    Args:
        names: at least one.
        counts: how many there are of each kind.

    Raises:
        DeviceError: one is not there or is named twice, or they are of different kinds.
    """
    there = [f"{kind}:{number}" for kind, count in counts.items() for number in range(count)]
    parsed = [match for name in names if (match := _NAME.fullmatch(name.upper())) and match[0] in there]
    known = {match[0] for match in parsed}
    unknown = [name for name in names if name.upper() not in known]
    if unknown:
        no_gpu = "" if counts.get("GPU") else " TensorFlow sees no GPU: look at its driver and CUDA_VISIBLE_DEVICES."
        raise DeviceError(
            f"There is no device {', '.join(unknown)} here. There {'is' if len(there) == 1 else 'are'} "
            f"{', '.join(there)}: name one like that, or several with spaces between them.{no_gpu}"
        )
    kinds, numbers = {match[1] for match in parsed}, sorted({int(match[2]) for match in parsed})
    if len(kinds) > 1 or len(numbers) < len(names):
        raise DeviceError(f"{' '.join(names)} can't be computed on together: name each once, all CPU or all GPU.")
    return kinds.pop(), numbers


def _cpus() -> int:
    """A CPU may have been cut into several devices before, as tests do."""
    import tensorflow as tf

    cpus = tf.config.list_physical_devices("CPU")
    return sum(len(tf.config.get_logical_device_configuration(cpu) or [cpu]) for cpu in cpus)
