"""Times what recording costs: pages with tokens against pages without, and the events' endpoint against a bare view.

    python -m bench.event_cost

Rounds of each alternate, so that a busy machine slows all of them alike. All within one process, without a network. A
"page" is the widget of eight products alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from bench.temporary_shop import temporary_shop

ROUNDS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20, help="Calls in each of the rounds.")
    parser.add_argument("--lists", type=int, default=200_000, help="Lists that are rolled up.")
    options = parser.parse_args()
    with temporary_shop():
        run(options.calls, options.lists)


def bare(request):
    from django.http import HttpResponse

    request.read()
    return HttpResponse(status=204)


def one_statement(request):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return bare(request)


def run(calls: int, lists: int) -> None:
    import json
    import sys

    import numpy as np
    from django.conf import settings
    from django.core.files.base import ContentFile
    from django.template import engines
    from django.test import Client, RequestFactory, override_settings
    from django.urls import include, path
    from django.views.decorators.csrf import csrf_exempt

    from shop_similarity.feedback import tokens
    from shop_similarity.models import Event, ModelVersion, Surface
    from tests.shop_similarity.drawn_photos import product_photo
    from tests.shop_similarity.factories import make_photos_without_files, make_product, store_vectors

    products = [make_product() for _ in range(50)]
    version = ModelVersion.objects.create(name="bench", architecture="mildnet", weights_sha256="0", state="active")
    vectors = np.random.default_rng(0).standard_normal((50, 4096)).astype(np.float32)
    photos = make_photos_without_files(products)
    for photo in photos:
        photo.file.storage.save(photo.file.name, ContentFile(product_photo("mug", "red")))
    store_vectors(version, photos, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    template = engines["django"].from_string("{% load shop_similarity %}{% similar_products product %}")
    urls = sys.modules[__name__]
    urls.urlpatterns = [
        path("bare/", csrf_exempt(bare)),
        path("statement/", csrf_exempt(one_statement)),
        path("", include("catalog.urls")),
    ]
    client = Client(SERVER_NAME="localhost")

    def page(record: bool) -> Callable[[], None]:
        def render() -> None:
            with override_settings(SHOP_SIMILARITY=settings.SHOP_SIMILARITY | {"RECORD_EVENTS": record}):
                for number in range(calls):
                    request = RequestFactory().get("/")
                    html = template.render({"product": products[number % 50]}, request)
                    assert ("data-similarity-token" in html) is record

        return render

    def beacon(address: str, kind: str) -> Callable[[], None]:
        def send() -> None:
            for body in bodies[kind]:
                assert client.post(address, body, content_type="text/plain").status_code == 204

        return send

    def issue() -> None:
        for _ in range(calls):
            one_token()

    def one_token() -> str:
        return tokens.issue(
            version=version,
            surface=Surface.WIDGET,
            product_id=products[0].pk,
            shown=[product.pk for product in products[1:9]],
        )

    bodies: dict[str, list[str]] = {}

    def prepare() -> None:
        """Lists that nobody has reported on yet."""
        for kind, events in (
            ("impression", [{"kind": "impression"}]),
            ("click", [{"kind": "click", "product": str(products[3].pk)}]),
        ):
            bodies[kind] = [json.dumps({"token": one_token(), "events": events}) for _ in range(calls)]

    kinds = {
        "page without tokens": page(False),
        "page with tokens": page(True),
        "token alone": issue,
        "bare view": beacon("/bare/", "impression"),
        "bare, one SELECT 1": beacon("/statement/", "impression"),
        "impression": beacon("/similarity/events/", "impression"),
        "click": beacon("/similarity/events/", "click"),
        "the same click again": beacon("/similarity/events/", "click"),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    rate = {"EVENT_RATE": "1000000/min"}
    with override_settings(ROOT_URLCONF=__name__, SHOP_SIMILARITY=settings.SHOP_SIMILARITY | rate):
        for number in range(ROUNDS + 1):
            prepare()
            for name, call in kinds.items():
                started = time.perf_counter()
                call()
                # The first round warms up.
                if number:
                    times[name].append((time.perf_counter() - started) / calls)
        assert Event.objects.filter(kind="click").count() == (ROUNDS + 1) * calls
    print(f"{'':22} {'median ms':>10} {'per second':>11}")
    for name, each in times.items():
        middle = statistics.median(each)
        print(f"{name:22} {middle * 1e3:10.3f} {1 / middle:11.0f}")
    print(f"A token of eight integer keys has {len(json.loads(bodies['click'][0])['token'])} characters.")
    roll_up_many(version.pk, lists)


def roll_up_many(version: int, lists: int) -> None:
    """Lists of eight over thirty days, a tenth of them with a click."""
    from django.db import connection

    from shop_similarity.feedback.preferences import preferences
    from shop_similarity.feedback.roll_up import roll_up
    from shop_similarity.feedback.statistics import click_rates, clicks_by_position
    from shop_similarity.models import Event

    Event.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE made AS SELECT gen_random_uuid() AS id, n, n %% 50 AS product, "
            "now() - n * interval '30 days' / %s AS at FROM generate_series(1, %s) AS n",
            [lists, lists],
        )
        shown = "ARRAY(SELECT (product + place)::text FROM generate_series(1, 8) AS place)"
        for kind, values, voter, where in (
            ("impression", f"{shown}, NULL, NULL", "NULL", "true"),
            ("click", "'{}', product + 4, 4", "n / 7 %% 256", "n %% 10 = 0"),
        ):
            cursor.execute(
                "INSERT INTO shop_similarity_event (query_id, kind, surface, version_id, product_id, shown, "
                "target_product_id, position, visitor, voter, shown_at, created_at) "
                f"SELECT id, '{kind}', 'widget', %s, product, {values}, '', {voter}, at, at FROM made WHERE {where}",
                [version],
            )
        cursor.execute("ANALYZE shop_similarity_event")
    print(f"{Event.objects.count():,} events of {lists:,} lists in 30 days:")
    for name, call in (
        ("click_rates before", click_rates),
        ("first roll-up", roll_up),
        ("the next roll-up", roll_up),
        ("click_rates", click_rates),
        ("clicks_by_position", clicks_by_position),
        ("preferences", lambda: list(preferences())),
    ):
        started = time.perf_counter()
        call()
        print(f"{name:22} {time.perf_counter() - started:10.3f} s")


if __name__ == "__main__":
    main()
