import numpy as np
import pytest
from PIL import Image

from shop_similarity.training.triplets.scorers import (
    SIDE,
    binary_patterns,
    describe,
    lab,
    lab_histogram,
    oriented_gradients,
)
from tests.shop_similarity.drawn_photos import COLOURS, KINDS, product_image


def test_lab_of_known_colours():
    # Values of the CIE's own formulas for sRGB under D65.
    known = {
        (255, 255, 255): (100, 0, 0),
        (0, 0, 0): (0, 0, 0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (119, 119, 119): (50.03, 0, 0),
    }
    assert np.allclose(lab(np.array(list(known))), list(known.values()), atol=0.05)


def scores(*photos):
    vectors = np.stack([describe(photo) for photo in photos])
    return vectors @ vectors.T


@pytest.mark.parametrize("size", [(64, 64), (300, 200), (97, 1)])
def test_a_vector_has_length_one_and_is_finite(size):
    for photo in (product_image("mug", "red", size=size), Image.new("RGB", size, "white"), Image.new("RGB", size)):
        vector = describe(photo)
        assert vector.dtype == np.float32 and np.isfinite(vector).all()
        assert np.linalg.norm(vector) == pytest.approx(1, abs=0.11)


def test_the_same_product_scores_higher_than_another_colour_or_kind():
    for kind in KINDS:
        red, blue = (product_image(kind, colour, size=(120, 120)) for colour in ("red", "blue"))
        again = product_image(kind, "red", size=(120, 120), seed=1)
        other = product_image(KINDS[KINDS.index(kind) - 1], "teal", size=(120, 120))
        found = scores(red, again, blue, other)
        assert found[0, 1] > found[0, 3]
        assert found[0, 2] > found[0, 3]


def test_colour_sees_colour_and_little_else():
    def colour(*arguments, **options):
        return lab_histogram(np.asarray(product_image(*arguments, **options)))

    for tone in COLOURS:
        other = "red" if tone != "red" else "teal"
        assert colour("mug", tone) @ colour("mug", tone, seed=1) > colour("mug", tone) @ colour("mug", other)
    # The mug's light and place change, the background's white is not what makes two photos alike.
    assert colour("mug", "red") @ colour("mug", "blue") < 0.5


def test_outline_is_blind_to_colour():
    def outline(colour):
        return oriented_gradients(np.asarray(product_image("chair", colour, size=(SIDE, SIDE)).convert("L")))

    assert outline("red") @ outline("blue") > 0.9


def test_gradients_know_their_direction():
    step = np.zeros((96, 96))
    step[:, 48:] = 255
    upright, lying = oriented_gradients(step), oriented_gradients(step.T)
    assert upright @ upright == pytest.approx(1) and upright @ lying == pytest.approx(0)
    bins = upright.reshape(8, 8, 9)
    assert np.all(bins.sum(axis=(0, 1))[1:] == 0)


def test_patterns_tell_stripes_from_dots_of_the_same_colours():
    def texture(pattern, seed=0):
        return binary_patterns(np.asarray(product_image("shirt", "blue", pattern, (96, 96), seed).convert("L"), float))

    for pattern in ("striped", "dotted", "checked"):
        assert texture(pattern) @ texture(pattern, 1) > texture(pattern) @ texture("plain")
