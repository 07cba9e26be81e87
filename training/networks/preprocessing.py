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

    Raises:
        ValueError: for a value that no model could use.
    """

    kind: ClassVar[str] = "preprocessing key"

    size: int = 224
    resize: str = "squash"
    background: tuple[int, int, int] = (255, 255, 255)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"size must be a positive number of pixels, not {self.size!r}.")
        if self.resize not in RESIZE_MODES:
            raise ValueError(f"resize must be one of {', '.join(RESIZE_MODES)}, not {self.resize!r}.")
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
        # reducing_gap lets Pillow shrink large photos in two steps: a third of the time, no visible difference.
        if self.resize == "squash":
            image = image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
        elif self.resize == "crop":
            edge = min(width, height)
            left, top = (width - edge) // 2, (height - edge) // 2
            image = image.crop((left, top, left + edge, top + edge))
            image = image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
        else:
            scale = side / max(width, height)
            inner = (max(1, round(width * scale)), max(1, round(height * scale)))
            photo = image.resize(inner, Image.Resampling.BICUBIC, reducing_gap=3.0)
            image = Image.new("RGB", (side, side), self.background)
            image.paste(photo, ((side - inner[0]) // 2, (side - inner[1]) // 2))
        return np.asarray(image, dtype=np.uint8)


def _triple(values: Any, name: str, kind: type) -> tuple:
    try:
        triple = tuple(kind(value) for value in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be three numbers (red, green, blue), not {values!r}.") from error
    if len(triple) != 3:
        raise ValueError(f"{name} must be three numbers (red, green, blue), not {values!r}.")
    return triple
