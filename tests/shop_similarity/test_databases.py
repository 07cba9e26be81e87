"""Several databases: a replica that lags behind, an archive without the plugin's tables, an alias past a pooler."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connections

from catalog.models import Product, ProductPhoto
from shop_similarity import database, rollout
from shop_similarity.catalogue import get_catalogue
from shop_similarity.checks import check_databases, check_tenants
from shop_similarity.embedding import outbox
from shop_similarity.embedding.sweep import sweep
from shop_similarity.embedding.writing import PhotoVector, write_embeddings
from shop_similarity.feedback.roll_up import roll_up
from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
from shop_similarity.rollout.status import status
from tests.shop_similarity.factories import (
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.support.other_databases import other_database
from tests.vectors import random_vectors

SHOP = {"catalog", "shop_similarity"}


class ReadsReplica:
    """Nothing has reached the replica yet."""

    def db_for_read(self, model, **hints):
        return "replica" if model._meta.app_label in SHOP else None

    def db_for_write(self, model, **hints):
        return "default"


class PluginElsewhere:
    def db_for_read(self, model, **hints):
        return "elsewhere" if model._meta.app_label == "shop_similarity" else "default"

    db_for_write = db_for_read


def _tables(*labels: str) -> list[str]:
    # A proxy has the table of its model.
    models = (model for label in labels for model in apps.get_app_config(label).get_models())
    return [model._meta.db_table for model in models if not model._meta.proxy]


@pytest.fixture
def replica(transactional_db, settings):
    with other_database("replica", _tables(*SHOP), path=",public"):
        settings.DATABASE_ROUTERS = [f"{__name__}.ReadsReplica"]
        yield


@pytest.fixture
def archive(transactional_db):
    """A database with the shop's products and without the plugin's tables."""
    with other_database("archive", _tables("catalog")):
        yield


def _embed(version: ModelVersion) -> int:
    """As a worker does it, with made-up vectors."""
    with database.on_primary():
        assert outbox.versions_with_work() == [version.pk]
        claims = outbox.claim(version.pk, 100, "w")
        rows = {row.image_id: row for row in get_catalogue().rows(get_catalogue().images())}
    photos = [
        PhotoVector(claim, rows[claim.image_id], "1:1", f"{claim.image_id:064x}", vector)
        for claim, vector in zip(claims, random_vectors(len(claims)), strict=True)
    ]
    return len(write_embeddings(version.pk, photos).written)


def test_workers_and_roll_outs_read_where_they_write(replica):
    photos = make_photos_without_files([make_product() for _ in range(5)])
    active = make_version("v1")
    assert not ProductPhoto.objects.exists(), "the replica knows nothing"
    report = sweep(files=False)
    assert (report.enqueued, report.removed) == (5, 0)
    assert _embed(active) == 5
    # A second sweep finds nothing to queue and removes nothing.
    report = sweep(files=False)
    assert (report.enqueued, report.removed) == (0, 0)
    candidate = make_version("v2", "candidate")
    rollout.request_activation(candidate, force=True)
    assert candidate.activation_requested_at is not None
    assert rollout.is_wanted()
    assert rollout.advance() is None
    assert OutboxEntry.objects.using("default").filter(version=candidate.pk).count() == len(photos)
    _embed(candidate)
    assert rollout.advance() == candidate
    assert rollout.roll_back() == active
    assert not roll_up().skipped
    with database.on_primary():
        assert (status()["images"], status()["embedded"]) == (5, 5)


def test_searches_read_the_replica(replica):
    product = make_product()
    store_vectors(make_version(), make_photos_without_files([product]), random_vectors(1))
    assert database.read_alias() == "replica"
    assert not Embedding.objects.exists()
    with database.on_primary():
        assert Embedding.objects.get().product_id == product.pk
    assert not Embedding.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_rows_that_are_saved_to_an_archive_are_none_of_ours(archive):
    product = make_product()
    (photo,) = make_photos_without_files([product])
    store_vectors(make_version(), [photo], random_vectors(1))
    product.category.save(using="archive", force_insert=True)
    product.save(using="archive", force_insert=True)
    photo.save(using="archive", force_insert=True)
    Product.objects.using("archive").get().save(using="archive")
    assert not OutboxEntry.objects.exists()
    ProductPhoto.objects.using("archive").get().delete()
    Product.objects.using("archive").get().delete()
    assert Embedding.objects.get().image_id == photo.pk


@pytest.mark.django_db(transaction=True)
def test_rows_that_are_saved_under_another_alias_of_the_database_are_ours():
    product = make_product()
    make_version()
    with other_database("past_the_pooler"):
        ProductPhoto(product_id=product.pk, file="a.jpg").save(using="past_the_pooler")
    assert OutboxEntry.objects.get().product_id == product.pk


@pytest.mark.django_db(transaction=True)
def test_tables_that_searches_could_not_join_are_refused(settings):
    assert check_databases() == []
    with other_database("elsewhere"):
        settings.DATABASE_ROUTERS = [f"{__name__}.PluginElsewhere"]
        found, _of_the_photos = check_databases()
    assert found.id == "shop_similarity.E020"
    assert "catalog.Product " in found.msg and "elsewhere" in found.msg
    assert "DATABASE_ROUTERS" in found.hint


@pytest.mark.django_db
def test_keys_of_the_shops_products_are_written_as_the_plugins_database_takes_them(settings):
    # Django writes a statement for ``default`` where nobody says for which database it is.
    from shop_similarity.search.paths import keys_sql

    with other_database("default_of_another_kind", ENGINE="django.db.backends.sqlite3", NAME=":memory:", OPTIONS={}):
        real = connections["default"]
        connections["default"] = connections["default_of_another_kind"]
        settings.DATABASE_ROUTERS = [f"{__name__}.ShopIsReal"]
        connections["shop_real"] = real
        try:
            text = keys_sql(Product.objects.filter(name__iregex="^a")).text
        finally:
            connections["default"] = real
            del connections["shop_real"]
    assert "REGEXP" not in text
    assert "~*" in text


class ShopIsReal:
    def db_for_read(self, model, **hints):
        return "shop_real"

    db_for_write = db_for_read


def test_tables_of_tenants_are_refused(settings):
    assert check_tenants() == []
    settings.TENANT_APPS = [
        "django.contrib.auth",
        "shop_similarity.apps.ShopSimilarityConfig",
        "shop_similarity_of_ours",
    ]
    (found,) = check_tenants()
    assert found.id == "shop_similarity.E021"
    assert "'shop_similarity'" in found.msg and "catalog" not in found.msg
    settings.TENANT_APPS = ["catalog"]
    (found,) = check_tenants()
    assert "'catalog'" in found.msg
    settings.TENANT_APPS = []
    assert check_tenants() == []
