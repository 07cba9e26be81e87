"""Search by photo in the web process: what is accepted, what reaches the worker, what is kept, the pages."""

from __future__ import annotations

import io
import json
import uuid
from datetime import timedelta

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from PIL import Image, ImageDraw

from catalog.models import Category
from shop_similarity.models import ModelVersion, VisualQuery
from shop_similarity.photos import decoder_pool
from shop_similarity.photos.decoding import ImageTooLarge, ImageTypeNotAllowed, ImageUnreadable
from shop_similarity.search.options import Filters, SearchOptions
from shop_similarity.visual_search import Busy, CropError, Expired, prepare_photo, purge, results, submit, wait
from shop_similarity.visual_search.categories import category_choices
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import (
    make_category,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.shop_similarity.photos.bad_files import slow_photo
from tests.vectors import random_vectors

FORM = "/similarity/search/"


@pytest.fixture(autouse=True)
def _no_old_counts():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def configure(settings):
    def change(**values):
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **values}

    change(VISUAL_SEARCH_WAIT_SECONDS=0)
    return change


def _encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _quarters(size: tuple[int, int] = (400, 200)) -> Image.Image:
    """Red and green above, blue and white below."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.rectangle((0, 0, width // 2 - 1, height // 2 - 1), fill="red")
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill=(0, 255, 0))
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill="blue")
    return image


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def _answer(query: VisualQuery, vector: np.ndarray) -> None:
    VisualQuery.objects.filter(pk=query.pk).update(vector=vector, photo=None, answered_at=timezone.now())


def _bomb() -> bytes:
    """A PNG of few bytes that says it has 30,000 x 30,000 pixels."""
    data = bytearray(_encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = (30_000).to_bytes(4) * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
    return bytes(data)


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
UNFIT = {
    "too many bytes": (b"\xff\xd8\xff" + bytes(70_000), ImageTooLarge, 413),
    "too many pixels": (_bomb(), ImageTooLarge, 413),
    "text called jpg": (b"These are words.\n" * 20, ImageTypeNotAllowed, 415),
    "svg": (SVG, ImageTypeNotAllowed, 415),
    "html": (b"<!doctype html><script>alert(1)</script>", ImageTypeNotAllowed, 415),
    "pdf": (b"%PDF-1.7\n" + bytes(200), ImageTypeNotAllowed, 415),
    "tiff, which browsers do not show": (_encoded(_quarters((20, 20)), "TIFF"), ImageTypeNotAllowed, 415),
    "cut off": (product_photo("mug", "red", size=(200, 200))[:1_500], ImageUnreadable, 422),
    "empty": (b"", ImageUnreadable, 422),
}


class TestPreparing:
    @pytest.mark.parametrize("name", UNFIT)
    def test_what_is_no_fit_photo_is_refused_with_a_sentence(self, configure, name):
        configure(VISUAL_SEARCH_MAX_BYTES=65_536)
        content, error, _status = UNFIT[name]
        with pytest.raises(error) as caught:
            prepare_photo(SimpleUploadedFile("photo.jpg", content, "image/jpeg"))
        assert str(caught.value).endswith(".")

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
    def test_every_format_of_browsers_becomes_a_small_png(self, kind):
        prepared = _opened(prepare_photo(_encoded(_quarters((1_600, 800)), kind)))
        assert (prepared.format, prepared.mode, prepared.size) == ("PNG", "RGB", (512, 256))
        red, white = prepared.getpixel((60, 60)), prepared.getpixel((450, 200))
        assert red[0] > 200 and max(red[1:]) < 60
        assert min(white) > 240

    def test_photo_is_turned_upright_and_its_metadata_go(self):
        exif = Image.Exif()
        exif[0x0112] = 6  # a phone held upright
        exif[0x010E] = "taken at home"
        content = _encoded(_quarters(), "JPEG", exif=exif, quality=95)
        prepared = prepare_photo(content)
        image = _opened(prepared)
        assert image.size == (200, 400)
        # Turned clockwise, the lower left corner comes to the upper left.
        assert image.getpixel((20, 20))[2] > 200
        assert not image.getexif()
        assert image.info == {}
        assert b"at home" not in prepared

    def test_crop_is_measured_on_the_upright_photo(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        content = _encoded(_quarters(), "JPEG", exif=exif, quality=95)
        image = _opened(prepare_photo(content, crop=(0.5, 0.0, 1.0, 0.5)))
        assert image.size == (100, 200)
        assert all(image.getpixel(at)[0] > 200 and image.getpixel(at)[1] < 60 for at in [(5, 5), (94, 194)])

    def test_small_region_of_a_large_photo_keeps_its_pixels(self):
        image = Image.new("RGB", (4_000, 4_000), "white")
        ImageDraw.Draw(image).rectangle((1_000, 1_000, 1_499, 1_499), fill="blue")
        prepared = _opened(prepare_photo(_encoded(image, "JPEG"), crop=(0.25, 0.25, 0.375, 0.375)))
        assert prepared.size[0] >= 500
        assert prepared.getpixel((20, 20))[2] > 200 and prepared.getpixel((20, 20))[0] < 60

    @pytest.mark.parametrize(
        "crop",
        [
            (0.5, 0, 0.5, 1),
            (0.6, 0, 0.4, 1),
            (-0.1, 0, 1, 1),
            (0, 0, 1, 1.01),
            (0, float("nan"), 1, 1),
            (0, 0, float("inf"), 1),
            (0, 0, 1),
            "abcd",
            (0, 0, 0.001, 0.001),
        ],
    )
    def test_region_that_is_none_is_refused(self, crop):
        with pytest.raises(CropError):
            prepare_photo(_encoded(_quarters()), crop=crop)


@pytest.mark.django_db
class TestQueue:
    def test_submit_queues_what_the_worker_needs_and_nothing_else(self):
        version = make_version()
        query = submit(io.BytesIO(_encoded(_quarters())))
        row = VisualQuery.objects.defer(None).get()
        assert (row.pk, row.version_id, row.vector, row.error) == (query.pk, version.pk, None, "")
        assert _opened(bytes(row.photo)).size == (400, 200)
        with pytest.raises(Busy):
            wait(query, 0)

    def test_without_an_active_version_the_service_is_not_ready(self):
        with pytest.raises(Busy, match="not ready"):
            submit(io.BytesIO(_encoded(_quarters())))

    def test_full_queue_turns_away(self, configure):
        configure(VISUAL_SEARCH_QUEUE=2)
        make_version()
        first = submit(io.BytesIO(_encoded(_quarters())))
        submit(io.BytesIO(_encoded(_quarters())))
        with pytest.raises(Busy, match="Many shoppers") as caught:
            submit(io.BytesIO(_encoded(_quarters())))
        assert caught.value.retry_after > 0
        assert VisualQuery.objects.count() == 2
        _answer(first, random_vectors(1)[0])
        submit(io.BytesIO(_encoded(_quarters())))

    def test_while_nobody_answers_only_the_first_shopper_waits(self):
        make_version()
        query = submit(io.BytesIO(_encoded(_quarters())))
        VisualQuery.objects.filter(pk=query.pk).update(created_at=timezone.now() - timedelta(seconds=30))
        with pytest.raises(Busy, match="in a minute"):
            submit(io.BytesIO(_encoded(_quarters())))
        # A minute later the photo is gone and the next one finds out whether somebody answers again.
        VisualQuery.objects.filter(pk=query.pk).update(created_at=timezone.now() - timedelta(seconds=61))
        submit(io.BytesIO(_encoded(_quarters())))
        with pytest.raises(Expired, match="not looked at in time"):
            wait(query, 0)

    def test_after_a_photo_that_nobody_took_one_at_a_time_finds_out_whether_somebody_answers(self):
        make_version()
        lost = submit(io.BytesIO(_encoded(_quarters())))
        VisualQuery.objects.filter(pk=lost.pk).update(created_at=timezone.now() - timedelta(seconds=61))
        first = submit(io.BytesIO(_encoded(_quarters())))
        # Web processes that wait for a worker that is gone are missed by everybody else.
        with pytest.raises(Busy, match="in a minute"):
            submit(io.BytesIO(_encoded(_quarters())))
        _answer(first, random_vectors(1)[0])
        submit(io.BytesIO(_encoded(_quarters())))
        submit(io.BytesIO(_encoded(_quarters())))

    def test_purge_removes_photos_after_a_minute_and_answers_after_their_time(self, configure):
        configure(VISUAL_SEARCH_KEEP_SECONDS=600)
        make_version()
        waiting, late, answered, old = (submit(io.BytesIO(_encoded(_quarters()))) for _number in range(4))
        _answer(answered, random_vectors(1)[0])
        _answer(old, random_vectors(1)[0])
        now = timezone.now()
        VisualQuery.objects.filter(pk=late.pk).update(created_at=now - timedelta(seconds=61))
        VisualQuery.objects.filter(pk=answered.pk).update(created_at=now - timedelta(seconds=590))
        VisualQuery.objects.filter(pk=old.pk).update(created_at=now - timedelta(seconds=601))
        assert purge() == 2
        rows = {row.pk: row for row in VisualQuery.objects.defer(None)}
        assert rows[waiting.pk].photo is not None
        assert rows[late.pk].photo is None
        assert rows[answered.pk].vector is not None
        assert old.pk not in rows
        assert purge() == 0

    def test_table_is_in_no_write_ahead_log(self, db):
        with connection.cursor() as cursor:
            cursor.execute("SELECT relpersistence FROM pg_class WHERE relname = %s", [VisualQuery._meta.db_table])
            assert cursor.fetchone() == ("u",)


@pytest.mark.django_db(transaction=True)
def test_submit_inside_a_transaction_says_so_instead_of_hiding_the_photo():
    make_version()
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        submit(io.BytesIO(_encoded(_quarters())))


@pytest.fixture
def shop(configure):
    """A dozen products in two categories, most similar first, and a query with the first one's vector."""
    configure(DIVERSITY=0.0)
    men, women = make_category("Men"), make_category("Women")
    shirts = Category.objects.create(name="Shirts", slug="men-shirts", parent=men)
    skirts = Category.objects.create(name="Skirts", slug="women-skirts", parent=women)
    version = make_version()
    products = [
        make_product(f"Thing {number:02}", (shirts, skirts)[number % 2], price=number + 1) for number in range(12)
    ]
    photos = make_photos_without_files(products)
    vectors = random_vectors(13, seed=4)
    mixed = np.stack([vectors[12] * (12 - number) + vectors[number] * 6 for number in range(12)])
    store_vectors(version, photos, mixed / np.linalg.norm(mixed, axis=1, keepdims=True))
    query = submit(io.BytesIO(_encoded(_quarters())))
    _answer(query, vectors[12])
    return version, products, query


