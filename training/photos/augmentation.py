"""Random changes of product photos that leave the product the same.

A photo is flipped left-right, cut or zoomed, turned a little, and, if asked for, its light and colours are shifted:
all before the resize, so that what the network sees has gone through one interpolation more and not two. Never upside
down: clothes and shoes have a top. Colours stay by default, because they are often what tells two products apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image, ImageEnhance

from shop_similarity.training.plain_values import PlainValues

MAX_ROTATION = 45.0


@dataclass(frozen=True, slots=True)
class Augmentation(PlainValues):
    """How much photos may be changed. Each photo draws its own change.

    Attributes:
        flip: mirror half of the photos left-right.
        crop: smallest and largest area that is kept, as shares of the photo's. Above 1 the photo is set smaller into
            its own border colour.
        aspect: the cut-out may be wider or narrower than the photo's own aspect ratio by up to this factor.
        rotation: turn by up to so many degrees to either side.
        brightness: strength; factors are drawn from 1 - strength to 1 + strength.
        contrast: the same.
        saturation: the same.
        hue: strength in turns of the colour wheel, 0 to 0.5.
        erase: share of the photos in which a rectangle of 2 to 15 % of the area is painted over with border colour.

    Raises:
        ValueError: for a value that makes no sense.
    """

    kind: ClassVar[str] = "augmentation"

    flip: bool = True
    crop: tuple[float, float] = (0.7, 1.0)
    aspect: float = 1.1
    rotation: float = 5.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        try:
            low, high = (float(value) for value in self.crop)
        except (TypeError, ValueError) as error:
            raise ValueError(f"crop must be two shares of the area, such as 0.7 and 1, not {self.crop!r}.") from error
        object.__setattr__(self, "crop", (low, high))
        if not 0.05 <= low <= high <= 4:
            raise ValueError(f"crop must rise from at least 0.05 to at most 4, not {self.crop!r}.")
        if not 1 <= self.aspect <= 4:
            raise ValueError(f"aspect must be a factor from 1 to 4, not {self.aspect!r}.")
        if not 0 <= self.rotation <= MAX_ROTATION:
            raise ValueError(f"rotation must be 0 to {MAX_ROTATION:.0f} degrees, not {self.rotation!r}.")
        for name in ("brightness", "contrast", "saturation", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0 to 1, not {getattr(self, name)!r}.")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue must be 0 to 0.5, not {self.hue!r}.")

    def apply(self, image: Image.Image, generator: np.random.Generator) -> Image.Image:
        """A changed copy of a photo.

        Args:
            image: RGB.
            generator: what is drawn; the same state gives the same pixels. As many numbers are drawn whatever is
                switched on, so that switching one change on leaves the others as they were.

        Returns:
            RGB; its size is that of the cut-out.
        """
        draws = generator.random(14)
        fill = border_colour(image)
        image = self._move(image, draws[:6], fill)
        image = self._recolour(image, draws[6:10])
        return self._erase(image, draws[10:14], fill)

    def _move(self, image: Image.Image, draws: np.ndarray, fill: tuple[int, int, int]) -> Image.Image:
        flip = self.flip and draws[0] < 0.5
        angle = math.radians(self.rotation * (2 * draws[1] - 1))
        low, high = self.crop
        scale = math.sqrt(low + (high - low) * draws[2])
        stretch = math.sqrt(self.aspect ** (2 * draws[3] - 1))
        wide, tall = scale * stretch, scale / stretch
        if max(low, high) <= 1:
            # A cut-out of a stretched shape must not reach beyond the photo.
            wide, tall = min(wide, 1.0), min(tall, 1.0)
        if not angle and wide == tall == 1:
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else image
        width, height = image.size
        out_width, out_height = max(1, round(width * wide)), max(1, round(height * tall))
        centre_x = width / 2 + (draws[4] - 0.5) * (width - out_width)
        centre_y = height / 2 + (draws[5] - 0.5) * (height - out_height)
        # Pillow asks for the way back: from a place in the result to one in the photo.
        cosine, sine = math.cos(angle), math.sin(angle)
        side = -1 if flip else 1
        a, b, d, e = side * cosine, -sine, side * sine, cosine
        return image.transform(
            (out_width, out_height),
            Image.Transform.AFFINE,
            (
                a,
                b,
                centre_x - a * out_width / 2 - b * out_height / 2,
                d,
                e,
                centre_y - d * out_width / 2 - e * out_height / 2,
            ),
            Image.Resampling.BICUBIC,
            fillcolor=fill,
        )

    def _recolour(self, image: Image.Image, draws: np.ndarray) -> Image.Image:
        factors = 2 * draws - 1
        for strength, factor, enhancer in (
            (self.brightness, factors[0], ImageEnhance.Brightness),
            (self.contrast, factors[1], ImageEnhance.Contrast),
            (self.saturation, factors[2], ImageEnhance.Color),
        ):
            if strength:
                image = enhancer(image).enhance(1 + strength * factor)
        if self.hue:
            hue, saturation, value = image.convert("HSV").split()
            shift = round(255 * self.hue * factors[3])
            hue = hue.point([(place + shift) % 256 for place in range(256)])
            image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        return image

    def _erase(self, image: Image.Image, draws: np.ndarray, fill: tuple[int, int, int]) -> Image.Image:
        if draws[0] >= self.erase:
            return image
        side = math.sqrt(0.02 + 0.13 * draws[1])
        width, height = max(1, round(image.width * side)), max(1, round(image.height * side))
        left, top = round(draws[2] * (image.width - width)), round(draws[3] * (image.height - height))
        image = image.copy()
        image.paste(fill, (left, top, left + width, top + height))
        return image


def generator_of(seed: int, epoch: int, position: int) -> np.random.Generator:
    """The generator of the photo at one position of one epoch."""
    return np.random.default_rng((seed, epoch, position))


def border_colour(image: Image.Image) -> tuple[int, int, int]:
    """Median colour of the outermost pixels of an RGB photo: what its background goes on with beyond the edge."""
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = np.median(border, axis=0).astype(int).tolist()
    return red, green, blue
