"""A photo is as public as its product."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.files.base import ContentFile
from django.db import connection

from catalog.models import Product, ProductPhoto
from catalog.thumbnails import SPECS, thumbnail
from tests.catalog.photos import draw, encoded
from tests.shop_similarity.factories import make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


@pytest.fixture
def hidden(make_product) -> ProductPhoto:
    return make_product("Secret", is_published=False).main_photo


@pytest.fixture
def staff(client):
    client.force_login(get_user_model().objects.create_user("clerk", is_staff=True))
    return client


def addresses(photo: ProductPhoto) -> list[str]:
    """The photo and all its copies."""
    return [photo.file.url, *(thumbnail(photo, size).url for size in SPECS)]


def test_a_photo_of_a_published_product_is_everybodys(client, make_product):
    for url in addresses(make_product().main_photo):
        response = client.get(url)
        assert response.status_code == 200
        assert response.headers["Cache-Control"] == "public, max-age=86400"
        assert "Cookie" not in response.headers.get("Vary", "")


def test_a_photo_of_an_unpublished_product_is_nobodys(client, hidden):
    for url in addresses(hidden):
        assert client.get(url).status_code == 404
        assert client.head(url).status_code == 404


def test_nor_a_customers(client, hidden):
    client.force_login(get_user_model().objects.create_user("customer"))
    assert {client.get(url).status_code for url in addresses(hidden)} == {404}


def test_the_staff_sees_it_and_no_cache_keeps_it(staff, hidden):
    for url in addresses(hidden):
        response = staff.get(url)
        assert response.status_code == 200
        assert "no-store" in response.headers["Cache-Control"]
        assert "private" in response.headers["Cache-Control"]


def test_publishing_and_hiding_count_at_once(client, hidden):
    urls = addresses(hidden)
    Product.objects.update(is_published=True)
    assert {client.get(url).status_code for url in urls} == {200}
    Product.objects.update(is_published=False)
    assert {client.get(url).status_code for url in urls} == {404}


def test_files_of_before_random_names_are_served_on(client, make_product, media_folder):
    photo = make_product(photos=0).photos.create(file="products/old/shirt.jpg")
    path = media_folder / "products/old/shirt.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(draw()))
    for url in addresses(photo):
        assert client.get(url).status_code == 200
    Product.objects.update(is_published=False)
    for url in addresses(photo):
        assert client.get(url).status_code == 404


def test_copies_in_one_folder_with_those_of_a_hidden_photo_are_hidden(client, make_product):
    shown, secret = make_product(photos=0), make_product(photos=0, is_published=False)
    photos = [
        ProductPhoto.objects.create(product=product, file=ContentFile(encoded(draw()), name=f"x.{suffix}"))
        for product, suffix in ((shown, "jpg"), (secret, "jpeg"))
    ]
    for photo, suffix in zip(photos, ("jpg", "jpeg"), strict=True):
        name = f"products/same/photo.{suffix}"
        photo.file.storage.save(name, photo.file)
        ProductPhoto.objects.filter(pk=photo.pk).update(file=name)
        photo.refresh_from_db()
    assert client.get(thumbnail(photos[1], "card").url).status_code == 404
    assert client.get(photos[1].file.url).status_code == 404
    assert client.get(photos[0].file.url).status_code == 200


def test_a_file_of_no_product_is_nobodys(client, staff, media_folder, make_product):
    photo = make_product().main_photo
    url = photo.file.url
    copy = thumbnail(photo, "card").url
    ProductPhoto.objects.all().delete()
    client.logout()
    for address in (url, copy, f"{settings.MEDIA_URL}CACHE/images/x.webp", f"{settings.MEDIA_URL}products"):
        assert client.get(address).status_code == 404


@pytest.mark.parametrize(
    "path", ["%00", "products/%00.jpg", "a" * 5_000, "CACHE/images/../../secret_key", "%25%5F"], ids=range(5)
)
def test_no_path_is_an_error(client, path):
    assert client.get(settings.MEDIA_URL + path).status_code in (400, 404)


def test_names_cannot_be_guessed(make_product):
    one, other = make_product(photos=0), make_product(photos=0)
    names = [
        ProductPhoto.objects.create(product=product, file=ContentFile(encoded(draw()), name="shirt.v2.jpg")).file.name
        for product in (one, one, other)
    ]
    tokens = [re.fullmatch(r"products/t-\d/shirt\.v2-([\w-]{22})\.jpg", name)[1] for name in names]
    assert len(set(tokens)) == 3


def test_nor_where_they_are_too_long_for_their_column(make_product):
    product = make_product(photos=0, sku="S" * 64)
    photo = ProductPhoto.objects.create(product=product, file=ContentFile(encoded(draw()), name=f"{'x' * 300}.jpg"))
    assert re.fullmatch(r"products/s{64}/x{100}-[\w-]{22}\.jpg", photo.file.name)


def test_a_million_photos_are_not_read_for_one(hidden):
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for condition in ("file = 'products/a/b.jpg'", "file LIKE 'products/a/b.%'"):
            cursor.execute(f"EXPLAIN SELECT 1 FROM catalog_productphoto WHERE {condition}")
            assert "catalog_photo_file" in "\n".join(row[0] for row in cursor.fetchall())


def test_no_page_names_a_photo_of_a_hidden_product(client, make_product, hidden):
    """The widget, the API and the shop's own pages: the hidden product would be the best look-alike."""
    shown, other = make_product("Shown"), make_product("Other")
    vectors = random_vectors(3, seed=0)
    vectors[2] = vectors[0]
    store_vectors(make_version(), [shown.main_photo, other.main_photo, hidden], vectors)
    content = client.get(shown.get_absolute_url()).content.decode()
    assert _stem(other.main_photo) in content, "the widget shows look-alikes"
    for url in (
        shown.get_absolute_url(),
        "/",
        "/search/?q=secret",
        f"/api/similarity/v1/products/{shown.pk}/similar/",
        f"/api/similarity/v1/products/{hidden.product_id}/similar/",
        f"/similarity/products/{shown.pk}/similar/",
        f"/similarity/products/{hidden.product_id}/similar/",
        hidden.product.get_absolute_url(),
    ):
        assert _stem(hidden) not in client.get(url).content.decode(), url


def _stem(photo: ProductPhoto) -> str:
    """What the addresses of a photo and of its copies have in common."""
    return photo.file.name.rpartition(".")[0]
