"""Presets of keras-hub: read from a folder, or fetched by keras-hub under a name, and made into encoders.

A preset is JSON that names classes, and weights as HDF5. Keras makes whatever the JSON names, so it is looked at before
Keras sees it: image towers of keras-hub with plain options, and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from shop_similarity.training.extras import require
from shop_similarity.training.networks.encoders.encoder import Encoder, EncoderError
from shop_similarity.training.networks.encoders.keras_hub_towers import TOWERS, TWO_TOWERS, encoder_of, known
from shop_similarity.training.networks.encoders.licences import UNKNOWN, licence_of_preset
from shop_similarity.training.networks.precision import dtype_policy
from shop_similarity.training.networks.preprocessing import INTERPOLATIONS, Preprocessing
from shop_similarity.training.networks.weights_files import WeightsFileError, check_weights_file

_CONFIG, _CONVERTER, _CARD = "config.json", "image_converter.json", "README.md"
_WEIGHTS, _SHARDS = "model.weights.h5", "model.weights.json"
_MOST_JSON = 1 << 20
# Of the two-tower networks, for the towers that read texts are made as well before they are left aside.
_BESIDE = frozenset({"CLIPTextEncoder", "MetaCLIP2TextEncoder", "SigLIPTextEncoder", "DTypePolicy"})
_LICENCE = re.compile(r"^license(?:_name)?:[ \t]*(\S[^\n]*)$", re.MULTILINE)


def open_preset(preset: str, size: int | None = None, licence: str | None = None) -> Encoder:
    """A preset's image tower with its weights, its preprocessing and its licence.

    Args:
        preset: a folder, or a name that keras-hub knows (``dinov2_small``, ``hf://...``), which it then fetches.
        size: side in pixels of the photos, where it is not the preset's.
        licence: what the user says it is; else what the preset says, or what is known of it.

    Raises:
        ExtraMissing: keras-hub is not installed.
        EncoderError: the preset can't be had or used.
    """
    require("tensorflow", "keras_hub")
    import keras_hub

    folder = Path(preset).expanduser()
    preset = str(folder) if folder.is_dir() else preset
    named = _look_at(preset)
    if size and named and not (named in TOWERS and known(named).resizable):
        raise EncoderError(f"The weights of {named} fit photos of the preset's own size alone: leave out --size.")
    with dtype_policy("float32"):
        try:
            # A network that takes photos of one size takes this one's weights for another.
            options = {"image_shape": (size, size, 3)} if size else {}
            network = keras_hub.models.Backbone.from_preset(preset, **options)
            converter = keras_hub.layers.ImageConverter.from_preset(preset)
        # What keras-hub raises for a preset that it can't fetch or read is nowhere said.
        except Exception as error:
            raise EncoderError(f"keras-hub can't load the preset {preset}: {_first_line(error)}") from error
    name = type(network).__name__
    tower = getattr(network, TWO_TOWERS[name]) if name in TWO_TOWERS else network
    if converter is None:
        raise EncoderError(
            f"The preset {preset} doesn't say how photos are made ready for it ({_CONVERTER}), and a guess would fail "
            "silently. Save it with its image converter, or make an encoder of your own (docs/encoders.md)."
        )
    licence = licence or _stated_licence(preset) or licence_of_preset(preset) or UNKNOWN
    source = f"keras-hub preset {folder.resolve().name if folder.is_dir() else preset}"
    return encoder_of(tower, preprocessing_of(converter, size), licence, source)


def preprocessing_of(converter: Any, size: int | None = None) -> Preprocessing:
    """What an image converter of keras-hub does, as preprocessing: ``x * scale + offset`` behind its resizing.

    Args:
        converter: a ``keras_hub.layers.ImageConverter``.
        size: side in pixels of the square, where it is not the converter's.

    Raises:
        EncoderError: it does something else as well.
    """
    sides = set(converter.image_size or ()) if size is None else {size}
    if type(converter).call is not _plain_call() or len(sides) != 1:
        raise EncoderError(
            f"The preset's {type(converter).__name__} makes photos ready in a way that is not known here, or not "
            "square. Make an encoder of your own (docs/encoders.md)."
        )
    resize = "crop" if converter.crop_to_aspect_ratio else "pad" if converter.pad_to_aspect_ratio else "squash"
    if converter.interpolation not in INTERPOLATIONS:
        raise EncoderError(f"The preset resizes photos by {converter.interpolation}, which is not known here.")
    scale, offset = _colours(converter.scale, 1.0), _colours(converter.offset, 0.0)
    try:
        return Preprocessing(
            size=sides.pop(),
            resize=resize,
            background=(0, 0, 0),
            mean=_three(-shift / factor for factor, shift in zip(scale, offset, strict=True)),
            std=_three(1 / factor for factor in scale),
            interpolation=converter.interpolation,
            antialias=bool(converter.antialias),
        )
    except (ValueError, ZeroDivisionError) as error:
        raise EncoderError(f"The preset makes photos ready in a way that no model could use: {error}") from error


def _plain_call() -> Any:
    import keras_hub

    return keras_hub.layers.ImageConverter.call


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def _colours(values: Any, nothing: float) -> tuple[float, ...]:
    if values is None:
        return (nothing,) * 3
    return (float(values),) * 3 if isinstance(values, int | float) else tuple(float(value) for value in values)


def _look_at(preset: str) -> str | None:
    """Refuse a preset that names other things than image towers, or whose weights are more than numbers.

    Returns:
        The class that it names; ``None`` for a preset of another library, which keras-hub translates.
    """
    config = _json(preset, _CONFIG)
    if config is None:
        raise EncoderError(f"The preset {preset} has no {_CONFIG}: name a folder with a preset, or one of keras-hub's.")
    # Configurations of other libraries name no class; keras-hub has code of its own for those that it knows.
    if "class_name" in config:
        if config["class_name"] not in TWO_TOWERS:
            known(str(config["class_name"]))
        _require_towers(config, preset)
    converter = _json(preset, _CONVERTER)
    if converter is not None and not (
        str(converter.get("class_name", "")).endswith("ImageConverter") and _is_of(converter, "keras_hub")
    ):
        raise EncoderError(f"The preset {preset} has an {_CONVERTER} that names no image converter of keras-hub.")
    for named in _named_objects(converter.get("config", {}) if converter else {}):
        if named.get("class_name") != "DTypePolicy":
            raise EncoderError(f"The preset {preset} has an {_CONVERTER} with a {named.get('class_name')} in it.")
    for name in _weights_files(preset):
        path = _file(preset, name)
        try:
            if path:
                check_weights_file(path)
        except WeightsFileError as error:
            raise EncoderError(f"The preset's weights {name} can't be used: {error}.") from error
    return config.get("class_name")


def _weights_files(preset: str) -> list[str]:
    """Names of the HDF5 files that hold the weights: one, or what an index lists."""
    if _file(preset, _WEIGHTS):
        return [_WEIGHTS]
    listed = (_json(preset, _SHARDS) or {}).get("weight_map", {})
    names = {name for each in listed.values() for name in ([each] if isinstance(each, str) else each)}
    if any(Path(name).name != name for name in names):
        raise EncoderError(f"The preset {preset} names weights outside of itself.")
    return sorted(names)


def _require_towers(config: dict[str, Any], preset: str) -> None:
    for named in _named_objects(config):
        admitted = named.get("class_name") in TOWERS or named.get("class_name") in TWO_TOWERS
        beside = named.get("class_name") in _BESIDE
        if not ((admitted or beside) and _is_of(named, "keras_hub", "keras")):
            raise EncoderError(
                f"The preset {preset} names {named.get('class_name')!r} of {named.get('module')!r}, which is no part "
                "of an image tower of keras-hub: it is not loaded."
            )


def _named_objects(value: Any) -> Iterator[dict[str, Any]]:
    """All that Keras would be asked to make."""
    if isinstance(value, dict):
        if "class_name" in value or "module" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _named_objects(part)


def _is_of(named: dict[str, Any], *packages: str) -> bool:
    registered = str(named.get("registered_name") or "keras_hub>").partition(">")[0]
    return str(named.get("module")).partition(".")[0] in packages and registered.partition(".")[0] in (
        *packages,
        named.get("class_name"),
    )


def _json(preset: str, name: str) -> dict[str, Any] | None:
    path = _file(preset, name)
    if path is None:
        return None
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError("it is too long")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise EncoderError(f"The preset's {name} can't be read: {error}.") from error
    return content


def _file(preset: str, name: str) -> Path | None:
    """A file of the preset, fetched if need be; ``None`` if it has no such file."""
    from keras_hub.src.utils.preset_utils import get_file

    if Path(preset).is_dir():
        path = Path(preset) / name
        return path if path.is_file() else None
    try:
        return Path(get_file(preset, name))
    except FileNotFoundError:
        return None
    # Whatever a download raises, here or out of the libraries that do it.
    except Exception as error:
        raise EncoderError(f"keras-hub can't fetch the preset {preset}: {_first_line(error)}") from error


def _stated_licence(preset: str) -> str | None:
    """What the head of a preset's model card says."""
    path = _file(preset, _CARD)
    if path is None:
        return None
    head = path.read_bytes()[:_MOST_JSON].decode("utf-8", errors="replace")
    if not head.startswith("---"):
        return None
    found = _LICENCE.search(head.split("---")[1])
    return found[1].strip().strip("\"'")[:100] if found else None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
