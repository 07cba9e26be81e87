"""The back office."""

import html
import re
import subprocess
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from catalog import thumbnails
from catalog.models import Category, Product
from shop_similarity.photos.decoding import open_image
from shop_similarity.photos.limits import catalogue_limits
from tests.catalog.html_page import Page
from tests.catalog.photos import draw, encoded
from tests.shop_similarity.photos.bad_files import (
    BAD_FILES,
    EPS,
    NOT_ALLOWED,
    damaged_in_the_middle,
    flat_png,
    flat_webp,
)

pytestmark = pytest.mark.django_db


def form(**values) -> dict:
    return {
        "name": "Mug",
        "slug": "mug",
        "sku": "M-1",
        "price": "5",
        "stock": "3",
        "description": "",
        "is_published": "on",
        "photos-TOTAL_FORMS": "1",
        "photos-INITIAL_FORMS": "0",
        "photos-0-position": "0",
        "photos-0-caption": "",
    } | values


def test_a_product_with_its_photo_is_added_and_shown(admin_client):
    category = Category.objects.create(name="Kitchen", slug="kitchen")
    upload = SimpleUploadedFile("mug.jpg", encoded(draw(640, 480)), "image/jpeg")
    values = form(category=category.pk, **{"photos-0-file": upload})
    response = admin_client.post("/admin/catalog/product/add/", values)
    assert response.status_code == 302, response.content.decode()[:2000]
    photo = Product.objects.get().photos.get()
    assert (photo.width, photo.height) == (640, 480)
    assert re.fullmatch(r"products/m-1/mug-[\w-]{22}\.jpg", photo.file.name)
    page = Page(admin_client.get(f"/admin/catalog/product/{photo.product.pk}/change/").content.decode())
    assert [image for image in page.all("img") if (image["src"] or "").endswith(".webp")]


def add(admin_client, name: str, content: bytes):
    """The answer to a product that is added in the admin with this photo."""
    category = Category.objects.create(name="Kitchen", slug="kitchen")
    upload = SimpleUploadedFile(name, content, "image/jpeg")
    return admin_client.post("/admin/catalog/product/add/", form(category=category.pk, **{"photos-0-file": upload}))


REFUSED = {
    "text": (lambda: b"plain text", "mug.jpg", "not an image of a known type"),
    "damaged AVIF": (lambda: damaged_in_the_middle("avif"), "mug.avif", "The AVIF file is damaged"),
    "EPS": (lambda: EPS, "mug.jpg", "file of type EPS"),
    "PNG of 169 megapixels": (flat_png, "mug.png", "13,000 x 13,000 pixels"),
    "WebP of 169 megapixels": (lambda: flat_webp(13_000), "mug.webp", "13,000 x 13,000 pixels"),
    "empty": (lambda: b"", "mug.jpg", "The submitted file is empty"),
    "cut off JPEG": (lambda: encoded(draw())[:2000], "mug.jpg", "cut off after 2,000 bytes"),
    "HEIC": (lambda: NOT_ALLOWED["heic"][0], "mug.heic", "file of type HEIC"),
    "SVG": (lambda: NOT_ALLOWED["svg"][0], "mug.svg", "file of type SVG"),
    "SVG as a JPEG": (lambda: NOT_ALLOWED["svg"][0], "mug.jpg", "file of type SVG"),
    "JPEG 2000": (lambda: encoded(draw(), "JPEG2000"), "mug.jp2", "file of type JPEG2000"),
    "JPEG as a page": (lambda: encoded(draw()), "mug.html", "must end in one of"),
}


def forbid_other_programs(monkeypatch):
    start = subprocess.Popen

    def start_decoder(command, **options):
        assert "shop_similarity.photos.decoder_process" in command, f"started {command}"
        return start(command, **options)

    monkeypatch.setattr(subprocess, "Popen", start_decoder)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_be_embedded_is_refused_in_the_form(admin_client, name, monkeypatch, media_folder):
    forbid_other_programs(monkeypatch)
    build, filename, sentence = REFUSED[name]
    content = build()
    assert len(content) < 30_000
    response = add(admin_client, filename, content)
    assert response.status_code == 200
    assert sentence in html.unescape(response.content.decode())
    assert not Product.objects.exists()
    assert not media_folder.exists()


def frames(kind: str) -> bytes:
    return encoded(draw(colour=(200, 0, 0)), kind, save_all=True, append_images=[draw(colour=(0, 0, 200))])


