"""What a photo may be."""

from __future__ import annotations

import pytest

from shop_similarity.photos.limits import ImageLimits, catalogue_limits, upload_limits


def test_formats_of_limits():
    assert ImageLimits(formats=("jpeg", "MPO", "png")).formats == ("JPEG", "PNG")
    for wrong in ((), "JPEG", ("JPEG", "EPS")):
        with pytest.raises(ValueError, match=r"formats|EPS"):
            ImageLimits(formats=wrong)
    with pytest.raises(ValueError, match="max_pixels"):
        ImageLimits(max_pixels=0)


def test_limits_of_the_shops_own_photos_and_of_shoppers_photos(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "MAX_IMAGE_BYTES": 3,
        "MAX_IMAGE_PIXELS": 4,
        "IMAGE_FORMATS": ["PNG"],
        "VISUAL_SEARCH_MAX_BYTES": 1,
        "VISUAL_SEARCH_MAX_PIXELS": 2,
        "VISUAL_SEARCH_FORMATS": ("JPEG",),
    }
    assert catalogue_limits() == ImageLimits(max_bytes=3, max_pixels=4, formats=("PNG",))
    assert upload_limits() == ImageLimits(max_bytes=1, max_pixels=2, formats=("JPEG",))
