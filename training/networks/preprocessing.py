"""From a decoded photo to the pixels that a model takes.

A model and its preprocessing belong together: weights that were trained on one kind of input are silently
worthless on another. So a :class:`Preprocessing` is stored beside the weights, the geometry (how a photo becomes a
square) is done here, and the arithmetic (``mean`` and ``std``) is built into the model itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from shop_similarity.training.plain_values import PlainValues

RESIZE_MODES = ("squash", "pad", "crop")
# Pillow's filters by the names that Keras gives them.
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}
CHANNELS = ("RGB", "BGR")

# torchvision's ImageNet constants, in 0..255 units.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Preprocessing(PlainValues):
    """How photos are made ready for one model.

    Attributes:
        size: side of the square input in pixels.
        resize: ``"squash"`` ignores the aspect ratio, ``"pad"`` keeps it and fills up with ``background``,
            ``"crop"`` keeps it and cuts the centre.
        background: RGB colour (0..255) of the padding.
        mean: per-channel RGB mean (0..255) that the model subtracts from its input.
        std: per-channel RGB standard deviation (0..255) that the model then divides by.
        interpolation: a key of :data:`INTERPOLATIONS`.
        antialias: whether a pixel of the square is made of all pixels of the photo that it covers, or of the two
            (bilinear) or four (bicubic) around its centre alone, as TensorFlow does by itself. What a network was
            trained or converted with is right for it.
        channels: ``"RGB"``, or ``"BGR"`` for a network that takes blue first. Photos and ``mean`` and ``std`` are in
            RGB either way; the model turns them round.

    Raises:
        ValueError: for a value that no model could use.
    """

    kind: ClassVar[str] = "preprocessing key"

    size: int = 224
    resize: str = "squash"
    background: tuple[int, int, int] = (255, 255, 255)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    interpolation: str = "bicubic"
    antialias: bool = True
    channels: str = "RGB"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size must be a positive number of pixels, not {self.size!r}.")
        if self.resize not in RESIZE_MODES:
            raise ValueError(f"resize must be one of {', '.join(RESIZE_MODES)}, not {self.resize!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, not {self.interpolation!r}.")
        if not isinstance(self.antialias, bool):
            raise ValueError(f"antialias must be true or false, not {self.antialias!r}.")
        if not self.antialias and self.interpolation == "lanczos3":
            raise ValueError("antialias must be true where the interpolation is lanczos3.")
        if self.channels not in CHANNELS:
            raise ValueError(f"channels must be one of {', '.join(CHANNELS)}, not {self.channels!r}.")
        object.__setattr__(self, "background", _triple(self.background, "background", int))
        object.__setattr__(self, "mean", _triple(self.mean, "mean", float))
        object.__setattr__(self, "std", _triple(self.std, "std", float))
        if any(not 0 <= value <= 255 for value in self.background):
            raise ValueError(f"background must be an RGB colour of 0..255, not {self.background!r}.")
        if any(value <= 0 for value in self.std):
            raise ValueError(f"std must be positive, not {self.std!r}.")

    def prepare(self, image: Image.Image) -> np.ndarray:
        """Make a photo ready for the model.

        Args:
            image: a Pillow image; any mode but RGB is converted.

        Returns:
            ``uint8`` array of shape ``(size, size, 3)``, RGB, 0..255.
        """
        if image.mode != "RGB":
            image = image.convert("RGB")
        side = self.size
        width, height = image.size
        if self.resize == "squash":
            return self._resized(image, side, side)
        if self.resize == "crop":
            edge = min(width, height)
            left, top = (width - edge) // 2, (height - edge) // 2
            return self._resized(image.crop((left, top, left + edge, top + edge)), side, side)
        scale = side / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        square = np.full((side, side, 3), self.background, dtype=np.uint8)
        left, top = (side - inner[0]) // 2, (side - inner[1]) // 2
        square[top : top + inner[1], left : left + inner[0]] = self._resized(image, *inner)
        return square

    def _resized(self, image: Image.Image, width: int, height: int) -> np.ndarray:
        if self.antialias and self.interpolation != "nearest":
            # reducing_gap lets Pillow shrink large photos in two steps: a third of the time, no visible difference.
            resized = image.resize((width, height), INTERPOLATIONS[self.interpolation], reducing_gap=3.0)
            return np.asarray(resized, dtype=np.uint8)
        # As bytes: only the rows that are looked at become four times as large.
        pixels = np.asarray(image, dtype=np.uint8)
        rows, row_shares = _nearest(image.height, height, self.interpolation)
        pixels = sum(share[:, None, None] * pixels[row] for row, share in zip(rows, row_shares, strict=True))
        columns, shares = _nearest(image.width, width, self.interpolation)
        pixels = sum(share[:, None] * pixels[:, column] for column, share in zip(columns, shares, strict=True))
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _nearest(size: int, count: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of a line of ``size`` that each of ``count`` new ones is made of, and their shares, ``(k, count)``.

    Pixels are points at the centres of equal parts of the line. Bicubic is Keys's kernel with a = -1/2 (IEEE ASSP,
    1981), of which what lies outside is left out and the rest made up to 1, as TensorFlow has it.
    """
    centres = (np.arange(count) + 0.5) * size / count
    if interpolation == "nearest":
        return np.minimum(np.floor(centres), size - 1).astype(int)[None], np.ones((1, count), np.float32)
    first = np.floor(centres - 0.5)
    around = np.arange(2) if interpolation == "bilinear" else np.arange(-1, 3)
    places = first + around[:, None]
    distance = np.abs(centres - 0.5 - places)
    if interpolation == "bilinear":
        shares = 1 - distance
        return np.clip(places, 0, size - 1).astype(int), shares.astype(np.float32)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    shares = np.where(distance <= 1, near, far) * ((places >= 0) & (places < size))
    return np.clip(places, 0, size - 1).astype(int), (shares / shares.sum(axis=0)).astype(np.float32)


def _triple(values: Any, name: str, kind: type) -> tuple:
    try:
        triple = tuple(kind(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be three numbers (red, green, blue), not {values!r}.") from error
    if len(triple) != 3:
        raise ValueError(f"{name} must be three numbers (red, green, blue), not {values!r}.")
    return triple