@pytest.mark.django_db
class TestResults:
    def test_most_similar_first_filtered_and_paged(self, shop):
        _version, products, query = shop
        assert [product.pk for product in results(query)] == [product.pk for product in products[:8]]
        few = SearchOptions(limit=3, filters=Filters(price_min=4, price_max=9))
        assert [product.price for product in results(query, few)] == [4, 5, 6]
        following = SearchOptions(limit=3, offset=3, filters=Filters(price_min=4, price_max=9))
        assert [product.price for product in results(query, following)] == [7, 8, 9]

    def test_version_of_the_query_is_searched_as_long_as_it_is_embedded(self, shop):
        version, products, query = shop
        ModelVersion.objects.filter(pk=version.pk).update(state=ModelVersion.State.STANDBY)
        make_version("next")
        assert results(VisualQuery.objects.get(pk=query.pk))[0].pk == products[0].pk
        ModelVersion.objects.filter(pk=version.pk).update(state=ModelVersion.State.RETIRED)
        with pytest.raises(Expired):
            results(VisualQuery.objects.get(pk=query.pk))

    def test_categories_are_named_by_their_path(self, shop):
        assert [label for _value, label in category_choices()] == ["Men", "Men › Shirts", "Women", "Women › Skirts"]


def _post(client: Client, content: bytes, accept: str = "text/html", **fields):
    photo = SimpleUploadedFile("photo.jpg", content, "image/jpeg")
    return client.post(FORM, {"photo": photo, **fields}, headers={"accept": accept})


