import numpy as np
import pytest
from PIL import Image, ImageDraw

from shop_similarity.training.photos.augmentation import Augmentation, border_colour, generator_of
from tests.shop_similarity.drawn_photos import product_image

NOTHING = Augmentation(flip=False, crop=(1, 1), aspect=1, rotation=0)
GROUND = (240, 238, 230)


def drawing(size=(96, 64)):
    """A red bar at the left, a blue dot at the top right, on a light ground."""
    image = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(image)
    draw.rectangle((12, 12, 27, size[1] - 13), fill=(200, 20, 20))
    draw.ellipse((size[0] - 32, 10, size[0] - 13, 29), fill=(20, 40, 200))
    return image


def many(augmentation, image=None, count=60, seed=0, epoch=0):
    image = image or drawing()
    return [augmentation.apply(image, generator_of(seed, epoch, number)) for number in range(count)]


def pixels(image):
    return np.asarray(image).astype(int)


def red(image):
    return (pixels(image)[..., 0] - pixels(image)[..., 2] > 90).astype(float)


def angle_of_the_bar(image):
    """Degrees by which the red bar leans from the vertical."""
    mask = red(image)
    ys, xs = np.nonzero(mask)
    values, vectors = np.linalg.eigh(np.cov(np.stack([xs, ys])))
    x, y = vectors[:, values.argmax()]
    return np.degrees(np.arctan2(x * np.sign(y), abs(y)))


def test_nothing_switched_on_changes_nothing():
    assert all(np.array_equal(pixels(photo), pixels(drawing())) for photo in many(NOTHING))


def test_a_flip_is_a_flip_of_about_half_the_photos_and_never_upside_down():
    plain, mirrored = pixels(drawing()), pixels(drawing())[:, ::-1]
    found = []
    for photo in many(Augmentation(flip=True, crop=(1, 1), aspect=1, rotation=0)):
        found.append(np.array_equal(pixels(photo), mirrored))
        assert found[-1] or np.array_equal(pixels(photo), plain)
    assert 18 <= sum(found) <= 42


def test_flip_within_the_affine_step_is_the_same_flip():
    turned = Augmentation(flip=False, crop=(0.8, 0.8), aspect=1, rotation=0)
    both = Augmentation(flip=True, crop=(0.8, 0.8), aspect=1, rotation=0)
    flips = 0
    for plain, other in zip(many(turned), many(both), strict=True):
        same = np.array_equal(pixels(plain), pixels(other))
        flips += not same
        assert same or np.abs(pixels(plain)[:, ::-1] - pixels(other)).max() <= 1
    assert flips


@pytest.mark.parametrize("limit", [3, 10])
def test_rotation_stays_within_its_limit_and_uses_it(limit):
    photos = many(Augmentation(flip=False, crop=(1, 1), aspect=1, rotation=limit), drawing((96, 96)))
    angles = [angle_of_the_bar(photo) for photo in photos]
    assert max(map(abs, angles)) <= limit + 0.5
    assert min(angles) < -limit / 2 and max(angles) > limit / 2
    assert all(photo.size == (96, 96) for photo in photos)


def test_what_a_rotation_uncovers_has_the_colour_of_the_border():
    image = Image.new("RGB", (80, 80), GROUND)
    for photo in many(Augmentation(flip=False, crop=(1, 1), aspect=1, rotation=20), image, 20):
        assert np.array_equal(pixels(photo), pixels(image))


def test_cut_outs_have_the_areas_that_were_asked_for_and_hold_only_the_photo():
    image = drawing((200, 100))
    inner = ImageDraw.Draw(image)
    inner.rectangle((0, 0, 199, 99), outline=(0, 0, 0), width=3)
    areas = []
    for photo in many(Augmentation(flip=False, crop=(0.5, 0.9), aspect=1, rotation=0), image):
        areas.append(photo.width * photo.height / 20_000)
        assert photo.width / photo.height == pytest.approx(2, rel=0.03)
    assert min(areas) > 0.48 and max(areas) < 0.92
    assert max(areas) - min(areas) > 0.25


def test_aspect_ratio_moves_within_its_factor():
    ratios = [
        photo.width / photo.height
        for photo in many(Augmentation(flip=False, crop=(0.5, 0.5), aspect=1.5, rotation=0), drawing((100, 100)))
    ]
    assert 1 / 1.55 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.55


