"""Objects of a photo: the largest is searched with, others can be chosen; the photo stays only for who wants that."""

from __future__ import annotations

import io
import re
from datetime import timedelta

import numpy as np
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.template import Context, Template
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from shop_similarity.models import VisualQuery
from shop_similarity.visual_search import queue, submit, wait
from shop_similarity.visual_search.expansion import LIKE, drawn_to_the_shop
from shop_similarity.visual_search.uploads import WHOLE, part_of, prepare_photo
from shop_similarity.workers import embedder, visual_queries
from shop_similarity.workers.drain import drain
from tests.shop_similarity.factories import (
    add_photo,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.vectors import random_vectors
from tests.workers.conftest import kept_networks, tiny_version, tiny_weights  # noqa: F401

FORM = "/similarity/search/"
pytestmark = pytest.mark.django_db

RED, BLUE, GREEN = (200, 30, 30), (30, 40, 190), (20, 140, 60)


def scene(*things: tuple[tuple[int, int, int, int], tuple[int, int, int]]) -> bytes:
    """Things on white, 400 pixels each way."""
    image = Image.new("RGB", (400, 400), "white")
    for box, colour in things:
        image.paste(colour, box)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


TWO = scene(((20, 40, 220, 360), RED), ((280, 240, 380, 360), BLUE))


@pytest.fixture(autouse=True)
def _settings(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "UPLOAD_RATE": None, "VISUAL_SEARCH_WAIT_SECONDS": 0}
    embedder.release_embedder()
    yield
    embedder.release_embedder()


def _row(key) -> VisualQuery:
    return VisualQuery.objects.defer(None).get(pk=key)


def _post(photo: bytes, **data):
    return Client().post(FORM, {"photo": SimpleUploadedFile("a.png", photo, "image/png"), **data})


def _searched(photo: bytes, **how) -> np.ndarray:
    query = submit(io.BytesIO(photo), **how)
    assert visual_queries.answer_waiting() == 1
    return np.asarray(wait(query, 0).vector, np.float32)


class TestSuggestion:
    def test_largest_object_is_searched_with_unless_the_shopper_says_otherwise(self, tiny_version, finds_objects):  # noqa: F811
        tiny_version()
        query = submit(io.BytesIO(TWO))
        visual_queries.answer_waiting()
        row = _row(query.pk)
        assert len(row.regions) == 2 and row.photo is None
        left, top, right, bottom = row.regions[0]
        assert left < 6 and 54 < right < 62 and top < 11 and bottom > 89
        largest = tuple(edge / 100 for edge in row.regions[0])
        suggested, chosen = np.asarray(row.vector), _searched(TWO, crop=largest)
        whole = _searched(TWO, crop=WHOLE)
        assert suggested @ chosen > 0.9999
        assert suggested @ whole < 0.999
        # Where somebody has chosen, nothing is looked for.
        assert VisualQuery.objects.filter(regions__isnull=True).count() == 2

    def test_without_the_weights_all_of_the_photo_is_searched_with(self, tiny_version, tmp_path, settings):  # noqa: F811
        from shop_similarity.workers import objects

        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WEIGHTS_CACHE": str(tmp_path)}
        objects.release()
        tiny_version()
        assert _searched(TWO) @ _searched(TWO, crop=WHOLE) > 0.9999
        assert VisualQuery.objects.filter(regions=[]).count() == 1
        objects.release()

    def test_a_shop_can_do_without(self, tiny_version, finds_objects, settings):  # noqa: F811
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_OBJECTS": False}
        tiny_version()
        query = submit(io.BytesIO(TWO), keep=True)
        visual_queries.answer_waiting()
        assert (_row(query.pk).regions, _row(query.pk).photo) == (None, None)
        assert "noscript" not in Client().get(FORM).content.decode()

    def test_a_network_that_fails_costs_the_suggestion_alone(self, tiny_version, monkeypatch):  # noqa: F811
        from shop_similarity.workers import objects

        def fail(_photos):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(objects, "network", lambda: fail)
        tiny_version()
        assert _searched(TWO) @ _searched(TWO, crop=WHOLE) > 0.9999


class TestChoice:
    def test_photo_stays_only_for_whom_wants_to_choose_and_no_longer_than_the_answer(
        self,
        tiny_version,  # noqa: F811
        finds_objects,
        settings,
    ):
        tiny_version()
        plain, kept = _post(TWO), _post(TWO, keep="on")
        nothing = _post(scene(), keep="on")
        visual_queries.answer_waiting()
        assert (plain.status_code, kept.status_code) == (303, 303)
        rows = [_row(answer.url.split("/")[-2]) for answer in (plain, kept, nothing)]
        assert [row.photo is not None for row in rows] == [False, True, False]
        late = timezone.now() - timedelta(seconds=3_601)
        VisualQuery.objects.filter(pk=rows[1].pk).update(created_at=late)
        queue.purge()
        assert not VisualQuery.objects.filter(pk=rows[1].pk).exists()

    def test_what_has_expired_is_nobodys_though_nobody_has_tidied_up(self, tiny_version, finds_objects):  # noqa: F811
        tiny_version()
        url = _post(TWO, keep="on").url
        visual_queries.answer_waiting()
        client, key = Client(), url.split("/")[-2]
        assert [client.get(f"{url}{page}").status_code for page in ("", "part/1.jpg")] == [200, 200]
        VisualQuery.objects.filter(pk=key).update(created_at=timezone.now() - timedelta(seconds=3_601))
        assert [client.get(f"{url}{page}").status_code for page in ("", "part/1.jpg")] == [404, 404]
        assert client.post(f"{url}part/", {"part": "1"}).status_code == 410
        assert client.get(f"/api/similarity/v1/search/image/{key}/").status_code == 404

    @pytest.mark.parametrize(("seconds", "said"), [(150, "3 minutes"), (60, "1 minute"), (3_600, "60 minutes")])
    def test_a_photo_is_kept_no_longer_than_is_said(self, settings, seconds, said):
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_KEEP_SECONDS": seconds}
        assert f"it is kept for {said}." in Client().get(FORM).content.decode()

    def test_another_object_is_chosen_without_a_script(self, tiny_version, finds_objects):  # noqa: F811
        version = tiny_version()
        shop = []
        for colour in (RED, BLUE, GREEN):
            product = make_product(f"one {colour}")
            add_photo(product, scene(((0, 0, 400, 400), colour)), f"{colour}.png")
            shop.append(product)
        drain()
        client = Client()
        url = _post(TWO, keep="on").url
        visual_queries.answer_waiting()
        page = client.get(url).content.decode()
        assert re.findall(r'name="part" value="(\d)"( aria-current="true")?', page) == [
            ("0", ""),
            ("1", ' aria-current="true"'),
            ("2", ""),
        ]
        assert "Whole photo" in page and "Object 2 (bottom, right)" in page
        picture = client.get(re.findall(r'src="([^"]*/part/2\.jpg)"', page)[0])
        assert picture["Content-Type"] == "image/jpeg" and "no-store" in picture["Cache-Control"]
        with Image.open(io.BytesIO(picture.content)) as image:
            red, _green, blue = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
        assert blue > 150 > red
        key = url.split("/")[-2]
        before = VisualQuery.objects.count()
        answer = client.post(reverse("shop_similarity:visual-search-part", args=[key]), {"part": "2"})
        assert answer.status_code == 303 and VisualQuery.objects.count() == before + 1
        visual_queries.answer_waiting()
        page = client.get(answer.url).content.decode()
        assert re.findall(r'name="part" value="(\d)" aria-current="true"', page) == ["2"]
        # Filters keep the list of objects.
        assert f'name="of" value="{key}"' in page
        row = _row(re.search(r"search/([^/]+)/", answer.url)[1])
        assert (row.photo, row.is_kept, row.is_vote, row.version_id) == (None, False, False, version.pk)
        chosen = _searched(TWO, crop=tuple(edge / 100 for edge in _row(key).regions[1]))
        assert np.asarray(row.vector) @ chosen > 0.999

    def test_a_part_that_is_not_there_and_a_photo_that_is_gone(self, tiny_version, finds_objects):  # noqa: F811
        tiny_version()
        kept, gone = _post(TWO, keep="on").url, _post(TWO).url
        visual_queries.answer_waiting()
        client = Client()
        for part in ("3", "-1", "x", "", "1" * 30):
            assert client.post(f"{kept}part/", {"part": part}).status_code == 404
        assert client.get(f"{kept}part/3.jpg").status_code == 404
        assert client.get(f"{gone}part/1.jpg").status_code == 404
        answer = client.post(f"{gone}part/", {"part": "1"})
        assert answer.status_code == 410 and b"has expired" in answer.content
        # Under the sentence there is a form to search anew with.
        assert f'action="{FORM}"' in answer.content.decode()
        assert Client(enforce_csrf_checks=True).post(f"{kept}part/", {"part": "1"}).status_code == 403

    def test_no_more_photos_are_kept_than_there_is_room_for(self, tiny_version, finds_objects, monkeypatch):  # noqa: F811
        monkeypatch.setattr(queue, "MOST_KEPT", 2)
        tiny_version()
        keys = []
        for _number in range(3):
            keys.append(_post(TWO, keep="on").url.split("/")[-2])
            visual_queries.answer_waiting()
        assert [_row(key).photo is not None for key in keys] == [False, True, True]
        # The index that finds them holds no others, however many there were; this photo has nothing to choose among.
        _post(scene(), keep="on")
        visual_queries.answer_waiting()
        assert VisualQuery.objects.filter(is_kept=True).count() == VisualQuery.objects.exclude(photo=None).count() == 1

    def test_choices_count_as_uploads(self, tiny_version, finds_objects, settings):  # noqa: F811
        tiny_version()
        kept = _post(TWO, keep="on").url
        visual_queries.answer_waiting()
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "UPLOAD_RATE": "1/m"}
        assert Client().post(f"{kept}part/", {"part": "1"}).status_code == 303
        answer = Client().post(f"{kept}part/", {"part": "2"})
        assert answer.status_code == 429 and answer["Retry-After"]

    def test_part_of_a_photo_has_a_pixel_at_least(self):
        photo = prepare_photo(io.BytesIO(scene()))
        with Image.open(io.BytesIO(part_of(photo, (0.5, 0.5, 0.5001, 0.5001)))) as image:
            assert image.size == (1, 1)


