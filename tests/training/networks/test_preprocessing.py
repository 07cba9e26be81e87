import numpy as np
import pytest
from PIL import Image

from shop_similarity.training.networks.preprocessing import Preprocessing


def halves(width, height, left=(255, 0, 0), right=(0, 0, 255)):
    image = Image.new("RGB", (width, height), left)
    image.paste(right, (width // 2, 0, width, height))
    return image


def test_squash_fills_the_square_and_keeps_rgb_order():
    pixels = Preprocessing(size=32, resize="squash").prepare(halves(100, 400))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert pixels[16, 2].tolist() == [255, 0, 0]
    assert pixels[16, 29].tolist() == [0, 0, 255]


def test_pad_keeps_the_aspect_ratio_and_fills_with_the_background():
    pixels = Preprocessing(size=32, resize="pad", background=(1, 2, 3)).prepare(halves(100, 400))
    assert pixels[16, 0].tolist() == pixels[16, 31].tolist() == [1, 2, 3]
    photo = np.any(pixels != (1, 2, 3), axis=2)
    assert photo.any(axis=0).sum() == 8
    assert photo.any(axis=1).sum() == 32


def test_crop_cuts_the_centre():
    image = Image.new("RGB", (400, 100), (0, 255, 0))
    image.paste((255, 0, 0), (150, 0, 250, 100))
    pixels = Preprocessing(size=32, resize="crop").prepare(image)
    assert np.all(pixels == (255, 0, 0))


def test_photos_narrower_than_a_pixel_after_scaling_survive():
    pixels = Preprocessing(size=32, resize="pad").prepare(Image.new("RGB", (1, 4000), (0, 0, 0)))
    assert np.any(pixels == 0)


def test_other_modes_become_rgb():
    assert Preprocessing(size=8).prepare(Image.new("L", (5, 5), 7)).tolist() == [[[7, 7, 7]] * 8] * 8


def test_dict_round_trip_survives_json():
    import json

    chosen = Preprocessing(size=96, resize="pad", background=(1, 2, 3), mean=(1.5, 2, 3), std=(4, 5, 6))
    assert Preprocessing.from_dict(json.loads(json.dumps(chosen.to_dict()))) == chosen


@pytest.mark.parametrize(
    "values",
    [
        {"size": 0},
        {"size": True},
        {"resize": "stretch"},
        {"mean": (1, 2)},
        {"std": (1, 0, 1)},
        {"background": (0, 0, 256)},
        {"mean": "abc"},
        {"colour": "bgr"},
    ],
)
def test_values_that_no_model_could_use_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        Preprocessing.from_dict(values)
