"""What the shop does through the ORM becomes outbox rows in the same transaction."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from django.core.files.base import ContentFile
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Product, ProductPhoto
from shop_similarity import database
from shop_similarity.embedding import bell
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
from tests.shop_similarity.factories import (
    add_photo,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db

BYTES = b"not looked at in the web process"


def _waiting(**conditions) -> list[tuple]:
    return sorted(OutboxEntry.objects.filter(**conditions).values_list("version__name", "image_id"))


def test_saved_photo_waits_for_every_live_version():
    make_version("active")
    make_version("candidate", state=ModelVersion.State.CANDIDATE)
    make_version("old", state=ModelVersion.State.RETIRED)
    product = make_product()
    photo = add_photo(product, BYTES)
    assert _waiting() == [("active", photo.pk), ("candidate", photo.pk)]
    assert set(OutboxEntry.objects.values_list("product_id", flat=True)) == {product.pk}


def test_rolled_back_save_leaves_nothing(django_capture_on_commit_callbacks):
    make_version()
    product = make_product()
    with (
        django_capture_on_commit_callbacks(using=database.write_alias()) as callbacks,
        pytest.raises(RuntimeError),
        transaction.atomic(),
    ):
        add_photo(product, BYTES)
        raise RuntimeError
    assert _waiting() == []
    assert callbacks == []


def test_bell_is_rung_on_commit_and_not_before(django_capture_on_commit_callbacks):
    make_version()
    product = make_product()
    with django_capture_on_commit_callbacks(using=database.write_alias()) as callbacks:
        add_photo(product, BYTES)
        assert callbacks == []
    assert callbacks == [bell.ring]


def test_save_that_changes_no_photo_costs_one_look_at_the_file_behind_all_new_photos():
    version = make_version()
    product = make_product()
    photo = add_photo(product, BYTES)
    OutboxEntry.objects.all().delete()
    store_vectors(version, [photo], random_vectors(1))
    photo.position = 3
    photo.save(update_fields=["position"])
    product.price = 3
    product.save()
    assert _waiting() == []
    for caption in ("One", "Another"):
        photo.caption = caption
        photo.save()
    assert OutboxEntry.objects.get().priority == OutboxEntry.Priority.SWEPT


def test_replaced_file_waits_even_under_the_same_name(monkeypatch):
    # A shop whose names are not random, as the reference shop's are.
    monkeypatch.setattr("catalog.models.secrets.token_urlsafe", lambda size: "same")
    version = make_version()
    photo = add_photo(make_product(), BYTES)
    OutboxEntry.objects.all().delete()
    store_vectors(version, [photo], random_vectors(1))
    name = photo.file.name
    photo.file.storage.delete(name)
    photo.file.save("photo.jpg", ContentFile(BYTES + b"!"), save=True)
    assert photo.file.name == name
    assert _waiting() == [("drawn", photo.pk)]


def test_photo_moved_to_another_product_waits():
    version = make_version()
    photo = add_photo(make_product(), BYTES)
    OutboxEntry.objects.all().delete()
    store_vectors(version, [photo], random_vectors(1))
    photo.product = make_product()
    photo.save(update_fields=["product"])
    assert list(OutboxEntry.objects.values_list("product_id", flat=True)) == [photo.product_id]


def test_deleted_photo_takes_its_embedding_and_its_entries_along():
    version = make_version()
    product = make_product()
    kept, deleted = add_photo(product, BYTES), add_photo(product, BYTES)
    store_vectors(version, [kept, deleted], random_vectors(2))
    deleted_pk = deleted.pk
    deleted.delete()
    assert set(Embedding.objects.values_list("image_id", flat=True)) == {kept.pk}
    assert not OutboxEntry.objects.filter(image_id=deleted_pk).exists()


@pytest.mark.parametrize("by", ["instance", "queryset"])
def test_deleted_product_takes_everything_along(by):
    version = make_version()
    product = make_product()
    photos = [add_photo(product, BYTES), add_photo(product, BYTES)]
    store_vectors(version, photos, random_vectors(2))
    if by == "instance":
        product.delete()
    else:
        Product.objects.filter(pk=product.pk).delete()
    assert not Embedding.objects.exists()
    assert not OutboxEntry.objects.exists()


def test_emptied_file_field_takes_the_embedding_along():
    version = make_version()
    photo = add_photo(make_product(), BYTES)
    store_vectors(version, [photo], random_vectors(1))
    photo.file = ""
    photo.save()
    assert not Embedding.objects.exists()


def test_saving_the_product_notices_photos_that_no_signal_announced():
    make_version()
    product = make_product()
    photos = make_photos_without_files([product], 2)
    assert _waiting() == []
    product.save()
    assert _waiting() == [("drawn", photo.pk) for photo in photos]
    product.save()
    assert len(_waiting()) == 2


def test_save_without_a_model_version_is_fine():
    add_photo(make_product(), BYTES)
    assert not OutboxEntry.objects.exists()


def test_saved_photo_costs_one_statement_more():
    product = make_product()
    make_version()
    photo = ProductPhoto(product=product, file="some/name.jpg")
    with CaptureQueriesContext(connection) as queries:
        photo.save()
    assert [q["sql"].split()[0] for q in queries] == ["INSERT", "INSERT"]


@pytest.mark.parametrize("photos", [2, 200])
def test_saved_product_costs_one_statement_more_and_reads_none_of_its_photos(photos):
    """However many it has, and whether a version has them, they wait for it or neither."""
    version = make_version()
    make_version("candidate", state=ModelVersion.State.CANDIDATE)
    product = make_product()
    rows = make_photos_without_files([product], photos)
    store_vectors(version, rows[: photos // 2], random_vectors(photos // 2))
    for queued in (photos - photos // 2 + photos, 0):
        waiting = OutboxEntry.objects.count()
        with CaptureQueriesContext(connection) as queries:
            product.save()
        assert [query["sql"].split()[0] for query in queries] == ["UPDATE", "INSERT"]
        assert OutboxEntry.objects.count() == waiting + queued
    assert not OutboxEntry.objects.exclude(priority=OutboxEntry.Priority.SAVED).exists()


def test_failed_photo_of_a_saved_product_is_not_queued_again():
    version = make_version()
    product = make_product()
    (photo,) = make_photos_without_files([product], 1)
    OutboxEntry.objects.create(
        version=version, product_id=product.pk, image_id=photo.pk, failed_at=timezone.now(), last_error="damaged"
    )
    product.save()
    assert OutboxEntry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ends", ["commits", "rolls back"])
def test_nobody_calls_the_broker_before_the_transaction_has_ended(ends, settings):
    make_version()
    product = make_product()
    make_photos_without_files([product], 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        bell._app.cache_clear()
        try:
            with suppress(RuntimeError), transaction.atomic():
                product.save()
                add_photo(product, BYTES)
                assert len(_waiting()) == 2
                assert bell.flush(0), "the bell was rung within the transaction"
                if ends == "rolls back":
                    raise RuntimeError
            listener.settimeout(0.3 if ends == "rolls back" else 10)
            with suppress(TimeoutError):
                connection_of_the_bell, _address = listener.accept()
                connection_of_the_bell.close()
                assert ends == "commits"
                return
            assert ends == "rolls back"
        finally:
            assert bell.flush(30)
            bell._app.cache_clear()


def test_proxy_of_the_photo_model_is_heard_too():
    from shop_similarity.catalogue.photo_paths import family

    class Proxy(ProductPhoto):
        class Meta:
            proxy = True
            app_label = "catalog"

    from django.apps import apps

    try:
        assert Proxy in family(ProductPhoto)
    finally:
        del apps.all_models["catalog"]["proxy"]
        apps.clear_cache()


@pytest.mark.parametrize("answer", ["refused", "silent"])
def test_ringing_costs_no_time_when_the_broker_is_away(answer, settings):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if answer == "silent" else 1
        settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{port}/0"
        bell._app.cache_clear()
        try:
            for _ in range(20):
                bell.ring()
            if answer == "silent":
                assert not bell.flush(0), "the rings waited for the broker"
        finally:
            assert bell.flush(30)
            bell._app.cache_clear()


@pytest.mark.django_db(transaction=True)
def test_no_save_of_the_shop_opens_a_cursor_of_the_server(monkeypatch):
    """Behind PgBouncer in transaction mode the server's cursor is gone with the statement that opened it."""
    make_version()
    product = make_product()
    make_photos_without_files([product], 3)

    def chunked_cursor() -> None:
        raise AssertionError("a cursor of the server")

    monkeypatch.setattr(connection, "chunked_cursor", chunked_cursor)
    product.save()
    assert OutboxEntry.objects.count() == 3