@pytest.mark.django_db
class TestPages:
    def test_form_works_without_script_and_is_kept_by_nobody(self, client):
        response = client.get(FORM)
        page = response.content.decode()
        assert response.status_code == 200
        assert 'enctype="multipart/form-data"' in page
        assert 'accept="image/*"' in page
        assert "no-store" in response["Cache-Control"]
        assert "noindex" in response["X-Robots-Tag"]
        assert " style=" not in page and "<script>" not in page

    def test_upload_needs_the_token_of_the_form(self):
        make_version()
        client = Client(enforce_csrf_checks=True)
        photo = _encoded(_quarters())
        assert _post(client, photo).status_code == 403
        client.get(FORM)
        token = client.cookies["csrftoken"].value
        assert _post(client, photo, csrfmiddlewaretoken=token).status_code == 303

    @pytest.mark.parametrize("name", UNFIT)
    def test_what_is_no_fit_photo_is_answered_by_a_sentence(self, client, configure, name):
        configure(VISUAL_SEARCH_MAX_BYTES=65_536)
        make_version()
        content, _error, status = UNFIT[name]
        response = _post(client, content)
        assert response.status_code == status
        assert 'role="alert"' in response.content.decode()
        answer = _post(client, content, accept="application/json")
        assert answer.status_code == status
        assert answer.json()["detail"].endswith(".")
        assert not VisualQuery.objects.exists()

    def test_no_more_of_a_file_is_stored_than_is_allowed(self, client, configure, monkeypatch):
        configure(VISUAL_SEARCH_MAX_BYTES=300_000)
        make_version()
        from django.core.files.uploadhandler import MemoryFileUploadHandler

        read = []
        inner = MemoryFileUploadHandler.receive_data_chunk

        def receive(self, data, start):
            read.append(len(data))
            return inner(self, data, start)

        monkeypatch.setattr(MemoryFileUploadHandler, "receive_data_chunk", receive)
        response = _post(client, _encoded(_quarters()) + bytes(2_000_000))
        assert response.status_code == 413
        assert "larger than 0.286 MiB" in response.content.decode()
        assert sum(read) <= 300_000

    def test_photo_that_takes_too_long_to_decode(self, client, configure, monkeypatch):
        monkeypatch.setattr(decoder_pool, "GRACE_SECONDS", 300)
        configure(DECODE_SECONDS=0.02)
        make_version()
        response = _post(client, slow_photo(5_000))
        assert response.status_code == 413
        assert "more than 0.02 seconds" in response.content.decode()

    @pytest.mark.parametrize("accept", ["text/html", "application/json"])
    def test_where_no_process_can_decode_it_one_may_come_again(self, client, monkeypatch, accept):
        make_version()
        monkeypatch.setattr(decoder_pool, "_pool", decoder_pool.DecoderPool(2))
        monkeypatch.setattr(decoder_pool, "_interpreter", lambda: "/nowhere/python")
        response = _post(client, _encoded(_quarters()), accept=accept)
        assert (response.status_code, response["Retry-After"]) == (503, "5")
        assert "/nowhere" not in response.content.decode()

    def test_without_a_photo(self, client):
        make_version()
        response = client.post(FORM, {})
        assert response.status_code == 422
        assert "Choose a photo" in response.content.decode()

    def test_region_in_per_cent(self, client, configure):
        make_version()
        fields = {"left": "50", "top": "0", "right": "100", "bottom": "50"}
        assert _post(client, _encoded(_quarters(), quality=95), **fields).status_code == 303
        image = _opened(bytes(VisualQuery.objects.values_list("photo", flat=True).get()))
        assert image.size == (200, 100)
        assert image.getpixel((5, 5))[1] > 200 and image.getpixel((5, 5))[0] < 60
        assert _post(client, _encoded(_quarters()), left="60", right="40").status_code == 422

    def test_busy_says_when_to_come_again(self, client, configure):
        configure(VISUAL_SEARCH_QUEUE=1)
        make_version()
        submit(io.BytesIO(_encoded(_quarters())))
        response = _post(client, _encoded(_quarters()))
        assert response.status_code == 503
        assert int(response["Retry-After"]) > 0

    def test_too_many_uploads_of_one_client(self, client, configure):
        configure(UPLOAD_RATE="2/hour", VISUAL_SEARCH_QUEUE=10)
        make_version()
        statuses = [_post(client, _encoded(_quarters())).status_code for _number in range(3)]
        assert statuses == [303, 303, 429]
        again = _post(client, _encoded(_quarters()), accept="application/json")
        assert int(again["Retry-After"]) > 0
        other = Client(REMOTE_ADDR="203.0.113.9")
        assert _post(other, _encoded(_quarters())).status_code == 303

    def test_page_that_waits_looks_again_by_itself(self, client, configure):
        make_version()
        url = _post(client, _encoded(_quarters())).url
        response = client.get(url)
        assert response.status_code == 202
        assert '<noscript><meta http-equiv="refresh"' in response.content.decode()
        _answer(VisualQuery.objects.get(), random_vectors(1)[0])
        response = client.get(url)
        assert response.status_code == 200
        assert "http-equiv" not in response.content.decode()

    def test_results_filter_and_page(self, client, shop):
        _version, products, query = shop
        url = reverse("shop_similarity:visual-search-results", args=[query.pk])
        page = client.get(url)
        text = page.content.decode()
        assert "no-store" in page["Cache-Control"]
        assert text.index(products[0].name) < text.index(products[5].name)
        category = products[1].category_id
        filtered = client.get(url, {"category": category, "price_max": "7.5"}).content.decode()
        assert [product.name for product in products if product.name in filtered] == [
            products[number].name for number in (1, 3, 5)
        ]
        none = client.get(url, {"price_min": "900"}).content.decode()
        assert "No similar product matches" in none
        wrong = client.get(url, {"category": "99999", "price_min": "x", "page": "-3"})
        assert wrong.status_code == 200
        assert products[0].name in wrong.content.decode()

    def test_fragment_is_the_list_alone(self, client, shop):
        url = reverse("shop_similarity:visual-search-results", args=[shop[2].pk])
        text = client.get(url, headers={"X-Requested-With": "fetch"}).content.decode()
        assert text.lstrip().startswith("<section")
        assert '<form class="visual-search__form' not in text
        assert "data-similarity-token" in text

    def test_unknown_expired_and_failed_queries(self, client, shop):
        version, _products, query = shop
        unknown = reverse("shop_similarity:visual-search-results", args=[uuid.uuid4()])
        assert client.get(unknown).status_code == 404
        url = reverse("shop_similarity:visual-search-results", args=[query.pk])
        for error, status in (("too_late", 503), ("failed", 422)):
            VisualQuery.objects.filter(pk=query.pk).update(error=error)
            response = client.get(url)
            assert response.status_code == status
            assert "search with" in response.content.decode()
        VisualQuery.objects.filter(pk=query.pk).update(error="")
        ModelVersion.objects.filter(pk=version.pk).update(state=ModelVersion.State.RETIRED)
        assert client.get(url).status_code == 410

    def test_queries_do_not_grow_with_the_results(self, client, shop, django_assert_max_num_queries):
        url = reverse("shop_similarity:visual-search-results", args=[shop[2].pk])
        client.get(url)

        def count(parameters) -> int:
            with django_assert_max_num_queries(30) as captured:
                client.get(url, parameters, headers={"X-Requested-With": "fetch"})
            return len(captured)

        assert count({"price_max": "2"}) == count({"price_max": "12"})

    def test_row_of_the_query_is_read_to_find_it_and_to_wait_for_it(self, client, shop):
        url = reverse("shop_similarity:visual-search-results", args=[shop[2].pk])
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        assert sum(VisualQuery._meta.db_table in query["sql"] for query in captured) == 2

    def test_click_can_be_reported_with_the_token_of_the_list(self, client, shop):
        _version, products, query = shop
        url = reverse("shop_similarity:visual-search-results", args=[query.pk])
        text = client.get(url).content.decode()
        token = text.split('data-similarity-token="')[1].split('"')[0]
        events = {"token": token, "events": [{"kind": "click", "product": str(products[0].pk)}]}
        response = client.post("/similarity/events/", json.dumps(events), content_type="application/json")
        assert response.status_code == 204


