"""Contact sheets of drawn photos, looked at pixel by pixel."""

import io

import pytest
from PIL import Image

from shop_similarity.training.report.contact_sheets import Tile, ranking_row, sheet, triplet_row
from tests.shop_similarity.drawn_photos import product_photo

GREEN, RED = (24, 128, 56), (197, 34, 31)


@pytest.fixture
def photos(tmp_path):
    """Three photos: a mug, another photo of it, a wide one of a shoe."""
    paths = []
    for number, (kind, size) in enumerate((("mug", (64, 64)), ("mug", (64, 64)), ("shoe", (300, 100)))):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(product_photo(kind, "red", size=size, seed=number))
        paths.append(path)
    return paths


def drawn(encoded):
    picture = Image.open(io.BytesIO(encoded))
    picture.load()
    return picture.convert("RGB")


def colours(picture):
    return {colour for _, colour in picture.getcolors(1_000_000)}


def test_a_triplet_in_the_right_order_and_one_in_the_wrong(photos):
    right = drawn(sheet([triplet_row(*photos, 0.2, 0.7)], image_format="PNG"))
    wrong = drawn(sheet([triplet_row(*photos, 0.7, 0.2)], image_format="PNG"))
    assert GREEN in colours(right) and RED not in colours(right)
    assert RED in colours(wrong) and GREEN not in colours(wrong)


def test_hits_are_framed_and_named(photos):
    row = ranking_row(photos[0], [(photos[1], 0.1, 2), (photos[2], 0.4, 0), (photos[2], 0.5, 1)])
    assert [tile.frame for tile in row] == ["query", "hit", None, "hit"]
    assert [tile.lines[0] for tile in row] == ["query", "1  hit", "2", "3  partial hit"]
    picture = drawn(sheet([row], thumbnail=64, image_format="PNG"))
    tile = 64 + 10
    assert picture.getpixel((10 + tile, 10)) == GREEN, "the first result's frame"
    assert picture.getpixel((10 + 2 * tile, 10)) != GREEN


def test_a_photo_keeps_its_shape(photos):
    picture = drawn(sheet([[Tile(photos[2])]], thumbnail=90, image_format="PNG"))
    assert picture.getpixel((55, 10 + 5)) == (255, 255, 255), "above a wide photo"
    assert picture.getpixel((55, 10 + 45)) != (255, 255, 255)


def test_missing_unreadable_and_impossible_files_are_grey_boxes(photos, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    tiles = [
        Tile(tmp_path / "absent.jpg"),
        Tile(tmp_path / "broken.jpg"),
        Tile(tmp_path),
        Tile(tmp_path / "a\0b.jpg"),
        Tile(tmp_path / ("x" * 300)),
        Tile(None),
    ]
    picture = drawn(sheet([tiles], image_format="PNG"))
    for place in range(5):
        assert picture.getpixel((10 + place * 154 + 3, 20)) == (222, 224, 227)
    assert picture.getpixel((10 + 5 * 154 + 3, 20)) == (255, 255, 255), "an empty place"


def test_long_and_foreign_labels_stay_in_their_column(photos):
    picture = drawn(sheet([[Tile(photos[0], ("W" * 500 + "\n<script>", "品名 é"))]], image_format="PNG"))
    right_edge = picture.crop((10 + 144, 0, picture.width, picture.height))
    assert colours(right_edge) == {(255, 255, 255)}


def test_jpeg_is_the_default_and_no_row_is_an_error(photos):
    assert sheet([[Tile(photos[0])]]).startswith(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="needs a row"):
        sheet([[]])
