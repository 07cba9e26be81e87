"""What a stored version keeps of its encoder: plain values that say which installed code builds it, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from shop_similarity.training.networks.backbones.registry import Backbone
from shop_similarity.training.networks.backbones.trunk import ENCODER
from shop_similarity.training.networks.encoders.encoder import EncoderError
from shop_similarity.training.plain_values import PlainValues

if TYPE_CHECKING:
    import keras

KERAS_HUB, PYTHON = "keras-hub", "python"
_LONGEST = 64


@dataclass(frozen=True)
class EncoderSpec(PlainValues):
    """How an encoder is built anew, with fresh weights.

    Attributes:
        builder: ``"keras-hub"``, or ``"python"`` for a function of the shop's.
        name: of keras-hub's class, or the function's dotted path.
        options: of the class, plain values.
        taps: each with its length, from input to output.
        licence: of the weights.
        source: of the weights.
        made_with: name and version of the package that built it.

    Raises:
        ValueError: for what is no such thing.
    """

    kind: ClassVar[str] = "encoder key"

    builder: str
    name: str
    taps: tuple[tuple[str, int], ...]
    options: Mapping[str, Any]
    licence: str
    source: str
    made_with: str = ""

    def __post_init__(self) -> None:
        if self.builder not in (KERAS_HUB, PYTHON):
            raise ValueError(f"An encoder is built by {KERAS_HUB} or {PYTHON}, not by {self.builder!r}.")
        try:
            taps = tuple((str(name), int(length)) for name, length in self.taps)
        except (TypeError, ValueError) as error:
            raise ValueError(f"An encoder's taps are names with lengths, not {self.taps!r}.") from error
        if not taps or len(dict(taps)) != len(taps) or any(length < 1 for _, length in taps):
            raise ValueError(f"An encoder's taps are different names with lengths, not {self.taps!r}.")
        if not isinstance(self.options, Mapping) or not all(isinstance(name, str) for name in self.options):
            raise ValueError("An encoder's options are names with values.")
        object.__setattr__(self, "taps", taps)
        object.__setattr__(self, "options", {name: _plain(value) for name, value in self.options.items()})
        for text in ("name", "licence", "source", "made_with"):
            if not isinstance(getattr(self, text), str):
                raise ValueError(f"An encoder's {text} is a text, not {getattr(self, text)!r}.")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "taps": [list(tap) for tap in self.taps]}

    def backbone(self) -> Backbone:
        """The encoder as a backbone; it is built when it is applied.

        All of it lies in one layer of that name, so training leaves alone all or nothing.
        """
        lengths = dict(self.taps)

        def apply(pixels: keras.KerasTensor, width: float = 1.0, prefix: str = "") -> dict[str, keras.KerasTensor]:
            from shop_similarity.training.networks.encoders.layer import EncoderLayer

            outputs = EncoderLayer(self.build(), self.to_dict(), name=prefix + ENCODER)(pixels)
            if [output.shape[-1] for output in outputs] != list(lengths.values()):
                raise ValueError(
                    f"The encoder {self.name} gives other numbers than when the version was made"
                    f"{f' with {self.made_with}' if self.made_with else ''}."
                )
            return dict(zip(lengths, outputs, strict=True))

        def filters(tap: str, width: float = 1.0) -> int:
            return lengths[tap]

        return Backbone(
            name=ENCODER,
            title=self.name,
            tap_layers=dict.fromkeys(lengths, ENCODER),
            apply=apply,
            filters=filters,
            sources=None,
            frozen_through=ENCODER,
            signed_taps=frozenset(lengths),
            is_exact=True,
            layers=(ENCODER,),
        )

    def build(self) -> keras.Model:
        """The network with fresh weights: pixels ``(B, size, size, 3)`` to the taps' tensors.

        Raises:
            ExtraMissing: keras-hub is needed and missing.
            EncoderError: the code that builds it is not there, may not be run, or fails.
        """
        if self.builder == KERAS_HUB:
            from shop_similarity.training.networks.encoders.keras_hub_towers import build
        else:
            from shop_similarity.training.networks.encoders.own_functions import build
        network = build(self)
        if len(network.outputs) != len(self.taps):
            raise EncoderError(f"The encoder {self.name} has other taps than when the version was made.")
        return network


def _plain(value: Any) -> Any:
    """The value, if it is one that says nothing but itself.

    Raises:
        ValueError: it is not; an object that Keras could be asked to make is a mapping.
    """
    if isinstance(value, str) and len(value) > _LONGEST:
        raise ValueError("An encoder's options have no such long texts.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return [_plain(part) for part in value]
    raise ValueError(f"An encoder's options are numbers, texts and lists of them, not {value!r}.")
