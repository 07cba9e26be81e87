"""The main job with real worker processes: a save in the shop changes the widget, whatever is killed meanwhile."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.db import transaction
from django.template import Context, Template
from PIL import Image

from catalog.models import Product, ProductPhoto
from shop_similarity.embedding import bell
from shop_similarity.models import Embedding, OutboxEntry
from tests.shop_similarity.factories import add_photo, make_product
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def _jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(buffer, "JPEG")
    return buffer.getvalue()


def _environment(**overrides) -> dict[str, str]:
    return {"SHOP_TEST_SIMILARITY": json.dumps({"BATCH_SIZE": 4, "POLL_SECONDS": 0.2, "FALLBACK": None, **overrides})}


def _until(condition: Callable[[], object], worker) -> None:
    wait_until(condition, lambda: worker.log)


def _widget(product: Product) -> str:
    return Template("{% load shop_similarity %}{% similar_products product %}").render(Context({"product": product}))


@pytest.fixture(autouse=True)
def _bell(settings):
    # The broker of this run came after the bell's app.
    bell._app.cache_clear()
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "FALLBACK": None}
    yield
    bell.flush(5)
    bell._app.cache_clear()


def test_saved_product_changes_the_widget_by_the_bell_alone(tiny_version, celery_worker_process):
    tiny_version()
    # So rare a look into the outbox that only the bell can have been heard.
    worker = celery_worker_process(env=_environment(POLL_SECONDS=600, SWEEP_SECONDS=0, SWEEP_FILES_SECONDS=0))
    lamp = make_product("Lamp")
    add_photo(lamp, _jpeg(1))
    assert _widget(lamp) == ""
    with transaction.atomic():
        other = make_product("Other lamp")
        add_photo(other, _jpeg(2))
        time.sleep(1)
        # The transaction is still open, so nobody can know of it.
        assert not Embedding.objects.filter(product_id=other.pk).exists()
    _until(lambda: Embedding.objects.count() == 2, worker)
    assert "Other lamp" in _widget(lamp)
    # Replaced, deleted, product deleted: the widget follows.
    before = Embedding.objects.defer(None).get(product_id=other.pk).vector
    photo = other.photos.get()
    photo.file.save("new.jpg", ContentFile(_jpeg(3)))
    _until(
        lambda: Embedding.objects.defer(None).filter(product_id=other.pk).exclude(file_mark="")[0].vector != before,
        worker,
    )
    photo.delete()
    assert _widget(lamp) == ""
    third = make_product("Third lamp")
    add_photo(third, _jpeg(4))
    _until(lambda: "Third lamp" in _widget(lamp), worker)
    third.delete()
    assert _widget(lamp) == ""
    assert not OutboxEntry.objects.exists()
    assert worker.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("deaths", [1, 3])
def test_sigkill_in_the_middle_of_a_batch_loses_and_duplicates_nothing(deaths, tiny_version, celery_worker_process):
    tiny_version()
    products = [make_product() for _ in range(40 * deaths)]
    photos = [add_photo(product, _jpeg(number), f"{number}.jpg") for number, product in enumerate(products)]
    environment = _environment(LEASE_SECONDS=5, SWEEP_SECONDS=0, SWEEP_FILES_SECONDS=0)
    kills = 0
    for _ in range(deaths):
        worker = celery_worker_process(env=environment)
        seen = Embedding.objects.count()
        _until(lambda seen=seen: Embedding.objects.count() > seen + 8, worker)
        worker.kill()
        kills += OutboxEntry.objects.filter(leased_until__isnull=False).exists()
        assert Embedding.objects.count() < len(photos)
    # At least one of them died with photos in hand.
    assert kills
    # What this machine's dead had claimed is free at once; the lease is for workers elsewhere.
    OutboxEntry.objects.filter(leased_until__isnull=False).update(claimed_by="elsewhere|1|")
    started = time.monotonic()
    worker = celery_worker_process(env=environment)
    _until(lambda: not OutboxEntry.objects.exists(), worker)
    assert time.monotonic() - started > 3
    assert sorted(Embedding.objects.values_list("image_id", flat=True)) == sorted(photo.pk for photo in photos)


def test_save_with_redis_stopped_waits_in_the_outbox(tiny_version, celery_worker_process, valkey):
    tiny_version()
    worker = celery_worker_process(env=_environment())
    product = make_product()
    valkey.stop()
    photo = add_photo(product, _jpeg(1))
    # The worker does not need the broker to look into the outbox.
    _until(lambda: Embedding.objects.filter(image_id=photo.pk).exists(), worker)
    valkey.start()
    second = add_photo(product, _jpeg(2), "2.jpg")
    _until(lambda: Embedding.objects.filter(image_id=second.pk).exists(), worker)


@pytest.mark.long
def test_save_with_neither_redis_nor_worker_is_embedded_when_they_come(tiny_version, celery_worker_process, valkey):
    tiny_version()
    valkey.stop()
    photo = add_photo(make_product(), _jpeg(1))
    valkey.start()
    worker = celery_worker_process(env=_environment())
    _until(lambda: Embedding.objects.filter(image_id=photo.pk).exists(), worker)


@pytest.mark.long
def test_a_worker_that_starts_while_redis_is_away_embeds(tiny_version, celery_worker_process, valkey):
    tiny_version()
    valkey.stop()
    photo = add_photo(make_product(), _jpeg(1))
    worker = celery_worker_process(env=_environment(), wait=False)
    # Before, it did nothing until Celery had found its broker.
    _until(lambda: Embedding.objects.filter(image_id=photo.pk).exists(), worker)
    assert " ready." not in worker.log
    assert worker.stop() == 0


@pytest.mark.long
def test_bulk_created_photos_are_found_by_the_sweep(tiny_version, celery_worker_process):
    tiny_version()
    product = make_product()
    storage = ProductPhoto._meta.get_field("file").storage
    names = [storage.save(f"bulk/{number}.jpg", ContentFile(_jpeg(number))) for number in range(6)]
    ProductPhoto.objects.bulk_create([ProductPhoto(product=product, file=name) for name in names])
    assert not OutboxEntry.objects.exists()
    worker = celery_worker_process(env=_environment(SWEEP_SECONDS=1))
    _until(lambda: Embedding.objects.count() == 6, worker)


@pytest.mark.long
def test_two_workers_share_the_outbox_and_copy_the_same_bytes(tiny_version, celery_worker_process):
    tiny_version()
    for number in range(60):
        add_photo(make_product(), _jpeg(number % 20), f"{number}.jpg")
    environment = _environment(SWEEP_SECONDS=0, SWEEP_FILES_SECONDS=0)
    workers = [celery_worker_process("-n", f"w{n}@%h", env=environment, wait=False) for n in range(2)]
    _until(lambda: not OutboxEntry.objects.exists(), workers[0])
    assert Embedding.objects.count() == 60
    for worker in workers:
        worker.stop()
    computed = [int(n) for worker in workers for n in re.findall(r"Embedded (\d+) photos", worker.log)]
    # Bytes that both have in hand at the same moment are computed by both, once each.
    assert 20 <= sum(computed) <= 40
    vectors: dict[str, list] = {}
    for row in Embedding.objects.defer(None):
        vectors.setdefault(row.content_sha256, []).append(row.vector)
    assert len(vectors) == 20
    for same in vectors.values():
        assert np.allclose(np.array(same) @ np.array(same[0]), 1, atol=1e-3)


@pytest.mark.long
def test_warm_shutdown_ends_after_the_batch(tiny_version, celery_worker_process):
    tiny_version()
    for number in range(150):
        add_photo(make_product(), _jpeg(number), f"{number}.jpg")
    worker = celery_worker_process(env=_environment())
    _until(lambda: Embedding.objects.count() > 4, worker)
    assert worker.stop(timeout=30) == 0
    left = OutboxEntry.objects.count()
    assert left > 0
    assert not OutboxEntry.objects.filter(leased_until__isnull=False).exists()
    assert Embedding.objects.count() + left == 150


@pytest.mark.long
def test_pool_of_processes_embeds_too(tiny_version, celery_worker_process):
    tiny_version()
    # "prefork" would mean the pool that the app is configured with, for Celery takes it for "nothing was said".
    worker = celery_worker_process("--pool", "processes", "--concurrency", "2", env=_environment())
    for number in range(10):
        add_photo(make_product(), _jpeg(number), f"{number}.jpg")
    _until(lambda: Embedding.objects.count() == 10, worker)


def test_worker_without_settings_says_what_to_set(tmp_path):
    # A shop may have an app called catalog of its own.
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "__init__.py").touch()
    (tmp_path / "shop_similarity").symlink_to(settings.BASE_DIR / "shop_similarity")
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    run = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "shop_similarity.workers", "worker"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode != 0
    assert "Name your shop's settings" in run.stderr
    assert "Traceback" not in run.stderr


def test_worker_without_tensorflow_refuses_to_start():
    # It would take the rings of the bell from those that can embed.
    code = "import sys; sys.modules['tensorflow'] = None; from celery.__main__ import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, "-A", "shop_similarity.workers", "worker"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "needs tensorflow, which is not installed here" in ended.stderr
    assert "Traceback" not in ended.stderr
