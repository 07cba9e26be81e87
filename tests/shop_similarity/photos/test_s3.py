"""Photos in an S3 bucket: what pages ask of it, what is missing, and addresses that hold for a while only.

The server is moto's, which speaks the real protocol; the storage is that of django-storages.
"""

from __future__ import annotations

import threading
import time
import urllib.request

import pytest
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.urls import reverse

from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.models import Embedding, OutboxEntry
from shop_similarity.photos import thumbnails
from shop_similarity.photos.addresses import address_seconds
from shop_similarity.photos.file_marks import file_mark
from shop_similarity.photos.thumbnails import shown_together, sources
from shop_similarity.storefront.cards import cards_of
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import add_photo, make_product, make_version, store_vectors
from tests.support.s3 import BUCKET, client, counted_requests, s3_server, storage_settings
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def server():
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(server, settings):
    """The shop's photos lie in it; puts them there by other options, if asked."""

    def put(**options):
        settings.STORAGES = {**settings.STORAGES, "default": storage_settings(server, **options)}

    put()
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": None}
    cache.clear()
    return put


def mugs(count):
    return [
        add_photo(make_product(f"Mug {number}"), product_photo("mug", "red", size=(600, 400 + number)))
        for number in range(count)
    ]


def page_of(photos):
    """What the cards of a page are shown by; photos are loaded anew, as for each page."""
    files = [type(photo).objects.get(pk=photo.pk).file for photo in photos]
    shown_together(files)
    return [sources(file) for file in files]


def plain(picture):
    """A picture without the signature of its address."""
    return picture.src.split("?")[0], picture.width, picture.height


def test_a_warm_page_asks_nothing_and_a_cold_one_little(bucket, monkeypatch):
    photos = mugs(8)
    made = page_of(photos)
    assert all(picture.srcset.count("w") >= 2 and picture.width == 480 for picture in made)
    with counted_requests() as requests:
        assert [picture.width for picture in page_of(photos)] == [480] * 8
    assert requests == []
    cache.clear()
    with counted_requests() as requests:
        found = page_of(photos)
    # Before: nine each, one after the other. Now it asks whether the photo has changed and whether its copy is there.
    assert len(requests) == 16 and {request.split()[0] for request in requests} == {"HEAD"}
    assert [(picture.width, picture.height) for picture in found] == [
        (picture.width, picture.height) for picture in made
    ]
    later = time.time() + 4_000
    monkeypatch.setattr(thumbnails.time, "time", lambda: later)
    with counted_requests() as requests:
        page_of(photos)
    assert len(requests) == 8, "an hour later it asks whether the photos have changed"


def test_what_workers_know_of_the_files_is_not_asked_of_the_storage(bucket, server, monkeypatch, settings):
    photos = mugs(8)
    version = make_version()
    store_vectors(version, photos, random_vectors(8))
    for photo in photos:
        Embedding.objects.filter(image_id=photo.pk).update(file_mark=file_mark(photo.file.storage, photo.file.name))
    OutboxEntry.objects.all().delete()
    with counted_requests() as requests:
        made = page_of(photos)
    made = [plain(picture) for picture in made]
    # Before: 72. Is the copy there, open the photo, read it, which is two more, write two copies.
    assert len(requests) == 8 * 6
    cache.clear()
    with counted_requests() as requests:
        assert [plain(picture) for picture in page_of(photos)] == made
    assert len(requests) == 8 and all("/CACHE/" in request for request in requests)
    later = time.time() + 4_000
    monkeypatch.setattr(thumbnails.time, "time", lambda: later)
    with counted_requests() as requests:
        assert [plain(picture) for picture in page_of(photos)] == made
    assert requests == [], "an hour later, too"
    # One that was saved anew below its name waits for a worker, and one that a worker has seen anew has another mark.
    client(server).put_object(
        Bucket=BUCKET, Key=photos[0].file.name, Body=product_photo("mug", "blue", size=(300, 300))
    )
    outbox.enqueue(version.pk, [ImageRow(photos[0].pk, photos[0].product_id, photos[0].file.name)])
    client(server).put_object(
        Bucket=BUCKET, Key=photos[1].file.name, Body=product_photo("mug", "blue", size=(320, 300))
    )
    mark = file_mark(photos[1].file.storage, photos[1].file.name)
    Embedding.objects.filter(image_id=photos[1].pk).update(file_mark=mark)
    later += 4_000
    changed = [plain(picture) for picture in page_of(photos)]
    assert [size for _name, *size in changed[:2]] == [[300, 300], [320, 300]]
    assert changed[2:] == made[2:]


