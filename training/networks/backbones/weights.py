"""Where a backbone's ImageNet weights come from: found once, converted once, checked at every use.

The converted file is an ordinary Keras ``.weights.h5`` that carries its normalisation and its source as an
attribute, so it can be handed to another machine by itself. Its name holds the beginning of its own sha256: a damaged
file is noticed, and two processes that convert at the same time cannot disturb each other.

ImageNet's terms allow research and teaching; whoever uses weights trained on it in a shop has to judge that alone.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.files import file_sha256, part_beside
from shop_similarity.training.networks.backbones.registry import Backbone, get_backbone
from shop_similarity.training.networks.backbones.sources import Pretrained, Progress, SourceError
from shop_similarity.training.networks.backbones.trunk import SEPARATOR, Trunk, get_trunk
from shop_similarity.training.networks.backbones.vgg19_sources import deepen_vgg16
from shop_similarity.training.networks.weights_files import WeightsFileError, check_weights_file, load_checked

_ATTRIBUTE = "shop_similarity"
_SUFFIX = ".weights.h5"
_IMAGENET = "imagenet"
_DEEPENED = "from-vgg16"
_CONVERTED_NAME = re.compile(rf"[a-z0-9_]+-(?:{_IMAGENET}|{_DEEPENED})-([0-9a-f]{{16}}){re.escape(_SUFFIX)}")

Remote = Sequence[Callable[[Progress], Pretrained]]


class WeightsUnavailable(TrainingError):
    """No pretrained weights could be had; the text says what was tried and what to do."""


@dataclass(frozen=True)
class BackboneWeights:
    """A backbone's converted weights in a local file.

    Attributes:
        path: the ``.weights.h5`` file.
        sha256: of that file.
        mean: RGB mean (0..255) that belongs to them.
        std: RGB standard deviation (0..255) that belongs to them.
        source: where they came from, for people.
        backbone: whose they are, a key of :data:`~shop_similarity.training.networks.backbones.registry.BACKBONES`.
    """

    path: Path
    sha256: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: str
    backbone: str = "vgg16"

    def apply(self, model: keras.Model, prefix: str = "") -> None:
        """Put the numbers into every layer of ``model`` that bears their layer's name.

        Args:
            model: with the backbone's layers in it.
            prefix: what their names begin with there.

        Raises:
            WeightsUnavailable: if the file is not the one any more that was looked at, or can't be used.
            ValueError: if the model lacks one of them or has it in another shape.
        """
        pretrained = self.load()
        for layer in pretrained.layers:
            if layer.weights:
                model.get_layer(prefix + layer.name).set_weights(layer.get_weights())

    def load(self) -> keras.Model:
        """The backbone alone with these weights: in its shapes, and all of them finite.

        Raises:
            WeightsUnavailable: if the file is not the one any more that was looked at, or can't be used.
        """
        model = get_backbone(self.backbone).model()
        try:
            if file_sha256(self.path) != self.sha256:
                raise WeightsUnavailable(f"{self.path} has changed since it was looked at. Start again.")
            load_checked(model, self.path)
        except (WeightsFileError, OSError) as error:
            raise WeightsUnavailable(
                f"{self.path} cannot be used: {str(error).rstrip('.')}. Delete it, or name another file with --weights."
            ) from error
        return model


@dataclass(frozen=True)
class TrunkWeights:
    """The converted weights of one backbone, or of several that are joined.

    Attributes:
        trunk: the backbones.
        parts: the weights of each, in their order.
    """

    trunk: Trunk
    parts: tuple[BackboneWeights, ...]

    @property
    def mean(self) -> tuple[float, float, float]:
        """RGB mean (0..255) that belongs to the first backbone; the others' go into the model."""
        return self.parts[0].mean

    @property
    def std(self) -> tuple[float, float, float]:
        """RGB standard deviation (0..255) that belongs to the first backbone; the others' go into the model."""
        return self.parts[0].std

    @property
    def source(self) -> str:
        """Where they came from, for people."""
        return "; ".join(weights.source for weights in self.parts)

    @property
    def sha256(self) -> str:
        """Of each file, with ``+`` between them."""
        return SEPARATOR.join(weights.sha256 for weights in self.parts)

    def apply(self, model: keras.Model) -> None:
        """Put the numbers into the backbones' layers, and every further one's normalisation into the layer for it.

        Raises:
            WeightsUnavailable: if a file is not the one any more that was looked at, or can't be used.
            ValueError: if the model lacks one of them or has it in another shape.
        """
        for part, weights in zip(self.trunk.parts, self.parts, strict=True):
            weights.apply(model, part.prefix)
            if part.prefix:
                model.get_layer(part.normalisation).set_weights(
                    [np.array(weights.mean, np.float32), np.array(weights.std, np.float32)]
                )