TOO_MUCH = str(200 * 2**20)


class Untouched(io.RawIOBase):
    """The body of a request that nobody may read."""

    def readable(self):
        return True

    def readinto(self, buffer):
        raise AssertionError("The body was read.")


@pytest.mark.django_db
class TestUploadsThatAreRefused:
    @staticmethod
    def _post(client: Client, path: str, length: str | None):
        environ = {"wsgi.input": io.BufferedReader(Untouched()), "CONTENT_TYPE": "multipart/form-data; boundary=edge"}
        if length is not None:
            environ["CONTENT_LENGTH"] = length
        return client.generic("POST", path, headers={"accept": "*/*"}, **environ)

    @pytest.mark.parametrize("path", [FORM, "/api/similarity/v1/search/image/"])
    def test_what_is_far_too_large_is_not_read(self, client, configure, path):
        make_version()
        assert self._post(client, path, TOO_MUCH).status_code == 413

    @pytest.mark.parametrize("path", [FORM, "/api/similarity/v1/search/image/"])
    @pytest.mark.parametrize("is_logged_in", [False, True])
    def test_the_rate_is_counted_before_the_body_is_read(self, configure, path, is_logged_in):
        configure(UPLOAD_RATE="2/hour")
        make_version()
        client = Client(enforce_csrf_checks=is_logged_in)
        if is_logged_in:
            client.force_login(User.objects.create_user("shopper"))
        for _ in range(2):
            assert self._post(client, path, TOO_MUCH).status_code in (403, 413)
        if path == FORM or not is_logged_in:
            assert self._post(client, path, TOO_MUCH).status_code == 429
        else:
            # Refused before it counts, and unread as well.
            assert self._post(client, path, "20").status_code == 403

    @pytest.mark.parametrize("length", [None, "", "-5", "x", "²"])
    def test_a_body_without_a_length_is_none(self, client, configure, length):
        make_version()
        for path in (FORM, "/api/similarity/v1/search/image/"):
            assert self._post(client, path, length).status_code in (400, 422)

    def test_a_photo_that_is_a_little_too_large_is_discarded_for_the_browsers_sake(self, client, configure):
        configure(VISUAL_SEARCH_MAX_BYTES=200_000)
        make_version()
        body = io.BytesIO(bytes(350_000))
        environ = {"wsgi.input": body, "CONTENT_TYPE": "multipart/form-data; boundary=edge"}
        response = client.generic("POST", FORM, CONTENT_LENGTH="350000", **environ)
        assert response.status_code == 413
        assert body.tell() == 350_000

    def test_a_photo_of_any_allowed_size_reaches_no_disk(self, client, configure, monkeypatch):
        make_version()

        def refuse(*args, **kwargs):
            raise AssertionError("A temporary file was made.")

        monkeypatch.setattr("django.core.files.temp.NamedTemporaryFile", refuse)
        monkeypatch.setattr("django.core.files.uploadedfile.tempfile.NamedTemporaryFile", refuse)
        content = _encoded(_quarters()) + bytes(6 * 2**20)
        assert _post(client, content).status_code in (303, 422)
