"""A worker in a shop that reads from a replica which has heard of nothing yet."""

from __future__ import annotations

import io

import numpy as np
from django.core.management import call_command
from PIL import Image

from shop_similarity import database
from shop_similarity.models import Embedding, OutboxEntry
from shop_similarity.workers.clock import look_round
from shop_similarity.workers.drain import drain
from tests.shop_similarity.factories import add_photo, make_product
from tests.shop_similarity.test_databases import replica  # noqa: F401  (a fixture)


def _jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_photos_that_have_not_reached_the_replica_are_embedded(tiny_version, replica, capsys):  # noqa: F811
    tiny_version()
    photos = [add_photo(make_product(), _jpeg(seed), f"{seed}.jpg") for seed in range(3)]
    report = drain()
    assert (report.embedded, report.gone) == (3, 0)
    look_round(drain)
    with database.on_primary():
        assert set(Embedding.objects.values_list("image_id", flat=True)) == {photo.pk for photo in photos}
        assert not OutboxEntry.objects.exists()
    call_command("similarity_status")
    assert "3 products, 3 of them with 3 photos" in capsys.readouterr().out
