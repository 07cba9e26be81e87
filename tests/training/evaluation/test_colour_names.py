import io

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from shop_similarity.training.evaluation.colour_names import NAMES, colour_name
from tests.shop_similarity.drawn_photos import COLOURS, products

SHADES = {
    "black": ("black", "#1d1d20", "#14161f"),
    "grey": ("grey", "#b0b2b5", "slategrey"),
    "white": ("white", "ivory", "#f2f2f4"),
    "red": ("red", "firebrick", "#7c0a18", "crimson"),
    "orange": ("orange", "darkorange", "coral"),
    "brown": ("saddlebrown", "sienna", "#5b3a1e"),
    "beige": ("tan", "wheat", "#d2b49c"),
    "yellow": ("yellow", "gold", "khaki"),
    "green": ("green", "olivedrab", "limegreen", "darkgreen", "olive"),
    "blue": ("blue", "navy", "steelblue", "skyblue", "teal"),
    "purple": ("purple", "indigo", "mediumpurple"),
    "pink": ("pink", "hotpink", "lightpink"),
}


def shown(colour, background="white", size=(90, 60)):
    photo = Image.new("RGB", size, background)
    width, height = size
    ImageDraw.Draw(photo).ellipse((width * 0.3, height * 0.2, width * 0.7, height * 0.9), ImageColor.getrgb(colour))
    return photo


@pytest.mark.parametrize("name", NAMES)
def test_shades_are_called_as_people_call_them(name):
    assert {shade: colour_name(shown(shade)) for shade in SHADES[name]} == dict.fromkeys(SHADES[name], name)


def test_the_background_does_not_give_its_name():
    for background in ("white", "#8a5a33", "#2b2b2b", "lightblue"):
        assert colour_name(shown("firebrick", background)) == "red"
    # All of it is background, and nothing else is there.
    assert colour_name(Image.new("RGB", (40, 40), "green")) == "green"


def test_the_most_of_a_pattern_counts():
    photo = shown("navy")
    draw = ImageDraw.Draw(photo)
    for left in range(30, 60, 9):
        draw.rectangle((left, 15, left + 2, 50), "white")
    assert colour_name(photo) == "blue"


def test_one_name_for_photos_of_one_drawn_product():
    found = {}
    for drawn in products(8 * len(COLOURS))[::8]:
        views = [Image.open(io.BytesIO(drawn.photo(seed=seed))).convert("RGB") for seed in range(2)]
        names = {colour_name(view) for view in views}
        assert len(names) == 1
        found[drawn.colour] = names.pop()
    called = {name: "blue" if name == "teal" else name for name in COLOURS}
    assert sum(found[name] == called[name] for name in COLOURS) >= len(COLOURS) - 1


def test_sizes_and_noise_do_no_harm():
    for size in ((1, 1), (3, 500), (1200, 900)):
        assert colour_name(Image.new("RGB", size, "red")) == "red"
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    assert colour_name(Image.fromarray(noise)) in NAMES
