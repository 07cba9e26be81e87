"""Explains every statement that a page, a save, a delete, a worker's tick, a dashboard and a health check send.

    python -m bench.query_plans --photos 1000000

Walks through each of these flows in a shop of so many photos, and has Postgres explain every statement by
`EXPLAIN (ANALYZE, BUFFERS)`, in a savepoint that is rolled back. Prints for each flow its statements, their time, the
rows that their scans read, and the node that read most. What grows with the catalogue stands out beside a run with a
tenth of the photos. `--statements` prints all of them.

Postgres is one of the reference shop's in a temporary folder, or the one that DATABASE_URL names (of another version,
say), whose database may be one that an earlier run has filled. There is no index over the codes: searches are measured
by `bench/search_paths.py`. Vectors are made up, of few numbers each, so that they take little room.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.temporary_shop import ROOT, temporary_shop

_PLAIN = "django.contrib.staticfiles.storage.StaticFilesStorage"
# Distinct vectors.
POOL = 1_000


@dataclass
class Statement:
    """What Postgres says of one.

    Attributes:
        sql: as it was sent, shortened.
        ms: execution time.
        read: rows that its scans have read, kept or not.
        pages: of 8 KiB, from the cache or the disk.
        node: the scan that read most, with its table or index.
    """

    sql: str
    ms: float
    read: int
    pages: int
    node: str


@dataclass
class Flow:
    name: str
    statements: list[Statement] = field(default_factory=list)

    @property
    def worst(self) -> Statement:
        return max(self.statements, key=lambda statement: (statement.read, statement.ms))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--backlog", type=float, default=0.1, help="Share of the photos that wait for a candidate.")
    parser.add_argument("--statements", action="store_true", help="Print every statement.")
    parser.add_argument("--only", metavar="WORD", help="Only flows whose name has this word.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all of it there, too.")
    parser.add_argument("--folder", type=Path, help="where the shop stays for the next measurement")
    options = parser.parse_args()
    with shop(options.folder):
        from django.conf import settings
        from django.test import override_settings

        with override_settings(
            ALLOWED_HOSTS=["*"],
            STORAGES={**settings.STORAGES, "staticfiles": {"BACKEND": _PLAIN}},
            CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
            # Vectors are few, so that most photos would count as the same.
            SHOP_SIMILARITY={**settings.SHOP_SIMILARITY, "DUPLICATE_SIMILARITY": 2, "DIVERSITY": 0},
        ):
            show(run(options), options)


@contextlib.contextmanager
def shop(folder: Path | None = None) -> Iterator[None]:
    if not os.environ.get("DATABASE_URL"):
        with temporary_shop(folder):
            yield
        return
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalog.settings")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    yield


def fill(photos: int, backlog: float) -> None:
    """Two photos a product; an active version that has all of them, a candidate that has not come to the last ones."""
    from django.db import connection

    from catalog.models import Category, Product, ProductPhoto
    from shop_similarity.models import Embedding, ModelVersion, OutboxEntry

    if ProductPhoto.objects.exists():
        return
    category = Category.objects.create(name="Things", slug="things")
    active = ModelVersion.objects.create(name="old", architecture="mildnet", weights_sha256="0", state="active")
    candidate = ModelVersion.objects.create(name="new", architecture="mildnet", weights_sha256="0")
    random = np.random.default_rng(0)
    missing = int(photos * backlog)
    embedding, entry = Embedding._meta.db_table, OutboxEntry._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {Product._meta.db_table} (name, slug, sku, category_id, price, stock, description,
                is_published, created_at) SELECT 'Thing ' || n, n, n, %s, n %% 100, 1, '', true, now()
            FROM generate_series(1, %s) n""",
            [category.pk, photos // 2],
        )
        cursor.execute(
            f"""INSERT INTO {ProductPhoto._meta.db_table} (product_id, file, position, caption, width, height)
            SELECT p.id, 'products/' || p.id || '/' || n || '.jpg', n, '', 800, 800
            FROM {Product._meta.db_table} p CROSS JOIN generate_series(0, 1) n"""
        )
        cursor.execute("CREATE TEMPORARY TABLE pool (id int PRIMARY KEY, vector halfvec(4096))")
        for number in range(POOL):
            vector = np.zeros(4096)
            vector[random.choice(4096, 40, replace=False)] = random.standard_normal(40)
            cursor.execute(
                "INSERT INTO pool VALUES (%s, %s::halfvec)", [number, str((vector / np.linalg.norm(vector)).tolist())]
            )
        # As they are, they would fill 8 GB for each million.
        cursor.execute(f"ALTER TABLE {embedding} ALTER vector SET STORAGE EXTENDED")
        cursor.execute("SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'")
        if cursor.fetchone()[0]:
            cursor.execute(f"ALTER TABLE {embedding} ALTER vector SET COMPRESSION lz4")
        for version, left_out in ((active, 0), (candidate, missing)):
            cursor.execute(
                f"""INSERT INTO {embedding} (version_id, product_id, image_id, file_name, file_mark, content_sha256,
                    vector, code, embedded_at)
                SELECT %s, p.product_id, p.id, p.file, '1:1', md5(p.id::text) || md5(p.id::text), pool.vector,
                    binary_quantize(pool.vector)::bit(4096), now()
                FROM {ProductPhoto._meta.db_table} p JOIN pool ON pool.id = p.id %% {POOL}
                ORDER BY p.id LIMIT %s""",
                [version.pk, photos - left_out],
            )
        # A backfill that is under way, with a storage that was away for a while: a third of it is to be tried later.
        cursor.execute(
            f"""INSERT INTO {entry} (version_id, product_id, image_id, priority, created_at, attempts, claimed_by,
                last_error, file_name, file_mark, due_at, leased_until)
            SELECT %s, p.product_id, p.id, 20, now(), CASE WHEN n <= %s / 3 THEN 1 ELSE 0 END,
                CASE WHEN n > %s - 32 THEN 'elsewhere|1|' ELSE '' END,
                CASE WHEN n <= %s / 3 THEN 'The storage is away.' ELSE '' END, '', '',
                CASE WHEN n <= %s / 3 THEN now() + interval '1 day' END,
                CASE WHEN n > %s - 32 THEN now() + interval '1 day' END
            FROM (SELECT *, row_number() OVER (ORDER BY id DESC) n FROM {ProductPhoto._meta.db_table}) p
            WHERE n <= %s""",
            [candidate.pk, *[missing] * 6],
        )
        cursor.execute("VACUUM ANALYZE")


