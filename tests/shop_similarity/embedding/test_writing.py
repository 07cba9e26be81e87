"""Writing embeddings, and what may happen to a photo while it is embedded."""

from __future__ import annotations

import threading
from datetime import timedelta
from unittest import mock

import numpy as np
import pytest
from django.db import connection, connections
from django.utils import timezone

from catalog.models import ProductPhoto
from shop_similarity import database
from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.embedding.writing import PhotoVector, keep, vectors_of_contents, write_embeddings
from shop_similarity.models import Embedding, OutboxEntry
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version
from tests.vectors import random_vectors

DIGEST = "a" * 64


def _item(photo: ProductPhoto, vector, digest: str = DIGEST, claim: outbox.Claim | None = None) -> PhotoVector:
    row = ImageRow(photo.pk, photo.product_id, photo.file.name)
    return PhotoVector(claim or outbox.Claim(photo.pk, (), 1), row, "10:1.5", digest, vector)


@pytest.mark.django_db
def test_vector_code_and_hash_are_stored_and_the_entry_removed():
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    outbox.enqueue(version.pk, [ImageRow(photo.pk, photo.product_id, photo.file.name)])
    (claim,) = outbox.claim(version.pk, 1, "w")
    vector = random_vectors(1)[0]
    result = write_embeddings(version.pk, [_item(photo, vector, claim=claim)])
    assert len(result.written) == 1
    stored = Embedding.objects.defer(None).get()
    assert np.allclose(stored.vector, vector, atol=1e-3)
    signs = "".join("1" if value > 0 else "0" for value in np.float16(vector))
    assert str(stored.code) == signs
    assert (stored.content_sha256, stored.file_mark, stored.product_id) == (DIGEST, "10:1.5", photo.product_id)
    assert not OutboxEntry.objects.exists()


@pytest.mark.django_db
def test_list_queries_leave_the_vectors_in_the_table(django_assert_num_queries):
    version = make_version()
    photos = make_photos_without_files([make_product()], 3)
    write_embeddings(version.pk, [_item(p, v, f"{p.pk:064}") for p, v in zip(photos, random_vectors(3), strict=True)])
    with django_assert_num_queries(1) as captured:
        rows = list(Embedding.objects.all())
    assert '"vector"' not in captured.captured_queries[0]["sql"]
    assert len(rows) == 3


@pytest.mark.django_db
def test_writing_again_replaces():
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    first, second = random_vectors(2)
    write_embeddings(version.pk, [_item(photo, first)])
    write_embeddings(version.pk, [_item(photo, second, "b" * 64)])
    stored = Embedding.objects.defer(None).get()
    assert np.allclose(stored.vector, second, atol=1e-3)
    assert stored.content_sha256 == "b" * 64


@pytest.mark.django_db
def test_a_version_knows_its_own_vectors_of_the_same_bytes_exactly():
    version, other = make_version(), make_version("other", state="candidate")
    photos = make_photos_without_files([make_product(), make_product(), make_product()])
    vector = random_vectors(1)[0]
    write_embeddings(version.pk, [_item(photo, vector) for photo in photos])
    vectors = vectors_of_contents(version.pk, [DIGEST, "b" * 64])
    assert list(vectors) == [DIGEST]
    assert np.array_equal(vectors[DIGEST], np.float16(vector))
    assert vectors_of_contents(other.pk, [DIGEST]) == {}


@pytest.mark.django_db
def test_photo_deleted_or_changed_while_it_was_embedded():
    version = make_version()
    deleted, renamed, moved, kept = make_photos_without_files([make_product()], 4)
    items = [
        _item(p, v, f"{p.pk:064}") for p, v in zip([deleted, renamed, moved, kept], random_vectors(4), strict=True)
    ]
    database.raw_delete(ProductPhoto.objects.filter(pk=deleted.pk))
    ProductPhoto.objects.filter(pk=renamed.pk).update(file="other.jpg")
    ProductPhoto.objects.filter(pk=moved.pk).update(product=make_product())
    result = write_embeddings(version.pk, items)
    assert [item.row.image_id for item in result.gone] == [deleted.pk]
    assert [item.row.image_id for item in result.again] == [renamed.pk, moved.pk]
    assert list(Embedding.objects.values_list("image_id", flat=True)) == [kept.pk]


