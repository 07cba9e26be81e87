"""Photos that show the same picture are found, photos that merely look alike are not."""

import io

import numpy as np
from PIL import Image

from shop_similarity.training.triplets.photo_hashes import colour_fields, difference_hash, near_pairs
from tests.shop_similarity.drawn_photos import product_image, products


def hashed(photos):
    return np.array([difference_hash(photo) for photo in photos]), np.array([colour_fields(photo) for photo in photos])


def saved_anew(photo, scale, quality):
    stream = io.BytesIO()
    small = photo.resize([round(side * scale) for side in photo.size], Image.Resampling.LANCZOS)
    small.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


def drawn(count, seed=0):
    return [product_image(item.kind, item.colour, item.pattern, (160, 160), seed) for item in products(count)]


def test_photos_saved_anew_are_found_and_no_others():
    photos = drawn(60)
    copies = [saved_anew(photo, 0.7, 60) for photo in photos]
    pairs = near_pairs(*hashed(photos), *hashed(copies))
    assert pairs.tolist() == [[place, place] for place in range(60)]


def test_within_one_set_each_pair_stands_once():
    photos = [*drawn(5), saved_anew(drawn(5)[2], 0.5, 80)]
    assert near_pairs(*hashed(photos)).tolist() == [[2, 5]]


def test_another_colour_and_another_photo_of_a_product_are_no_copies():
    red, blue = (product_image("mug", colour, size=(160, 160)) for colour in ("red", "blue"))
    moved = product_image("mug", "red", size=(160, 160), seed=3)
    assert len(near_pairs(*hashed([red, blue, moved]))) == 0


def test_photos_without_any_edge_are_compared_by_colour():
    white, grey, same = (Image.new("RGB", (50, 40), colour) for colour in ("#fff", "#888", "#fefefe"))
    assert near_pairs(*hashed([white, grey, same])).tolist() == [[0, 2]]


def test_many_photos_are_compared_in_parts(monkeypatch):
    photos = [*drawn(5), *drawn(3)]
    whole = near_pairs(*hashed(photos))
    monkeypatch.setattr("shop_similarity.training.triplets.photo_hashes._AT_ONCE", 2)
    assert near_pairs(*hashed(photos)).tolist() == whole.tolist() == [[0, 5], [1, 6], [2, 7]]
    assert near_pairs(np.zeros((0, 512), bool), np.zeros((0, 192), np.uint8)).shape == (0, 2)
