"""The back office."""

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from catalog.models import Category, Product
from tests.catalog.html_page import Page
from tests.catalog.photos import draw, encoded

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


def test_a_text_file_is_not_taken_for_a_photo(admin_client):
    category = Category.objects.create(name="Kitchen", slug="kitchen")
    upload = SimpleUploadedFile("mug.jpg", b"plain text", "image/jpeg")
    response = admin_client.post("/admin/catalog/product/add/", form(category=category.pk, **{"photos-0-file": upload}))
    assert response.status_code == 200
    assert "not an image or a corrupted image" in response.content.decode()
    assert not Product.objects.exists()


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
    html = admin_client.get(f"/admin/catalog/product/?{query}").content.decode()
    page = Page(html)
    shown = {e.text for e in page.all("a") if e.is_in("th") or e.is_in("td")}
    assert shown & {"Tee", "Skirt", "Bare", "Hidden"} == names
    assert "Men / Bottoms" in html


@pytest.mark.parametrize("url", ["/admin/catalog/category/", "/admin/catalog/loadedcatalogue/"])
def test_the_other_lists(admin_client, make_product, url):
    make_product("Tee", "Men / Tops")
    assert admin_client.get(url).status_code == 200