@pytest.mark.django_db
@pytest.mark.parametrize("vector", [np.ones(5), np.full(4096, np.nan)], ids=["length", "not a number"])
def test_unusable_vectors_are_refused(vector):
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    with pytest.raises(ValueError, match=r"4096 finite numbers"):
        write_embeddings(version.pk, [_item(photo, vector)])


@pytest.mark.django_db(transaction=True)
def test_photo_that_another_transaction_is_deleting_is_left_for_later():
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    results = []

    def work() -> None:
        try:
            results.append(write_embeddings(version.pk, [_item(photo, random_vectors(1)[0])]))
        finally:
            connections.close_all()

    connection.set_autocommit(False)
    try:
        database.raw_delete(ProductPhoto.objects.filter(pk=photo.pk))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        connection.commit()
    finally:
        connection.set_autocommit(True)
    assert len(results[0].again) == 1
    assert not Embedding.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_workers_that_write_the_same_photo_leave_one_row():
    version = make_version()
    photos = make_photos_without_files([make_product()], 8)
    items = [_item(p, v, f"{p.pk:064}") for p, v in zip(photos, random_vectors(8), strict=True)]
    barrier = threading.Barrier(4)
    errors = []

    def work(order) -> None:
        try:
            barrier.wait()
            for _ in range(5):
                write_embeddings(version.pk, order)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(order,)) for order in (items, items[::-1], items, items[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert Embedding.objects.count() == 8


@pytest.mark.django_db
def test_worker_that_was_stopped_for_longer_than_its_lease_overwrites_nothing():
    version = make_version()
    photo, other = make_photos_without_files([make_product()], 2)
    for each in (photo, other):
        outbox.enqueue(version.pk, [ImageRow(each.pk, each.product_id, each.file.name)])
    stopped, held = outbox.claim(version.pk, 2, "stopped")
    OutboxEntry.objects.filter(image_id=photo.pk).update(leased_until=timezone.now() - timedelta(seconds=1))
    (newer,) = outbox.claim(version.pk, 1, "other")
    old_vector, new_vector, third = random_vectors(3)
    assert write_embeddings(version.pk, [_item(photo, new_vector, "b" * 64, newer)]).written
    # What the stopped worker had read before is older; the other photo of its batch is its own still.
    report = write_embeddings(
        version.pk, [_item(photo, old_vector, "a" * 64, stopped), _item(other, third, "c" * 64, held)]
    )
    assert [item.row.image_id for item in report.written] == [other.pk]
    assert [item.row.image_id for item in report.again] == [photo.pk]
    digests = dict(Embedding.objects.values_list("image_id", "content_sha256"))
    assert digests == {photo.pk: "b" * 64, other.pk: "c" * 64}
    assert not OutboxEntry.objects.exists()


@pytest.mark.django_db
def test_worker_that_outlasts_its_lease_writes_where_nobody_took_the_photo():
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    outbox.enqueue(version.pk, [ImageRow(photo.pk, photo.product_id, photo.file.name)])
    (claim,) = outbox.claim(version.pk, 1, "slow")
    with mock.patch.object(timezone, "now", return_value=timezone.now() + timedelta(days=1)):
        assert write_embeddings(version.pk, [_item(photo, random_vectors(1)[0], claim=claim)]).written


@pytest.mark.django_db
def test_lost_claim_keeps_nothing_of_what_it_saw():
    version = make_version()
    (photo,) = make_photos_without_files([make_product()])
    write_embeddings(version.pk, [_item(photo, random_vectors(1)[0])])
    row = ImageRow(photo.pk, photo.product_id, photo.file.name)
    outbox.enqueue(version.pk, [row])
    (stopped,) = outbox.claim(version.pk, 1, "stopped")
    OutboxEntry.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    outbox.claim(version.pk, 1, "other")
    assert not keep(version.pk, stopped, row, "20:2.5")
    assert Embedding.objects.get().file_mark == "10:1.5"
    assert OutboxEntry.objects.get().claimed_by == "other"