TAKEN = {
    "animated.gif": lambda: frames("GIF"),
    "animated.webp": lambda: frames("WEBP"),
    "animated.png": lambda: frames("PNG"),
    "photo.tif": lambda: encoded(draw(), "TIFF"),
    "photo.bmp": lambda: encoded(draw(), "BMP"),
    "photo.avif": lambda: encoded(draw(), "AVIF"),
    "a-png.jpg": lambda: encoded(draw(), "PNG"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_is_stored_as_it_is_and_shown(admin_client, client, name):
    content = TAKEN[name]()
    response = add(admin_client, name, content)
    assert response.status_code == 302, response.content.decode()[:2000]
    photo = Product.objects.get().photos.get()
    with photo.file.open() as file:
        assert file.read() == content
    assert (photo.width, photo.height) == (400, 300)
    assert open_image(photo.file, catalogue_limits()).size == (400, 300), "can be embedded"
    images = Page(client.get(photo.product.get_absolute_url()).content.decode()).all("img")
    assert [image for image in images if (image["src"] or "").endswith(".webp")]


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_a_bad_photo_that_is_stored_costs_no_page(admin_client, make_product, bad, monkeypatch):
    forbid_other_programs(monkeypatch)
    product = make_product("Mug", photos=1)
    photo = product.photos.get()
    Path(photo.file.path).write_bytes(bad.build())
    for url in ("/", product.get_absolute_url(), "/search/?q=mug", f"/admin/catalog/product/{product.pk}/change/"):
        response = admin_client.get(url)
        assert response.status_code == 200, url
        assert photo.file.name.removesuffix(".jpg") + "." not in " ".join(
            image["src"] or "" for image in Page(response.content.decode()).all("img")
        )
    assert "no-photo" in admin_client.get("/").content.decode()


@pytest.mark.parametrize("error", [OSError("disk"), MemoryError(), SyntaxError("tiff"), RuntimeError(), ImportError()])
def test_whatever_a_photo_raises_its_page_is_shown_and_it_is_not_tried_again_at_once(
    client, make_product, error, monkeypatch
):
    tries = []

    def fail(*args, **kwargs):
        tries.append(args)
        raise error

    monkeypatch.setattr(thumbnails, "open_image", fail)
    product = make_product("Mug", photos=1)
    for _again in range(3):
        assert client.get("/").status_code == client.get(product.get_absolute_url()).status_code == 200
    assert len(tries) == 1


def test_a_bad_photo_that_is_stored_does_not_stop_other_changes(admin_client, make_product):
    product = make_product("Mug", photos=1)
    photo = product.photos.get()
    Path(photo.file.path).write_bytes(b"bad")
    values = form(category=product.category_id, sku=product.sku, slug=product.slug) | {
        "photos-INITIAL_FORMS": "1",
        "photos-0-id": photo.pk,
        "photos-0-product": product.pk,
        "photos-0-caption": "broken",
    }
    response = admin_client.post(f"/admin/catalog/product/{product.pk}/change/", values)
    assert response.status_code == 302, response.content.decode()[:2000]
    photo.refresh_from_db()
    assert (photo.caption, photo.file.name.split("/")[0]) == ("broken", "products")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"Tee", "Skirt", "Bare", "Hidden"}),
        ("q=tee", {"Tee"}),
        ("q=T-2", {"Skirt"}),
        ("photos=no", {"Bare"}),
        ("photos=yes", {"Tee", "Skirt", "Hidden"}),
        ("is_published__exact=0", {"Hidden"}),
        ("category={men}", {"Tee", "Bare"}),
        ("category=nonsense", {"Tee", "Skirt", "Bare", "Hidden"}),
    ],
)
def test_the_list_can_be_searched_and_filtered(admin_client, make_product, query, names):
    make_product("Tee", "Men / Tops")
    make_product("Skirt", "Women / Bottoms")
    make_product("Bare", "Men / Bottoms", photos=0)
    make_product("Hidden", "Women / Tops", is_published=False)
    query = query.format(men=Category.objects.get(slug="men").pk)
    content = admin_client.get(f"/admin/catalog/product/?{query}").content.decode()
    page = Page(content)
    shown = {e.text for e in page.all("a") if e.is_in("th") or e.is_in("td")}
    assert shown & {"Tee", "Skirt", "Bare", "Hidden"} == names
    assert "Men / Bottoms" in content


@pytest.mark.parametrize("url", ["/admin/catalog/category/", "/admin/catalog/loadedcatalogue/"])
def test_the_other_lists(admin_client, make_product, url):
    make_product("Tee", "Men / Tops")
    assert admin_client.get(url).status_code == 200