def run(options: argparse.Namespace) -> list[Flow]:
    from django.db import connection

    fill(options.photos, options.backlog)
    found = []
    for name, action in flows().items():
        if options.only and options.only not in name:
            continue
        flow = Flow(name)
        with connection.execute_wrapper(functools.partial(explained, flow)):
            action()
        found.append(flow)
    return found


def explained(flow: Flow, execute: Callable, sql: str, params: Any, many: bool, context: dict) -> Any:
    """Have a statement explained before it is sent."""
    if not many and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", sql):
        cursor = context["cursor"].cursor
        is_within = context["connection"].in_atomic_block
        cursor.execute("SAVEPOINT explained" if is_within else "BEGIN")
        try:
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
            (plan,) = cursor.fetchone()[0]
            flow.statements.append(statement_of(sql, plan))
        finally:
            cursor.execute("ROLLBACK TO SAVEPOINT explained" if is_within else "ROLLBACK")
    return execute(sql, params, many, context)


def statement_of(sql: str, plan: dict[str, Any]) -> Statement:
    scans = list(_scans(plan["Plan"]))
    _read, node = max(scans, default=(0, plan["Plan"]["Node Type"]))
    top = plan["Plan"]
    return Statement(
        " ".join(re.sub(r'"\w+"\.', "", sql).split()),
        plan["Execution Time"],
        sum(rows for rows, _node in scans),
        top["Shared Hit Blocks"] + top["Shared Read Blocks"],
        node,
    )


def _scans(node: dict[str, Any]) -> Iterator[tuple[int, str]]:
    children = node.get("Plans", [])
    if node["Node Type"].endswith("Scan") and not node["Node Type"].startswith(("Subquery", "Function", "CTE")):
        removed = sum(value for name, value in node.items() if name.startswith("Rows Removed"))
        where = node.get("Index Name") or node.get("Relation Name") or ""
        yield int((node["Actual Rows"] + removed) * node["Actual Loops"]), f"{node['Node Type']} {where}".strip()
    for child in children:
        yield from _scans(child)


