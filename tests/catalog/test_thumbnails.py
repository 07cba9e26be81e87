"""Small copies of photos, and the sizes that pages state for them."""

from io import BytesIO

import numpy as np
import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile
from PIL import Image

from catalog.models import ProductPhoto
from catalog.templatetags.shop import money, photo, shape
from catalog.thumbnails import SPECS, Square, busiest_square, forget, plain_ground, thumbnail
from tests.catalog.html_page import Page
from tests.catalog.photos import draw, encoded

pytestmark = pytest.mark.django_db
ORIENTATION, MAKER = 0x0112, 0x010F


@pytest.fixture
def add_photo(make_product):
    product = make_product(photos=0)

    def add(content: bytes, name: str = "photo.jpg") -> ProductPhoto:
        return ProductPhoto.objects.create(product=product, file=ContentFile(content, name=name))

    return add


def opened(picture: ProductPhoto, size: str) -> Image.Image:
    copy = thumbnail(picture, size)
    name = copy.url.removeprefix("/media/")
    with picture.file.storage.open(name) as file:
        image = Image.open(BytesIO(file.read()))
    image.load()
    if copy.width:
        assert image.size == (copy.width, copy.height), "the page states another size"
    return image


@pytest.mark.parametrize("size", sorted(SPECS))
@pytest.mark.parametrize("dimensions", [(2000, 1500), (1500, 2000), (100, 60), (1, 1), (3001, 7)])
def test_size_is_bounded_stated_and_never_enlarged(add_photo, size, dimensions):
    image = opened(add_photo(encoded(draw(*dimensions))), size)
    assert max(image.size) <= min(SPECS[size].side, max(dimensions))
    if SPECS[size].square:
        assert image.width == image.height
    else:
        same_shape = image.width / image.height == pytest.approx(dimensions[0] / dimensions[1], rel=0.02)
        assert same_shape or min(image.size) <= 3


def test_a_turned_photo_with_exif_comes_upright_and_bare(add_photo):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # what is the top of the file belongs on the right
    exif[MAKER] = "Secret Camera"
    image = Image.new("RGB", (400, 200), "white")
    image.paste("red", (0, 0, 400, 50))
    picture = add_photo(encoded(image, exif=exif))
    assert (picture.width, picture.height) == (200, 400)
    copy = opened(picture, "large")
    assert copy.size == (200, 400)
    assert not copy.getexif()
    assert "exif" not in copy.info
    assert copy.getpixel((190, 200))[1] < 90, "red on the right"
    assert copy.getpixel((20, 200))[1] > 200, "white on the left"


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("CMYK", "JPEG"),
        ("L", "JPEG"),
        ("P", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("I;16", "PNG"),
        ("P", "GIF"),
    ],
)
def test_every_colour_mode_can_be_shown(add_photo, mode, kind):
    image = draw(colour=(200, 30, 30)).convert("L" if mode == "I;16" else mode)
    image = image.convert("I;16") if mode == "I;16" else image
    copy = opened(add_photo(encoded(image, kind), f"photo.{kind.lower()}"), "card")
    assert copy.mode == "RGB"


def test_transparency_becomes_white(add_photo):
    image = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (50, 50, 150, 150))
    copy = opened(add_photo(encoded(image, "PNG"), "photo.png"), "card")
    assert min(copy.getpixel((5, 5))) > 245


@pytest.mark.parametrize("content", [b"no photo at all", encoded()[:500], b""])
def test_an_unreadable_photo_is_a_placeholder_and_breaks_no_page(add_photo, client, content, caplog):
    picture = add_photo(content)
    for _again in range(2):
        assert thumbnail(picture, "card") is None
    assert f"Photo {picture.pk}" in caplog.text
    response = client.get(picture.product.get_absolute_url())
    assert response.status_code == 200
    assert "no-photo" in response.content.decode()


def test_a_photo_that_was_lost_breaks_no_page_and_is_shown_when_it_is_back(add_photo, client):
    content = encoded()
    picture = add_photo(content)
    storage, name = picture.file.storage, picture.file.name
    storage.delete(name)
    assert client.get("/").status_code == 200
    assert thumbnail(picture, "card") is None
    storage.save(name, ContentFile(content))
    cache.clear()  # the next look is seconds away
    assert thumbnail(picture, "card") is not None


def test_a_photo_under_a_used_name_does_not_inherit_the_old_picture(add_photo, monkeypatch):
    # As photos of before random names.
    monkeypatch.setattr("catalog.models.secrets.token_urlsafe", lambda size: "same")
    old = add_photo(encoded(draw(colour=(255, 0, 0))))
    name = old.file.name
    red = opened(old, "card")
    old.file.storage.delete(name)
    old.delete()
    new = add_photo(encoded(draw(colour=(0, 0, 255))))
    assert new.file.name == name
    blue = opened(new, "card")
    middle = red.width // 2
    assert red.getpixel((middle, middle))[0] > 200
    assert blue.getpixel((middle, middle))[2] > 200


