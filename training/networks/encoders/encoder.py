"""An encoder in memory: what a shop's own function returns, and what a preset is made into."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.networks.backbones.trunk import ENCODER

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.networks.preprocessing import Preprocessing

# Also what a tap's layers are named after.
_TAP = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MOST_TAPS = 16


class EncoderError(TrainingError):
    """An encoder can't be used; the sentence says why."""


@dataclass(frozen=True)
class Encoder:
    """A network with its taps, and what belongs to it.

    Attributes:
        network: a functional Keras model of one input, normalised pixels ``(B, size, size, 3)``.
        taps: what is listened to, from input to output, by names of small letters, digits and underscores: the names of
            the network's layers, or tensors of it. Each gives maps ``(B, H, W, C)``, which are averaged, or vectors
            ``(B, C)``. From three taps on similarities are explained by their depths.
        preprocessing: what photos go through before the network.
        licence: under which the weights may be used, such as ``"Apache-2.0"``.
        source: where the weights come from, for people.
    """

    network: keras.Model
    taps: Mapping[str, str | keras.KerasTensor]
    preprocessing: Preprocessing
    licence: str
    source: str

    def tapped(self) -> keras.Model:
        """The network with the taps' tensors as its outputs, in a list, named :data:`ENCODER`.

        Raises:
            EncoderError: it has more than one input, no taps, or taps that nothing can be made of.
        """
        import keras

        if len(self.network.inputs) != 1 or tuple(self.network.inputs[0].shape[3:]) != (3,):
            raise EncoderError(
                "The encoder must be a functional Keras model with one input of shape (B, size, size, 3)."
            )
        if not 0 < len(self.taps) <= _MOST_TAPS or not all(_TAP.fullmatch(str(name)) for name in self.taps):
            raise EncoderError(
                f"An encoder has 1 to {_MOST_TAPS} taps, named with small letters, digits and underscores, not "
                f"{', '.join(map(repr, self.taps)) or 'none'}."
            )
        outputs = [self._tensor(name, tap) for name, tap in self.taps.items()]
        return keras.Model(self.network.inputs[0], outputs, name=ENCODER)

    def _tensor(self, name: str, tap: str | keras.KerasTensor) -> keras.KerasTensor:
        if isinstance(tap, str):
            try:
                tensor = self.network.get_layer(tap).output
            except (ValueError, AttributeError) as error:
                raise EncoderError(f"The tap {name} names {tap!r}, which is no layer of the encoder.") from error
        else:
            tensor = tap
        shape: tuple[Any, ...] = getattr(tensor, "shape", ())
        if len(shape) not in (2, 4) or not isinstance(shape[-1], int):
            raise EncoderError(
                f"The tap {name} gives {tuple(shape)}, and neither maps (B, H, W, C) nor vectors (B, C). Pool tokens "
                "before they are tapped."
            )
        return tensor
