"""Photos and weights in S3 buckets: hooks, worker, sweep and roll-out, at a server that speaks the real protocol."""

from __future__ import annotations

import pytest
from django.core.files.base import ContentFile

from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry, weights_storage
from shop_similarity.workers import embedder
from shop_similarity.workers.drain import drain
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import add_photo, make_product
from tests.support.s3 import BUCKET, client, s3_server, storage_settings

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


@pytest.fixture(scope="module")
def server():
    with s3_server() as url:
        yield url


@pytest.fixture(autouse=True)
def _buckets(server, settings, monkeypatch):
    settings.STORAGES = {
        **settings.STORAGES,
        "default": storage_settings(server),
        "shop_similarity": storage_settings(server, location="weights"),
    }
    # A field asks for its storage when the shop starts.
    monkeypatch.setattr(ModelVersion._meta.get_field("weights"), "storage", weights_storage())
    embedder.release_embedder()
    yield
    embedder.release_embedder()


def test_photos_and_weights_in_buckets_are_embedded_and_followed(server, tiny_version):
    version = tiny_version()
    s3 = client(server)
    assert s3.head_object(Bucket=BUCKET, Key=f"weights/{version.weights.name}")
    photos = [add_photo(make_product(f"Mug {n}"), product_photo("mug", "red", size=(64, 64 + n))) for n in range(3)]
    s3.delete_object(Bucket=BUCKET, Key=photos[2].file.name)
    drain()
    assert set(Embedding.objects.values_list("image_id", flat=True)) == {photos[0].pk, photos[1].pk}
    (failed,) = OutboxEntry.objects.all()
    assert failed.failed_at is not None and "is not in the storage" in failed.last_error
    before = Embedding.objects.get(image_id=photos[0].pk)
    # Replaced by whoever writes to the bucket, past the shop.
    s3.put_object(Bucket=BUCKET, Key=photos[0].file.name, Body=product_photo("mug", "blue", size=(64, 70)))
    s3.put_object(Bucket=BUCKET, Key=photos[2].file.name, Body=product_photo("mug", "green", size=(64, 71)))
    sweep()
    drain()
    after = Embedding.objects.get(image_id=photos[0].pk)
    assert after.content_sha256 != before.content_sha256
    assert Embedding.objects.count() == 3 and not OutboxEntry.objects.exists()
    photos[1].file.save("other.jpg", ContentFile(product_photo("mug", "grey", size=(60, 60))))
    drain()
    assert Embedding.objects.get(image_id=photos[1].pk).file_name == photos[1].file.name


def test_a_new_version_is_rolled_out_from_a_bucket(tiny_version):
    tiny_version()
    add_photo(make_product("Mug"), product_photo("mug", "red", size=(64, 64)))
    drain()
    tiny_version("next", ModelVersion.State.CANDIDATE, seed=8)
    sweep()
    drain()
    assert Embedding.objects.filter(version__name="next").count() == 1