def find_trunk_weights(
    trunk: str, cache_dir: Path, files: Sequence[Path] = (), progress: Progress | None = None
) -> TrunkWeights:
    """Find the ImageNet weights of one backbone, or of several that are joined.

    Args:
        trunk: as :func:`~shop_similarity.training.networks.backbones.trunk.get_trunk` takes it.
        cache_dir: see :func:`find_weights`.
        files: that the user names, one for each backbone in their order; or none.
        progress: see :func:`find_weights`.

    Raises:
        ValueError: for an unknown backbone.
        WeightsUnavailable: as :func:`find_weights`; or there are more or fewer files than backbones.
    """
    known = get_trunk(trunk)
    if files and len(files) != len(known.parts):
        raise WeightsUnavailable(
            f"The weights of {known.title} are {len(known.parts)} files, and --weights names {len(files)}: name one "
            "for each network in this order, or none."
        )
    names = [part.backbone.name for part in known.parts]
    chosen: Sequence[Path | None] = list(files) or [None] * len(names)
    return TrunkWeights(
        known,
        tuple(find_weights(name, cache_dir, file, progress) for name, file in zip(names, chosen, strict=True)),
    )


def find_weights(
    backbone: str,
    cache_dir: Path,
    file: Path | None = None,
    progress: Progress | None = None,
    remote: Remote | None = None,
) -> BackboneWeights:
    """Find a backbone's ImageNet weights.

    The order: ``file``, if one is named (and nothing else then); a converted file in ``cache_dir``; the backbone's
    sources in turn, Keras's own download first where there is one. VGG19 falls back on VGG16's, found in the same way
    and deepened to the same features (:mod:`shop_similarity.training.networks.backbones.vgg19_sources`); its ``source``
    says so, and Keras's are asked for again the next time.

    Args:
        backbone: a key of :data:`~shop_similarity.training.networks.backbones.registry.BACKBONES`.
        cache_dir: folder of the converted file; made if missing.
        file: a file that the user names: one converted earlier, or one of those that the sources publish.
        progress: called as ``progress(what, done, total)`` with bytes, ``total`` 0 while unknown.
        remote: the sources to try in turn, exchangeable for closed networks.

    Raises:
        ValueError: for an unknown backbone.
        WeightsUnavailable: if there are none. Random weights are never a substitute.
    """
    spec = get_backbone(backbone)
    progress = progress or _silent
    cache_dir = Path(cache_dir)
    if file is not None:
        return _from_user_file(spec, Path(file), cache_dir, progress)
    if weights := _in_cache(spec, cache_dir, progress):
        return weights
    assert spec.sources is not None
    reasons = []
    for source in spec.sources.REMOTE if remote is None else remote:
        try:
            return _convert(spec, source(progress), cache_dir, progress)
        except SourceError as error:
            reasons.append(str(error))
    if backbone == "vgg19":
        try:
            deepened = _in_cache(spec, cache_dir, progress, _DEEPENED)
            return deepened or _deepen(find_weights("vgg16", cache_dir, progress=progress), cache_dir, progress)
        except WeightsUnavailable as error:
            reasons.append(str(error))
    raise WeightsUnavailable(
        f"No pretrained {spec.title} weights could be had, and random ones would only give random look-alikes. "
        + " ".join(reasons)
        + f" {spec.sources.ADVICE} and name it with --weights FILE."
    )


def _in_cache(spec: Backbone, cache_dir: Path, progress: Progress, kind: str = _IMAGENET) -> BackboneWeights | None:
    for path in sorted(cache_dir.glob(f"{_prefix(spec, kind)}*{_SUFFIX}")):
        progress(f"Checking the {spec.title} weights", 0, 0)
        sha256 = file_sha256(path)
        if path.name == _name(spec, sha256, kind):
            return _describe(path, sha256)
        # A damaged copy is of no use to anybody, and its name would keep it looked at for ever.
        path.unlink(missing_ok=True)
    return None


def _deepen(vgg16: BackboneWeights, cache_dir: Path, progress: Progress) -> BackboneWeights:
    """VGG19 that starts as VGG16."""
    model = vgg16.load()
    layers = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    pretrained = deepen_vgg16(Pretrained(layers, vgg16.mean, vgg16.std, vgg16.source))
    return _convert(get_backbone("vgg19"), pretrained, cache_dir, progress, _DEEPENED)


