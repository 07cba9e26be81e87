"""Small copies of photos, by whichever library the shop has."""

from __future__ import annotations

import io

import pytest
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from PIL import Image

from catalog.models import ProductPhoto
from shop_similarity.photos import thumbnails
from shop_similarity.photos.thumbnails import Sources, files_beside, shown_together, sources
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import add_photo, make_product

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": None}
    cache.clear()


def photo(width: int = 600, height: int = 300, **values) -> ProductPhoto:
    return add_photo(make_product(), product_photo("mug", "red", size=(width, height)), **values)


def opened(url: str) -> Image.Image:
    with default_storage.open(url.removeprefix(default_storage.base_url)) as file:
        return Image.open(io.BytesIO(file.read()))


def test_copies_have_the_widths_that_are_asked_for():
    found = sources(photo().file, (100, 300))
    assert (found.width, found.height) == (300, 150)
    first, second = found.srcset.split(", ")
    assert first.endswith(" 100w")
    assert second.endswith(" 300w")
    assert found.src == first.split()[0]
    assert opened(second.split()[0]).size == (300, 150)
    assert opened(found.src).size == (100, 50)
    assert opened(found.src).format == "WEBP"


def test_a_photo_is_never_enlarged_and_a_tall_one_is_not_endless():
    small = sources(photo(200, 200).file, (100, 300, 500))
    assert small.srcset.count("w") >= 2
    assert (small.width, small.height) == (200, 200)
    tall = sources(photo(50, 800).file, (100, 200))
    assert tall.height <= 400


def test_copies_are_made_once(monkeypatch):
    file = photo().file
    first = sources(file)
    monkeypatch.setattr(thumbnails, "open_image", lambda *arguments, **values: pytest.fail("decoded again"))
    assert sources(file) == first
    cache.clear()
    assert sources(file) == first, "what lies in the storage is found again"


def test_a_photo_is_decoded_once_for_all_its_copies(monkeypatch):
    calls = []

    def counting(*arguments, **values):
        calls.append(arguments)
        return original(*arguments, **values)

    original = thumbnails.open_image
    monkeypatch.setattr(thumbnails, "open_image", counting)
    assert sources(photo().file, (50, 100, 150)).srcset.count("w,") == 2
    assert len(calls) == 1


def test_a_replaced_file_of_the_same_name_gets_new_copies():
    shown = photo(400, 200)
    before = sources(shown.file)
    name, storage = shown.file.name, shown.file.storage
    storage.delete(name)
    storage.save(name, ContentFile(product_photo("mug", "blue", size=(300, 300))))
    cache.clear()
    after = sources(ProductPhoto.objects.get(pk=shown.pk).file)
    assert after.src != before.src
    assert (after.width, after.height) == (300, 300)


def test_exif_turns_are_carried_out():
    image = Image.new("RGB", (300, 100), "red")
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    found = sources(add_photo(make_product(), buffer.getvalue()).file, (50,))
    assert (found.width, found.height) == (33, 100)


@pytest.mark.parametrize("content", [b"no photo", b"", b"\xff\xd8\xff" + b"\0" * 50])
def test_unreadable_photos_are_none_and_known_as_such(content, caplog, monkeypatch):
    shown = photo()
    with default_storage.open(shown.file.name, "wb") as file:
        file.write(content)
    assert sources(shown.file) is None
    assert "can't be shown" in caplog.text
    monkeypatch.setattr(thumbnails, "open_image", lambda *arguments, **values: pytest.fail("tried again at once"))
    assert sources(shown.file) is None


def test_limits_hold_for_thumbnails_too(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "MAX_IMAGE_PIXELS": 1_000}
    assert sources(photo(100, 100).file) is None


def test_missing_photos_are_none():
    shown = photo()
    shown.file.storage.delete(shown.file.name)
    assert sources(shown.file) is None
    assert sources(None) is None
    assert sources(ProductPhoto().file) is None


def test_a_copy_whose_making_was_cut_off_is_made_later(monkeypatch):
    shown = photo()

    def killed(*arguments, **values):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(thumbnails, "open_image", killed)
        sources(shown.file)
    assert sources(shown.file).srcset


def test_without_imagekit_the_photo_itself_is_shown(monkeypatch):
    monkeypatch.setattr(thumbnails.apps, "is_installed", lambda name: False)
    shown = photo(64, 32)
    assert sources(shown.file) == Sources(shown.file.url, "", 64, 32)


def copies_of_the_shop(file, widths):
    if file.name.rpartition("/")[2].startswith("none"):
        return []
    if file.name.rpartition("/")[2].startswith("broken"):
        raise RuntimeError("The shop's own library fails.")
    return [(f"/made/{width}", width, width * 2) for width in reversed(widths)]


def test_the_shops_own_callable(settings, caplog):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "THUMBNAILS": "tests.shop_similarity.photos.test_thumbnails.copies_of_the_shop",
    }
    assert sources(photo().file, (10, 20)) == Sources("/made/10", "/made/10 10w, /made/20 20w", 20, 40)
    assert sources(photo(name="none.jpg").file) is None
    broken = photo(name="broken.jpg")
    assert sources(broken.file).src == broken.file.url
    assert "the photo itself is shown" in caplog.text


def test_a_callable_can_ask_which_photos_are_on_the_same_page():
    one, two, alone = photo().file, photo().file, photo().file
    shown_together([one, None, two])
    assert files_beside(two) == [one, two]
    assert files_beside(alone) == [alone]


def test_the_reference_shop_shows_its_own_copies(settings):
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "THUMBNAILS": "catalog.thumbnails.square_copies",
    }
    found = sources(photo(900, 700).file)
    assert (found.width, found.height) == (600, 600)
    assert " 300w, " in found.srcset
