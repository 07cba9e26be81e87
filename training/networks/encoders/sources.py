"""Opening an encoder with its weights, to calibrate it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import keras
import numpy as np

from shop_similarity.training.networks.backbones.trunk import ENCODER
from shop_similarity.training.networks.encoders import own_functions
from shop_similarity.training.networks.encoders.encoder import Encoder, EncoderError
from shop_similarity.training.networks.encoders.keras_hub_towers import options_of
from shop_similarity.training.networks.encoders.presets import open_preset
from shop_similarity.training.networks.encoders.spec import KERAS_HUB, PYTHON, EncoderSpec
from shop_similarity.training.networks.precision import dtype_policy

if TYPE_CHECKING:
    from shop_similarity.training.networks.preprocessing import Preprocessing

PREFIX = f"{KERAS_HUB}:"


@dataclass(frozen=True)
class OpenedEncoder:
    """An encoder with its weights, to be put into models; in the place of a backbone's weights.

    Attributes:
        spec: how it is built anew.
        preprocessing: that belongs to it.
        network: pixels to a list of the taps' tensors, with the weights.
    """

    spec: EncoderSpec
    preprocessing: Preprocessing
    network: keras.Model

    @property
    def mean(self) -> tuple[float, float, float]:
        return self.preprocessing.mean

    @property
    def std(self) -> tuple[float, float, float]:
        return self.preprocessing.std

    @property
    def source(self) -> str:
        """Where the weights come from and under which licence, for people."""
        return f"{self.spec.source}, licence: {self.spec.licence}"

    @property
    def sha256(self) -> str:
        """Of all its numbers, in their order."""
        digest = hashlib.sha256()
        for array in self.network.get_weights():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def apply(self, model: keras.Model) -> None:
        """Put the weights into a model that has this encoder.

        Raises:
            EncoderError: its code builds another network now.
        """
        there = model.get_layer(ENCODER)
        if [w.shape for w in there.weights] != [w.shape for w in self.network.weights]:
            raise EncoderError(
                f"The encoder {self.spec.name} has other layers with its weights than without: what it builds must "
                "not depend on that."
            )
        there.set_weights(self.network.get_weights())


def open_encoder(name: str, size: int | None = None, licence: str | None = None) -> OpenedEncoder:
    """Open what ``--backbone`` names.

    Args:
        name: ``keras-hub:PRESET_OR_FOLDER``, or the dotted path of a function of the shop's.
        size: side in pixels of the photos, for a preset that is to see others than its own.
        licence: what the user says it is.

    Raises:
        TrainingError: it can't be had or used; the sentence says what to do.
    """
    with dtype_policy("float32"):
        if name.startswith(PREFIX):
            encoder = open_preset(name.removeprefix(PREFIX), size, licence)
            builder, built, options = KERAS_HUB, type(encoder.network).__name__, options_of(encoder.network)
            made_with = f"keras-hub {_version('keras-hub')}"
        else:
            if size:
                raise EncoderError("--size is for presets of keras-hub: an encoder of your own says its size itself.")
            encoder = own_functions.call(name, pretrained=True)
            builder, built, options, made_with = PYTHON, name, {}, f"keras {keras.__version__}"
        return _opened(encoder, builder, built, options, licence, made_with)


def _opened(
    encoder: Encoder, builder: str, name: str, options: dict, licence: str | None, made_with: str
) -> OpenedEncoder:
    network = encoder.tapped()
    if not all(np.isfinite(array).all() for array in network.get_weights()):
        raise EncoderError(f"The weights of {encoder.source} hold numbers that are not finite: they are damaged.")
    side = network.inputs[0].shape[1]
    if side not in (None, encoder.preprocessing.size):
        raise EncoderError(
            f"{encoder.source} takes photos of {side} pixels and is given {encoder.preprocessing.size}: its "
            "preprocessing is another network's."
        )
    try:
        spec = EncoderSpec(
            builder=builder,
            name=name,
            taps=tuple((tap, int(tensor.shape[-1])) for tap, tensor in zip(encoder.taps, network.outputs, strict=True)),
            options=options,
            licence=licence or encoder.licence,
            source=encoder.source,
            made_with=made_with,
        )
    except ValueError as error:
        raise EncoderError(f"{encoder.source} can't be stored with a version: {error}") from error
    return OpenedEncoder(spec, encoder.preprocessing, network)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of an unknown release"
