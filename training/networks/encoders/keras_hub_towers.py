"""Image towers of keras-hub as encoders, built from the name of their class and plain options.

A transformer gives tokens. Those of the patches are averaged, behind a third, two thirds and all of its blocks, each
brought through the tower's last normalisation, as DINOv2 has it (Oquab and others, arXiv 2304.07193); its class token,
or what SigLIP's head pools, is one tap more. Of a convolutional network the maps of its last resolutions are taps, from
a quarter of the photo's side down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from shop_similarity.training.extras import require
from shop_similarity.training.networks.encoders.encoder import Encoder, EncoderError
from shop_similarity.training.networks.preprocessing import Preprocessing

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.networks.encoders.spec import EncoderSpec

# Attributes of an object that are no options of its class.
_NO_OPTIONS = frozenset({"name", "trainable", "dtype", "data_format"})


@dataclass(frozen=True)
class Tower:
    """A class of keras-hub whose instances are image towers.

    Attributes:
        taps: of an instance, from input to output.
        prefix: number of tokens before those of the patches, by the options; ``None`` for maps.
        resizable: whether its weights fit photos of another size than it was trained on.
    """

    taps: Callable[[keras.Model, int], dict[str, keras.KerasTensor]]
    prefix: Callable[[Mapping[str, Any]], int] | None = None
    resizable: bool = False


def _token_taps(tower: keras.Model, prefix: int) -> dict[str, keras.KerasTensor]:
    import keras

    blocks, normalise = _blocks(tower)
    taps = {}
    for depth in sorted({ceil(len(blocks) * part / 3) for part in (1, 2, 3)}):
        taps[f"layer{depth}"] = keras.ops.mean(normalise(blocks[depth - 1])[:, prefix:], axis=1)
    if len(tower.output.shape) == 2:
        taps["pooled"] = tower.output
    elif prefix:
        taps["class_token"] = normalise(blocks[-1])[:, 0]
    return taps


def _blocks(tower: keras.Model) -> tuple[list[keras.KerasTensor], Callable[..., keras.KerasTensor]]:
    """Tokens behind each block, and the tower's last normalisation."""
    if stages := getattr(tower, "pyramid_outputs", None):
        names = sorted((name for name in stages if name.startswith("stage")), key=lambda name: int(name[5:]))
        return [stages[name] for name in names], tower.layernorm
    if hasattr(tower, "encoder_layers"):
        last = getattr(tower, "layer_norm", None) or tower.post_layer_norm
        return [_first(layer.output) for layer in tower.encoder_layers], last
    # The blocks lie within one layer, which gives the last one's tokens alone.
    (encoder,) = (layer for layer in tower.layers if hasattr(layer, "encoder_layers"))
    tokens = [_first(encoder.input)]
    for layer in encoder.encoder_layers:
        tokens.append(_first(layer(tokens[-1])))
    return tokens[1:], encoder.layer_norm


def _first(tensors: Any) -> keras.KerasTensor:
    """Some blocks give their attention as well."""
    return tensors[0] if isinstance(tensors, list | tuple) else tensors


def _map_taps(tower: keras.Model, prefix: int = 0) -> dict[str, keras.KerasTensor]:
    levels = getattr(tower, "pyramid_outputs", {})
    ordered = sorted(levels, key=lambda name: int(name.lstrip("P")))
    taps = {name.lower(): levels[name] for name in ordered if int(name.lstrip("P")) > 1}
    if not any(tensor is tower.output for tensor in taps.values()):
        taps["top"] = tower.output
    return taps


_CLASS_TOKEN = Tower(_token_taps, lambda options: 1)
_REGISTERS = Tower(_token_taps, lambda options: 1 + int(options.get("num_register_tokens") or 0), True)
_MAPS = Tower(_map_taps, None, True)

TOWERS: dict[str, Tower] = {
    "CLIPVisionEncoder": _CLASS_TOKEN,
    "DINOV2Backbone": _REGISTERS,
    "DINOV3Backbone": _REGISTERS,
    "MetaCLIP2VisionEncoder": _CLASS_TOKEN,
    "SigLIPVisionEncoder": Tower(_token_taps, lambda options: 0),
    "ViTBackbone": Tower(_token_taps, lambda options: int(options.get("use_class_token", True))),
    "CSPNetBackbone": _MAPS,
    "DenseNetBackbone": _MAPS,
    "EfficientNetBackbone": _MAPS,
    "MobileNetBackbone": _MAPS,
    "ResNetBackbone": _MAPS,
}
# Networks of two towers, of which this one looks at photos.
TWO_TOWERS = dict.fromkeys(("CLIPBackbone", "MetaCLIP2Backbone", "SigLIPBackbone"), "vision_encoder")


def known(name: str) -> Tower:
    """The tower of a class.

    Raises:
        EncoderError: nobody has said where it can be tapped.
    """
    if name not in TOWERS:
        raise EncoderError(
            f"keras-hub's {name} can't be used as an encoder. Those that can are {', '.join((*TOWERS, *TWO_TOWERS))}; "
            "of any other network make an encoder of your own (docs/encoders.md)."
        )
    return TOWERS[name]


def options_of(tower: keras.Model) -> dict[str, Any]:
    """What an instance was made with, as plain values."""
    return {name: _listed(value) for name, value in tower.get_config().items() if name not in _NO_OPTIONS}


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, list | tuple) else value


def encoder_of(tower: keras.Model, preprocessing: Preprocessing, licence: str, source: str) -> Encoder:
    """An instance with its taps.

    Raises:
        EncoderError: see :func:`known`; or this release of keras-hub has them elsewhere.
    """
    name = type(tower).__name__
    found = known(name)
    try:
        taps = found.taps(tower, found.prefix(options_of(tower)) if found.prefix else 0)
    # Where its parts lie is nowhere promised.
    except Exception as error:
        raise EncoderError(f"This release of keras-hub has a {name} that can't be tapped: {error}") from error
    return Encoder(tower, taps, preprocessing, licence, source)


def build(spec: EncoderSpec) -> keras.Model:
    """See :meth:`~shop_similarity.training.networks.encoders.spec.EncoderSpec.build`."""
    known(spec.name)
    require("tensorflow", "keras_hub")
    import keras_hub

    try:
        tower = getattr(keras_hub.models, spec.name)(**spec.options)
    # What a constructor raises for options that it doesn't take is nowhere said.
    except Exception as error:
        raise EncoderError(
            f"keras-hub {keras_hub.__version__} can't build the encoder {spec.name}, which was made with "
            f"{spec.made_with or 'an unknown release'}: {error}"
        ) from error
    return encoder_of(tower, Preprocessing(), spec.licence, spec.source).tapped()