def flows() -> dict[str, Callable[[], object]]:
    """What is walked through, in the words of the table."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection, transaction
    from django.template import Context, Template
    from django.test import Client
    from django.urls import reverse

    from catalog.models import Product, ProductPhoto
    from shop_similarity import database, rollout
    from shop_similarity.embedding import outbox, sweep
    from shop_similarity.models import ModelVersion, OutboxEntry, SweepRun
    from shop_similarity.rollout.status import status
    from shop_similarity.workers import clock, identity

    middle = ProductPhoto.objects.order_by("pk")[ProductPhoto.objects.count() // 2]
    product = middle.product
    candidate = ModelVersion.objects.get(name="new")
    staff, _made = get_user_model().objects.get_or_create(username="bench", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(staff)

    def undone(action: Callable[[], object]) -> Callable[[], None]:
        def act() -> None:
            with transaction.atomic():
                action()
                transaction.set_rollback(True)

        return act

    def widget() -> None:
        page = Template("{% load shop_similarity %}{% similar_products product %}")
        page.render(Context({"product": Product.objects.get(pk=product.pk)}))

    def save_photo() -> None:
        ProductPhoto(product=product, file="bench.jpg").save()

    def replace_photo() -> None:
        ProductPhoto.objects.get(pk=middle.pk).save()

    def claim() -> None:
        with database.on_primary():
            outbox.versions_with_work()
            outbox.release(outbox.claim(candidate.pk, 16, "bench"))

    def quietly(*command: str, **how: Any) -> None:
        call_command(*command, stdout=io.StringIO(), stderr=io.StringIO(), **how)

    def advance() -> None:
        # Past Django, so that it does not count. Nothing of the backfill is left but what is to be tried later.
        for change in (
            f"UPDATE {ModelVersion._meta.db_table} SET activation_requested_at = now() WHERE id = {candidate.pk}",
            f"DELETE FROM {OutboxEntry._meta.db_table} WHERE version_id = {candidate.pk} AND due_at IS NULL",
        ):
            connection.connection.execute(change)
        rollout.advance()

    class Stop(threading.Event):
        """Lets a walk take a few steps."""

        def __init__(self) -> None:
            super().__init__()
            self.steps = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.steps += 1
            return self.steps > 20

    def walk(files: bool) -> None:
        SweepRun.objects.all().delete()
        sweep.go_on(files=files, stop=Stop())

    return {
        "page, found anew": widget,
        "page, from the cache": widget,
        "save of a new photo": undone(save_photo),
        "save of a photo that is there": undone(replace_photo),
        "save of a product": undone(lambda: Product.objects.get(pk=product.pk).save()),
        "deletion of a photo": undone(lambda: ProductPhoto.objects.get(pk=middle.pk).delete()),
        "deletion of a product": undone(lambda: Product.objects.get(pk=product.pk).delete()),
        "worker's tick": lambda: clock.look_round(lambda: None, lambda _job: None),
        "worker's tick, claims of the dead": identity.free_claims_of_the_dead,
        "worker claims a batch": undone(claim),
        "worker, wished activation": undone(advance),
        "worker, count before a switch": undone(lambda: rollout.gap(candidate)),
        "sweep of the rows, 20 steps": undone(functools.partial(walk, False)),
        "admin, dashboard": lambda: client.get(reverse("admin:shop_similarity_dashboard")),
        "admin, page of an activation": lambda: client.get(
            reverse("admin:shop_similarity_activate", args=[candidate.pk])
        ),
        "API and demo, status": status,
        "similarity_status": lambda: quietly("similarity_status"),
        "model_versions": lambda: quietly("model_versions"),
        "check --database": lambda: quietly("check", databases=["default"]),
    }


def show(found: list[Flow], options: argparse.Namespace) -> None:
    from django.db import connection

    print(f"{options.photos} photos, PostgreSQL {connection.pg_version // 10_000}.{connection.pg_version % 10_000}")
    print(f"{'':34} {'statements':>10} {'ms':>9} {'rows read':>10} {'pages':>8}  by")
    for flow in found:
        if not flow.statements:
            print(f"{flow.name:34} {0:10}")
            continue
        rows = sum(statement.read for statement in flow.statements)
        pages = sum(statement.pages for statement in flow.statements)
        ms = sum(statement.ms for statement in flow.statements)
        print(f"{flow.name:34} {len(flow.statements):10} {ms:9.2f} {rows:10} {pages:8}  {flow.worst.node}")
        if options.statements:
            for statement in flow.statements:
                print(f"    {statement.ms:9.2f} ms {statement.read:9} rows  {statement.node}: {statement.sql[:160]}")
    if options.json:
        values = [{"name": flow.name, "statements": [vars(item) for item in flow.statements]} for flow in found]
        options.json.write_text(json.dumps({"photos": options.photos, "flows": values}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
