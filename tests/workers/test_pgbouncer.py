"""Shop and workers behind a real PgBouncer in transaction mode that has fewer sessions than there are clients."""

from __future__ import annotations

import io
import json
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client
from PIL import Image

from catalog.models import Product, ProductPhoto
from shop_similarity import database
from shop_similarity.catalogue import get_catalogue
from shop_similarity.checks import check_database
from shop_similarity.embedding.index import build_index, index_state
from shop_similarity.embedding.sweep import sweep
from shop_similarity.feedback.preferences import preferences
from shop_similarity.feedback.roll_up import roll_up
from shop_similarity.models import Embedding, OutboxEntry
from shop_similarity.search import similar_products
from shop_similarity.visual_search import queue
from shop_similarity.workers.drain import drain
from tests.conftest import RUN_FOLDER
from tests.shop_similarity.factories import (
    add_photo,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.support.pgbouncer import find_pgbouncer, pgbouncer
from tests.vectors import random_vectors

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]

SESSIONS = 4
THREADS = 24
SAVES = 20


@pytest.fixture
def pooled(transactional_db):
    """Connections that are made from here on go through the pooler, this thread's too."""
    if find_pgbouncer() is None:
        reason = "no PgBouncer found: install the package pgbouncer, or name one in PGBOUNCER"
        if os.environ.get("REQUIRE_PGBOUNCER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    described = connection.settings_dict
    before = {name: described[name] for name in ("HOST", "PORT")}
    with pgbouncer(RUN_FOLDER / f"pgbouncer-{uuid.uuid4().hex[:8]}", described, SESSIONS) as port:
        connection.close()
        described |= {"HOST": "127.0.0.1", "PORT": port}
        try:
            yield
        finally:
            connection.close()
            described |= before


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def test_the_pooler_is_noticed_and_what_django_needs_is_said(pooled):
    assert database.is_pooled()
    alias = database.write_alias()
    (found,) = check_database(databases=[alias])
    assert found.id == "shop_similarity.W020"
    assert "DISABLE_SERVER_SIDE_CURSORS" in found.hint
    connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = True
    try:
        assert check_database(databases=[alias]) == []
    finally:
        connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"] = False


def test_480_concurrent_saves_of_products_and_photos_make_no_error(pooled):
    version = make_version()
    products = [make_product() for _ in range(THREADS)]
    make_photos_without_files(products, 3)
    errors: list[Exception] = []
    start = threading.Barrier(THREADS)

    def shop(key: int) -> None:
        start.wait()
        try:
            for number in range(SAVES):
                try:
                    Product.objects.get(pk=key).save()
                    if number % 5 == 0:
                        ProductPhoto.objects.create(product_id=key, file=f"{key}-{number}.jpg")
                except Exception as error:
                    errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=shop, args=(product.pk,)) for product in products]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(threads) * SAVES == 480
    assert errors == []
    photos = set(ProductPhoto.objects.values_list("pk", flat=True))
    assert set(OutboxEntry.objects.filter(version=version).values_list("image_id", flat=True)) == photos
    assert len(photos) == THREADS * (3 + SAVES // 5)


def test_workers_do_all_their_work_through_it(pooled, tiny_version):
    version = tiny_version()
    products = [make_product() for _ in range(6)]
    for seed, product in enumerate(products):
        add_photo(product, _jpeg(seed))
    reports: list = []

    def work() -> None:
        try:
            reports.append(sweep().skipped)
            reports.append(drain().failed)
            roll_up()
            build_index(version.pk)
        except Exception as error:
            reports.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report for report in reports if isinstance(report, Exception)] == []
    assert any(report is False for report in reports), "at least one sweep was done"
    assert Embedding.objects.count() == 6
    assert index_state(version.pk).state == "ready"
    # The small network hardly tells drawn noise apart, and of what is nearly the same one is shown.
    assert similar_products(products[0])
    assert list(preferences()) == []
    images = get_catalogue().images()
    assert len(list(get_catalogue().rows(images, streamed=True))) == 6
    queue.listen()
    queue.hear(0.1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert cursor.fetchone() == (0,), "nothing is left with a session that others use"
        cursor.execute("SELECT count(*) FROM pg_listening_channels()")
        assert cursor.fetchone() == (0,)


def test_each_of_many_readers_gets_the_whole_feed_and_so_does_the_command(pooled):
    cache.clear()
    made = [make_product(f"Lamp {number}") for number in range(6)]
    store_vectors(make_version(), make_photos_without_files(made), random_vectors(6))
    mailer = User.objects.create_user("mailer")
    mailer.user_permissions.add(Permission.objects.get(codename="view_feed"))
    client = Client()
    client.force_login(mailer)

    def read(since: str) -> list[str]:
        reader, told = Client(), []
        reader.cookies = client.cookies
        url = f"/api/similarity/v1/feed/?products=2&limit=3{since}"
        try:
            while url:
                response = reader.get(url)
                assert response.status_code == 200, response.content
                told += [json.loads(line)["product"] for line in b"".join(response.streaming_content).splitlines()]
                url = response.get("Link", "").partition(">")[0].removeprefix("<")
        finally:
            connections.close_all()
        return told

    keys = [str(product.pk) for product in made]
    with ThreadPoolExecutor(2 * SESSIONS) as readers:
        assert list(readers.map(read, ["", "&since=2026-01-01T00:00:00Z"] * SESSIONS)) == [keys] * 2 * SESSIONS
    written = io.StringIO()
    call_command("similarity_feed", "--limit", "3", stdout=written, stderr=io.StringIO())
    assert [json.loads(line)["product"] for line in written.getvalue().splitlines()] == keys