def test_forget_deletes_every_copy(add_photo, media_folder):
    picture = add_photo(encoded())
    for size in SPECS:
        opened(picture, size)
    assert len(list(media_folder.rglob("*.webp"))) == len(SPECS)
    forget(picture)
    assert not list(media_folder.rglob("*.webp"))
    assert opened(picture, "card")


def test_a_product_on_a_plain_ground_is_not_cut():
    image = Square(300).process(draw(200, 600, ground=(240, 241, 239)))
    assert image.size == (300, 300)
    assert image.getpixel((0, 150)) == (240, 241, 239)
    colours = np.asarray(image).reshape(-1, 3)
    disc = (np.abs(colours - (180, 60, 40)).max(axis=1) < 20).sum()
    assert disc == pytest.approx(np.pi * (66 * 300 / 600) ** 2, rel=0.1), "the whole disc is there"


def test_the_ground_is_plain_only_where_both_edges_are():
    photo_ = draw(200, 400, ground=(250, 250, 250))
    assert plain_ground(photo_) == (250, 250, 250)
    half = photo_.copy()
    half.paste((10, 10, 10), (150, 0, 200, 400))
    assert plain_ground(half) is None
    striped = photo_.copy()
    striped.paste((10, 10, 10), (0, 0, 200, 200))
    assert plain_ground(striped) is None


@pytest.mark.parametrize(("left", "expected"), [(20, 0.0), (680, 1.0), (350, 0.5)])
def test_a_cut_keeps_the_subject(left, expected):
    rng = np.random.default_rng(0)
    pixels = np.full((300, 900, 3), 128, np.uint8)
    pixels[50:250, left : left + 200] = rng.integers(0, 255, (200, 200, 3))
    wide = Image.fromarray(pixels)
    assert busiest_square(wide)[0] == pytest.approx(expected, abs=0.16)
    assert busiest_square(wide.transpose(Image.Transpose.TRANSPOSE))[1] == pytest.approx(expected, abs=0.16)
    assert busiest_square(Image.new("RGB", (300, 300))) == (0.5, 0.5)
    assert busiest_square(Image.new("RGB", (900, 300))) == (0.5, 0.5)


def test_loading_rows_opens_no_file(add_photo):
    picture = add_photo(encoded())
    broken = add_photo(b"not a photo")
    for one in (picture, broken):
        one.file.storage.delete(one.file.name)
    rows = {row.pk: row for row in ProductPhoto.objects.all()}
    assert (rows[picture.pk].width, rows[picture.pk].height) == (400, 300)
    assert (rows[broken.pk].width, rows[broken.pk].height) == (None, None)


def test_a_new_file_brings_a_new_size(add_photo):
    picture = add_photo(encoded())
    picture.file = ContentFile(encoded(draw(90, 80)), name="other.jpg")
    picture.save()
    picture.refresh_from_db()
    assert (picture.width, picture.height) == (90, 80)
    with picture.file.open() as file:
        assert file.read() == encoded(draw(90, 80)), "measuring used nothing up"


def test_the_img_tag(add_photo):
    picture = add_photo(encoded(draw(2000, 1000)))
    tag = Page(photo(picture, "medium,large", alt='"a" & b', sizes="50vw", eager=True)).one("img")
    assert (tag["width"], tag["height"], tag["alt"]) == ("1280", "640", '"a" & b')
    assert [part.split()[1] for part in tag["srcset"].split(", ")] == ["720w", "1280w"]
    assert (tag["sizes"], tag["fetchpriority"], tag["loading"]) == ("50vw", "high", None)
    small = add_photo(encoded(draw(50, 50)))
    tag = Page(photo(small, "medium,large")).one("img")
    assert (tag["srcset"], tag["loading"], tag["width"]) == (None, "lazy", "50")
    assert Page(photo(None, "card")).one("span")["aria-label"] == "No photo"


def test_money(settings):
    assert money(None) == "Price on request"
    assert money(1234567) == "$1,234,567.00"
    settings.SHOP_CURRENCY = "€"
    assert money(5) == "€5.00"


@pytest.mark.parametrize(("size", "expected"), [((300, 200), "wide"), ((200, 300), "tall"), ((210, 200), "square")])
def test_shape(size, expected):
    assert shape(ProductPhoto(width=size[0], height=size[1])) == expected
    assert shape(None) == "square"
