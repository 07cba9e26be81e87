"""What a runtime does for the embedder. Two ship, TensorFlow and OpenVINO; the setting ``RUNTIME`` chooses.

A version's vectors of one runtime stand beside those of another in one search, so a runtime must give the same ones:
cosines of .9999 or more with those of TensorFlow in ``float32``. What is further off (int8) needs the proof of
:mod:`shop_similarity.workers.runtimes.quantization`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from shop_similarity.models import ModelVersion

EXACT = "float32"
"""The precision in which nothing overflows that does not overflow in every other."""

Step = Callable[[np.ndarray], np.ndarray]
"""Photos ``(B, size, size, 3)``, ``uint8``, to embeddings ``(B, 4096)``, ``float32``, each of length 1 or nearly."""


class Network(Protocol):
    """A version's network in memory, in one precision.

    Attributes:
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"``.
        step_size: photos that are best computed at once here. A shopper's photo waits for a step to end.
    """

    precision: str
    step_size: int

    def step(self, size: int) -> Step:
        """A function of ``size`` photos or fewer. It is called by one thread at a time, and must let others run."""
        ...


class Runtime(Protocol):
    """Loads networks. It is made without arguments and used by all threads of a process.

    Attributes:
        name: for logs.
    """

    name: str

    def check(self) -> None:
        """Do nothing where the runtime can be used here. It is asked before a worker starts, and imports nothing heavy.

        Raises:
            TrainingError: it can't; the sentence says what to do.
        """
        ...

    def load(self, version: ModelVersion, precision: str | None = None) -> Network:
        """Load a version's network.

        Args:
            version: a stored version.
            precision: :data:`EXACT`, or None for the fastest that may be used here.

        Raises:
            TrainingError: it can't be loaded; the sentence says what to do.
        """
        ...


class FindsObjects(Protocol):
    """What a runtime may do besides. For one that does not, TensorFlow finds the objects of shoppers' photos."""

    def load_saliency(self, content: bytes) -> Step:
        """Load U2-Net-p.

        Args:
            content: of its file, whose sha256 was compared
                (:mod:`shop_similarity.training.networks.saliency.weights`).

        Returns:
            A function of one photo: ``(1, 320, 320, 3)``, ``uint8``, to ``(1, 320, 320)``, 0 to 1.

        Raises:
            TrainingError: it can't be loaded; the sentence says what to do.
        """
        ...