def test_more_than_the_whole_area_sets_the_photo_into_its_border_colour():
    for photo in many(Augmentation(flip=False, crop=(2, 2), aspect=1, rotation=0), count=20):
        assert photo.width * photo.height == pytest.approx(2 * 96 * 64, rel=0.03)
        # Nothing of the photo is lost.
        assert red(photo).sum() == pytest.approx(red(drawing()).sum(), rel=0.1)
        assert tuple(pixels(photo)[0, 0]) == GROUND


def test_colours_are_kept_when_colour_is_off():
    teal = (40, 150, 150)
    # A plain patch fills the middle: whatever is cut and turned, its colour must be there unchanged.
    image = Image.new("RGB", (100, 100), GROUND)
    image.paste(teal, (20, 20, 80, 80))
    for photo in many(Augmentation(rotation=10)):
        assert photo.mode == "RGB"
    for photo in many(Augmentation(rotation=10), image):
        middle = pixels(photo)[photo.height // 2 - 4 : photo.height // 2 + 4, photo.width // 2 - 4 : photo.width // 2]
        assert np.array_equal(middle, np.broadcast_to(teal, middle.shape))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_each_colour_strength_changes_colour_and_not_shape(name):
    image = product_image("mug", "teal", size=(64, 64))
    changed = many(Augmentation(flip=False, crop=(1, 1), aspect=1, rotation=0, **{name: 0.3}), image, 20)
    means = np.array([pixels(photo).mean(axis=(0, 1)) for photo in changed])
    if name == "contrast":
        means = np.array([pixels(photo).std(axis=(0, 1)) for photo in changed])
    if name in ("hue", "saturation"):
        means = np.array([pixels(photo)[30, 26] for photo in changed])
    assert np.ptp(means, axis=0).max() > 5
    edges = [np.abs(np.diff(np.asarray(photo.convert("L")).astype(int), axis=1)).argmax(axis=1) for photo in changed]
    assert np.mean([np.abs(edge - edges[0]) <= 1 for edge in edges]) > 0.7


def test_erasing_paints_a_rectangle_of_border_colour():
    image = Image.new("RGB", (100, 100), (30, 30, 30))
    image.paste((200, 0, 0), (1, 1, 99, 99))
    photos = many(Augmentation(flip=False, crop=(1, 1), aspect=1, rotation=0, erase=0.5), image)
    gone = np.array([(pixels(photo)[..., 0] < 100).mean() - 396 / 10_000 for photo in photos])
    assert 15 <= (gone > 0.01).sum() <= 45
    assert gone.max() <= 0.16
    # What was handed in is not painted on.
    assert (pixels(image)[50, 50] == (200, 0, 0)).all()


def test_same_seed_same_pixels_other_epoch_other_pixels():
    once, again = many(Augmentation()), many(Augmentation())
    assert all(np.array_equal(pixels(a), pixels(b)) for a, b in zip(once, again, strict=True))
    for other in (many(Augmentation(), epoch=1), many(Augmentation(), seed=1)):
        same = [a.size == b.size and np.array_equal(pixels(a), pixels(b)) for a, b in zip(once, other, strict=True)]
        assert not any(same)


def test_border_colour_is_that_of_the_ground():
    assert border_colour(drawing()) == GROUND


def test_one_pixel_is_enough():
    for photo in many(Augmentation(brightness=0.2, hue=0.2, erase=1), Image.new("RGB", (1, 1)), 10):
        assert min(photo.size) >= 1


def test_settings_survive_json_and_wrong_ones_are_refused():
    augmentation = Augmentation(crop=(0.5, 0.75), rotation=3, hue=0.1)
    assert Augmentation.from_dict(augmentation.to_dict()) == augmentation
    assert isinstance(augmentation.to_dict()["crop"], list)
    for wrong in (
        {"crop": (0.9, 0.5)},
        {"crop": (0, 1)},
        {"crop": 0.5},
        {"rotation": 90},
        {"hue": 0.6},
        {"erase": 2},
        {"aspect": 0.5},
        {"vertical_flip": True},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Augmentation.from_dict(wrong)