def _from_user_file(spec: Backbone, file: Path, cache_dir: Path, progress: Progress) -> BackboneWeights:
    if not file.is_file():
        raise WeightsUnavailable(f"There is no file {file}. Name an existing file of {spec.title} weights.")
    assert spec.sources is not None
    try:
        if h5py.is_hdf5(file):
            check_weights_file(file)
            with h5py.File(file, "r") as content:
                converted = _ATTRIBUTE in content.attrs
            if not converted:
                return _convert(spec, spec.sources.from_keras_file(file), cache_dir, progress)
            weights = _describe(file, _known_sha256(file))
            if (spec.name, weights.backbone) == ("vgg19", "vgg16"):
                return _deepen(weights, cache_dir, progress)
            if weights.backbone != spec.name:
                raise SourceError(f"it holds the weights of {weights.backbone}, not of {spec.name}.")
            weights.load()
            return weights
        pretrained = spec.sources.from_file(file)
    except (SourceError, OSError) as error:
        raise WeightsUnavailable(f"{file} cannot be used: {error}") from error
    except WeightsFileError as error:
        raise WeightsUnavailable(
            f"{file} cannot be used: {error}. Name another file of {spec.title} weights."
        ) from error
    if pretrained is None:
        raise WeightsUnavailable(
            f"{file} is of no known kind. Name {spec.sources.FILES}, or a {_SUFFIX} file that this program converted "
            "earlier."
        )
    try:
        return _convert(spec, pretrained, cache_dir, progress)
    except SourceError as error:
        raise WeightsUnavailable(f"{file} cannot be used: {error}") from error


def _convert(
    spec: Backbone, pretrained: Pretrained, cache_dir: Path, progress: Progress, kind: str = _IMAGENET
) -> BackboneWeights:
    progress(f"Converting the {spec.title} weights", 0, 0)
    model = spec.model()
    layers = [layer for layer in model.layers if layer.weights]
    pretrained.check(spec.title, {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in layers})
    for layer in layers:
        layer.set_weights(pretrained.layers[layer.name])
    try:
        with part_beside(cache_dir / _name(spec, "", kind)) as part:
            model.save_weights(part)
            with h5py.File(part, "r+") as file:
                about = {
                    "mean": pretrained.mean,
                    "std": pretrained.std,
                    "source": pretrained.source,
                    "backbone": spec.name,
                }
                file.attrs[_ATTRIBUTE] = json.dumps(about)
            sha256 = file_sha256(part)
            path = part.replace(cache_dir / _name(spec, sha256, kind))
    except OSError as error:
        raise WeightsUnavailable(
            f"The {spec.title} weights could not be written to {cache_dir}: {error}. Make the folder writable."
        ) from error
    return _describe(path, sha256)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ValueError(_NOT_THREE)
    return float(values[0]), float(values[1]), float(values[2])


_NOT_THREE = "its mean and deviation are not three numbers each"


def _describe(path: Path, sha256: str) -> BackboneWeights:
    """What a converted file says of itself.

    Raises:
        WeightsUnavailable: if that can't be true.
    """
    try:
        with h5py.File(path, "r") as file:
            about = json.loads(file.attrs[_ATTRIBUTE])
        mean, std = _three(about["mean"]), _three(about["std"])
        # Files converted by the first releases name no backbone: there was only this one.
        weights = BackboneWeights(path, sha256, mean, std, str(about["source"]), about.get("backbone", "vgg16"))
        if not (all(map(math.isfinite, mean + std)) and min(std) > 0):
            raise ValueError(_NOT_THREE)
        get_backbone(weights.backbone)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsUnavailable(
            f"{path} cannot be used: what it says of its normalisation and source can't be read ({error}). Convert the "
            "weights again."
        ) from error
    return weights


def _known_sha256(file: Path) -> str:
    """SHA-256 of a converted file, which its name holds the beginning of, unless it was renamed.

    Raises:
        SourceError: if the two differ.
    """
    sha256 = file_sha256(file)
    named = _CONVERTED_NAME.fullmatch(file.name)
    if named and not sha256.startswith(named[1]):
        raise SourceError("it is damaged: its SHA-256 is not the one in its name. Convert the weights again.")
    return sha256


def _prefix(spec: Backbone, kind: str) -> str:
    return f"{spec.name}-{kind}-"


def _name(spec: Backbone, sha256: str, kind: str) -> str:
    return f"{_prefix(spec, kind)}{sha256[:16]}{_SUFFIX}"


def _silent(what: str, done: int, total: int) -> None:
    pass
