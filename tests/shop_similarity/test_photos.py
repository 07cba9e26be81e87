"""The drawn photos that other tests stand on: repeatable, distinct, and alike where they should be."""

import io

import pytest
from PIL import Image, ImageChops, ImageStat

from shop_similarity.photos.decoding import open_image
from tests.shop_similarity.drawn_photos import (
    COLOURS,
    KINDS,
    PATTERNS,
    photo_file,
    product_image,
    product_photo,
    products,
)


def difference(one, other):
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def test_same_arguments_same_bytes():
    assert product_photo("mug", "red", "dotted", seed=3) == product_photo("mug", "red", "dotted", seed=3)
    assert product_photo("mug", "red") == product_photo("mug", COLOURS["red"])


def test_all_products_differ():
    count = len(KINDS) * len(COLOURS) * len(PATTERNS)
    everything = products(count)
    assert len({product.name for product in everything}) == count
    assert len({product.photo((32, 32)) for product in everything}) == count
    with pytest.raises(ValueError, match=f"Only {count}"):
        products(count + 1)


def test_photos_of_one_product_differ_less_than_products():
    first = product_image("shirt", "blue", "striped", seed=0)
    others = [product_image("shirt", "blue", "striped", seed=seed) for seed in range(1, 5)]
    strangers = [product_image(kind, "red", seed=1) for kind in KINDS if kind != "shirt"]
    assert all(difference(first, other) > 0 for other in others)
    assert max(difference(first, other) for other in others) < min(difference(first, other) for other in strangers)


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (81, 33)])
def test_size(size):
    assert open_image(product_photo("lamp", "teal", size=size)).size == size


def test_file_for_a_field():
    file = photo_file("bag", (1, 2, 255), "checked", seed=2)
    assert file.name == "bag-0102ff-checked-2.jpg"
    assert Image.open(io.BytesIO(file.read())).format == "JPEG"


def test_unknown_pattern():
    with pytest.raises(ValueError, match="No pattern 'tartan'; there are plain"):
        product_photo("bag", "red", "tartan")
