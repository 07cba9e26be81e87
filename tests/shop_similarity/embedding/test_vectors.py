"""What makes vectors usable, and a sample of a version's."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection

from shop_similarity.embedding.vectors import SAMPLE, are_nearly_the_same, fault_of, unusable_rows
from shop_similarity.models import Embedding
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors


def test_rows_that_cannot_be_searched_with_are_named():
    rows = random_vectors(6)
    rows[1, 5], rows[2, 0], rows[4] = np.nan, np.inf, 0
    assert unusable_rows(rows).tolist() == [1, 2, 4]
    # Finite numbers whose length is not.
    rows = random_vectors(2)
    rows[1] = 3e38
    assert unusable_rows(rows).tolist() == [1]
    assert unusable_rows(np.ones((2, 7), np.float32)).tolist() == [0, 1]
    assert unusable_rows(random_vectors(2).astype(np.float16)).tolist() == []


def test_collapsed_vectors_are_told_from_similar_ones():
    random = np.random.default_rng(0)
    one = random_vectors(1)
    collapsed = one + 1e-5 * random.standard_normal((20, 4096)).astype(np.float32)
    # Cosines of .99, which a shop of one kind of product may well have.
    similar = one + 1.5e-3 * random.standard_normal((20, 4096)).astype(np.float32)
    assert are_nearly_the_same(collapsed)
    assert are_nearly_the_same(collapsed.astype(np.float16))
    assert not are_nearly_the_same(similar)
    assert not are_nearly_the_same(collapsed[:7])
    assert not are_nearly_the_same(random_vectors(500))


@pytest.mark.django_db
def test_a_version_s_fault_is_a_sentence():
    photos = make_photos_without_files([make_product() for _ in range(12)])
    good, same, none = make_version("good"), make_version("same", "candidate"), make_version("none", "candidate")
    store_vectors(good, photos, random_vectors(12))
    store_vectors(same, photos, np.repeat(random_vectors(1), 12, axis=0))
    assert fault_of(good) == fault_of(none) == ""
    assert "same has nearly the same vector for 12 different photos" in fault_of(same)
    # Photos with the same bytes have the same vector by right.
    Embedding.objects.filter(version=same).update(content_sha256="a" * 64)
    assert fault_of(same) == ""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE shop_similarity_embedding SET vector = (SELECT array_fill(0, ARRAY[4096])::real[]::halfvec(4096)) "
            "WHERE version_id = %s AND image_id = %s",
            [good.pk, photos[0].pk],
        )
    assert "1 of 12 vectors of good" in fault_of(good)


@pytest.mark.django_db
def test_the_sample_is_read_by_the_index_of_contents_however_many_photos_there_are():
    photos = make_photos_without_files([make_product() for _ in range(3)])
    version = make_version()
    store_vectors(version, photos, random_vectors(3))
    rows = Embedding.objects.filter(version=version, content_sha256__gte="8").order_by("content_sha256")
    query, values = rows.values_list("content_sha256", "vector")[:SAMPLE].query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {query}", values)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "shop_similarity_emb_content" in plan
    assert "Sort" not in plan