def test_a_mark_costs_one_request(bucket):
    (photo,) = mugs(1)
    storage, name = photo.file.storage, photo.file.name
    with counted_requests() as requests:
        mark = file_mark(storage, name)
    assert len(requests) == 1
    assert mark == f"{storage.size(name)}:{storage.get_modified_time(name).timestamp():.6f}"
    storage.delete(name)
    with pytest.raises(FileNotFoundError):
        file_mark(storage, name)


def test_requests_of_one_page_are_under_way_together(bucket, monkeypatch):
    photos = mugs(4)
    page_of(photos)
    cache.clear()
    storage = type(default_storage._wrapped)
    ask = storage._open
    meeting = threading.Barrier(2)

    def waiting(self, name, mode):
        # Whoever is alone waits in vain.
        meeting.wait(10)
        return ask(self, name, mode)

    monkeypatch.setattr(storage, "_open", waiting)
    assert all(picture.srcset for picture in page_of(photos))
    assert not meeting.broken


@pytest.mark.long
def test_a_photo_that_is_replaced_below_its_name_gets_new_copies(bucket, server, monkeypatch):
    (photo,) = mugs(1)
    (before,) = page_of([photo])
    time.sleep(1.1)  # S3 tells whole seconds.
    client(server).put_object(Bucket=BUCKET, Key=photo.file.name, Body=product_photo("mug", "blue", size=(300, 300)))
    later = time.time() + 4_000
    monkeypatch.setattr(thumbnails.time, "time", lambda: later)
    (after,) = page_of([photo])
    assert (after.width, after.height) == (300, 300)
    assert after.src.split("?")[0] != before.src.split("?")[0]


def test_a_missing_object_is_a_placeholder_and_is_asked_for_once(bucket, server):
    photos = mugs(2)
    client(server).delete_object(Bucket=BUCKET, Key=photos[0].file.name)
    missing, there = page_of(photos)
    assert missing is None and there.srcset
    with counted_requests() as requests:
        assert page_of(photos)[0] is None
    assert requests == []


def test_a_bucket_that_refuses_costs_pictures_and_no_page(bucket, monkeypatch, caplog):
    from botocore.exceptions import ClientError

    photos = mugs(3)
    page_of(photos[:1])

    def refuse(self, name, mode="rb"):
        raise ClientError({"Error": {"Code": "403", "Message": "Forbidden"}}, "HeadObject")

    storage = type(default_storage._wrapped)
    for name in ("_open", "get_modified_time", "exists"):
        monkeypatch.setattr(storage, name, refuse)
    later = time.time() + 4_000
    monkeypatch.setattr(thumbnails.time, "time", lambda: later)
    known, *others = page_of(photos)
    assert known.srcset, "the last copies that are known"
    assert [picture.src.split("?")[0].rpartition("/")[2] for picture in others] == [
        photo.file.name.rpartition("/")[2] for photo in photos[1:]
    ]
    assert caplog.text.count("No thumbnail of the photo") == 3
    page_of(photos)
    assert caplog.text.count("No thumbnail of the photo") == 3, "for a minute it is not asked again"


@pytest.mark.long
def test_copies_of_a_private_bucket_are_seen_by_signed_addresses_made_for_each_page(bucket, monkeypatch):
    bucket(querystring_expire=30)
    photos = mugs(1)
    page_of(photos)
    (picture,) = page_of(photos)
    assert "X-Amz-Expires=30" in picture.src
    with urllib.request.urlopen(picture.src) as answer:
        assert answer.read(4) == b"RIFF"
    time.sleep(1.1)
    assert page_of(photos)[0].src != picture.src, "nothing keeps an address"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "public, max-age=60"),
        ({"querystring_expire": 30}, "public, max-age=15"),
        ({"querystring_expire": 30, "querystring_auth": False}, "public, max-age=60"),
    ],
)
def test_no_cache_keeps_a_fragment_for_longer_than_its_addresses_hold(bucket, client, settings, options, expected):
    bucket(**options)
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RECORD_EVENTS": False, "WIDGET_CACHE_SECONDS": 60}
    photos = mugs(3)
    store_vectors(make_version(), photos, random_vectors(3))
    response = client.get(reverse("shop_similarity:similar-products", args=[photos[0].product_id]))
    assert response.headers["Cache-Control"] == expected
    assert ("X-Amz-Expires" in response.content.decode()) is options.get("querystring_auth", True)


def test_the_photos_of_a_search_are_shown_together(bucket):
    products = [photo.product for photo in mugs(3)]
    for product in products:
        product.similar_image_id, product.similarity = None, 0.5
    cards = cards_of(products)
    groups = {id(getattr(card.image, thumbnails._GROUP)) for card in cards}
    assert len(groups) == 1


def test_storages_that_sign_nothing_keep_their_addresses_for_ever():
    assert address_seconds([default_storage]) is None
