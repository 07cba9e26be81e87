"""Networks computed by OpenVINO on the CPU, small ones faster than TensorFlow computes them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from shop_similarity.training.extras import require
from shop_similarity.training.networks.precision import cpu_multiplies_bfloat16
from shop_similarity.training.networks.saliency.weights import MEAN, STD
from shop_similarity.workers.runtimes.converted import converted, silence
from shop_similarity.workers.runtimes.interface import EXACT, Step
from shop_similarity.workers.runtimes.quantization import proven

if TYPE_CHECKING:
    import openvino

    from shop_similarity.models import ModelVersion

logger = logging.getLogger(__name__)

# See the step of TensorFlow. A quick network spends so little on four photos that nobody waits for them.
_STEP, _QUICK_STEP = 2, 4
# Weights of the convolutions of a network that is quick: MILDNet-Lite's have 3 million, VGG16's 15 million.
_QUICK_WEIGHTS = 8_000_000
_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}


class OpenVINONetwork:
    """A converted network; see :class:`~shop_similarity.workers.runtimes.interface.Network`."""

    def __init__(self, model: openvino.Model, precision: str) -> None:
        self.precision = precision
        self.step_size = _step_size(model)
        self._model = model

    def step(self, size: int) -> Step:
        import openvino

        model = self._model.clone()
        model.reshape([size, *(length.get_length() for length in list(model.input(0).partial_shape)[1:])])
        # Of one stream all threads compute one step: as many as there are cores, as TensorFlow's.
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _hint(self.precision)}
        request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

        def step(photos: np.ndarray) -> np.ndarray:
            count = len(photos)
            if count < size:
                photos = np.pad(photos, [(0, size - count), (0, 0), (0, 0), (0, 0)])
            # The result is the request's own memory, which the next step overwrites.
            return request.infer({0: np.ascontiguousarray(photos)}, share_inputs=True)[0][:count].copy()

        return step


def _hint(precision: str) -> str:
    # What is not quantized in an int8 network computes in bfloat16 where the CPU can.
    if precision == "int8" and cpu_multiplies_bfloat16():
        return "bf16"
    return _HINTS[precision]


def _step_size(model: openvino.Model) -> int:
    weights = sum(
        int(np.prod(node.input(1).get_shape()))
        for node in model.get_ops()
        if node.get_type_name() in ("Convolution", "GroupConvolution")
    )
    return _QUICK_STEP if weights < _QUICK_WEIGHTS else _STEP


def is_depthwise(model: openvino.Model) -> bool:
    """Whether a network has depthwise convolutions. In bfloat16 such a one gives other vectors.

    EfficientNet-Lite0's have a cosine of .998 with those of float32, .994 at least, and find .5 % fewer instances at
    the first place where half of the vectors are of each kind (458 photos of a shop): too much to be mixed unproven.
    """
    return any(node.get_type_name() == "GroupConvolution" for node in model.get_ops())


class OpenVINO:
    """See :class:`~shop_similarity.workers.runtimes.interface.Runtime`."""

    name = "OpenVINO"

    def check(self) -> None:
        require("openvino")

    def load(self, version: ModelVersion, precision: str | None = None) -> OpenVINONetwork:
        self.check()
        if precision != EXACT:
            if (quantized := proven(version)) is not None:
                return OpenVINONetwork(quantized, "int8")
            model = converted(version)
            # Of an encoder that a shop brought along nobody has measured what bfloat16 does to its vectors.
            if cpu_multiplies_bfloat16() and not is_depthwise(model) and not version.config.get("encoder"):
                return OpenVINONetwork(model, "bfloat16")
            return OpenVINONetwork(model, EXACT)
        return OpenVINONetwork(converted(version), EXACT)

    def load_saliency(self, content: bytes) -> Step:
        self.check()
        silence()
        import openvino

        core = openvino.Core()
        # The weights' own format, which OpenVINO reads; what is read was compared with a known sha256.
        model = core.read_model(content)
        # As with TensorFlow: half of the time, and nearly always the same boxes.
        precision = _HINTS["bfloat16" if cpu_multiplies_bfloat16() else EXACT]
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        network = core.compile_model(model, "CPU", options)
        request = network.create_infer_request()

        def step(photos: np.ndarray) -> np.ndarray:
            pixels = photos / np.maximum(photos.max(axis=(1, 2, 3), keepdims=True), 1).astype(np.float32)
            pixels = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
            return request.infer({0: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})[0][:, 0].copy()

        return step
