"""Width and height of a photo, from the head of its file."""

from __future__ import annotations

import pytest
from PIL import Image, ImageFile

from shop_similarity.photos.dimensions import upright_size
from shop_similarity.photos.limits import ImageLimits
from tests.shop_similarity.photos.bad_files import BOMBS, EPS, TOO_MANY_PARTS
from tests.shop_similarity.photos.photo_files import drawn, encoded

LIMITS = ImageLimits()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_size_is_that_of_the_upright_photo(kind, orientation, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(drawn(), kind, exif=exif)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    is_turned = orientation > 4 and kind != "WEBP"
    assert upright_size(data, LIMITS) == ((64, 96) if is_turned else (96, 64))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("build", [*(BOMBS[name] for name in BOMBS if "tile" not in name and "frame" not in name)])
def test_more_pixels_than_allowed_have_no_size(build):
    assert upright_size(build(), LIMITS) is None


@pytest.mark.parametrize("name", TOO_MANY_PARTS)
def test_a_file_of_too_many_parts_has_no_size(name):
    assert upright_size(TOO_MANY_PARTS[name](), LIMITS) is None


def test_what_is_no_photo_has_no_size(tmp_path):
    for source in (b"", b"text", EPS, tmp_path / "gone.jpg"):
        assert upright_size(source, LIMITS) is None


def test_a_file_that_is_cut_off_still_has_its_size():
    assert upright_size(encoded(drawn(400, 300), "JPEG")[:2000], LIMITS) == (400, 300)