class TestProductsOwnPhoto:
    def test_an_object_of_the_scene_finds_others_and_not_the_product(self, tiny_version, finds_objects):  # noqa: F811
        tiny_version()
        sold_with = make_product("scene")
        add_photo(sold_with, TWO, "scene.png")
        for name, colour in (("red", RED), ("blue", BLUE), ("green", GREEN)):
            add_photo(make_product(name), scene(((0, 0, 400, 400), colour)), f"{name}.png")
        drain()
        tag = Template("{% load shop_similarity_search %}{% search_in_picture product %}")
        html = tag.render(Context({"product": sold_with, "request": RequestFactory().get("/")}))
        action = re.search(r'action="([^"]+)"', html)[1]
        client = Client()
        answer = client.post(action)
        assert answer.status_code == 303
        visual_queries.answer_waiting()
        row = _row(answer.url.split("/")[-2])
        assert row.product == str(sold_with.pk) and row.photo is not None and not row.is_vote
        lists = []
        for part in ("1", "2", "0"):
            chosen = client.post(f"{answer.url}part/", {"part": part})
            visual_queries.answer_waiting()
            page = client.get(chosen.url).content.decode()
            found = re.findall(r'data-similarity-product="(\d+)"', page)
            assert found and str(sold_with.pk) not in found
            # The shopper has sent none.
            assert "Products like in this picture" in page and "your photo" not in page.split("<form")[0]
            lists.append(_row(re.search(r"search/([^/]+)/", chosen.url)[1]).vector)
        assert np.dot(lists[0], lists[1]) < np.dot(lists[0], lists[0]) - 0.0005
        # The next one who asks is answered with the same photo, unless the shop has another one by now.
        assert client.post(action).url == answer.url
        sold_with.photos.all().delete()
        add_photo(sold_with, scene(((20, 40, 220, 360), GREEN), ((280, 240, 380, 360), BLUE)), "other.png")
        assert client.post(action).url != answer.url

    def test_what_the_shop_does_not_show_is_not_shown(self, tiny_version):  # noqa: F811
        tiny_version()
        product = make_product("without a photo")
        client = Client()
        for key in (product.pk, product.pk + 1, "x" * 300):
            assert client.post(reverse("shop_similarity:in-the-picture", args=[key])).status_code == 404
        add_photo(product, b"no photo", "broken.png")
        answer = client.post(reverse("shop_similarity:in-the-picture", args=[product.pk]))
        assert answer.status_code == 422 and b"Nothing can be found" in answer.content
        assert client.get(reverse("shop_similarity:in-the-picture", args=[product.pk])).status_code == 405


class TestDrawing:
    def test_a_photo_that_is_like_none_is_drawn_to_the_nearest_and_another_stays(self):
        version = make_version()
        vectors = random_vectors(12)
        store_vectors(version, make_photos_without_files([make_product(str(n)) for n in range(12)]), vectors)
        towards = vectors[:4].sum(0)
        rest = random_vectors(1, seed=99)[0]
        far = rest + 0.25 * towards / np.linalg.norm(towards)
        far /= np.linalg.norm(far)
        drawn = drawn_to_the_shop(version, far)
        assert np.isclose(np.linalg.norm(drawn), 1)
        assert (vectors[:4] @ drawn).min() > (vectors[:4] @ far).max()
        near = vectors[0] + 0.5 * rest
        near /= np.linalg.norm(near)
        assert near @ vectors[0] > LIKE
        assert np.array_equal(drawn_to_the_shop(version, near), near)

    def test_an_empty_shop_draws_nowhere(self):
        vector = random_vectors(1)[0]
        assert np.array_equal(drawn_to_the_shop(make_version(), vector), vector)
