"""Explains every statement that a page, a save, a delete, a worker's tick, a dashboard and a health check send.

    python -m bench.query_plans --photos 1000000

Walks through each of these flows in a shop of so many photos, and has Postgres explain every statement by
`EXPLAIN (ANALYZE, BUFFERS)`, in a savepoint that is rolled back. Prints for each flow its statements, their time, the
rows that their scans read, and the node that read most. What grows with the catalogue stands out beside a run with a
tenth of the photos. `--statements` prints all of them.

Postgres is one of the reference shop's in a temporary folder, or the one that DATABASE_URL names (of another version,
say), whose database may be one that an earlier run has filled. There is no index over the codes: searches are measured
by `bench/search_paths.py`. Vectors are made up, of few numbers each, so that they take little room.

With `--stale` Postgres plans by the statistics of a shop in which nothing waited yet and the candidate had nothing, as
it does between a large import and the next ANALYZE: what reads more then depends on them. From PostgreSQL 18 on.
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
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.temporary_shop import ROOT, temporary_shop

_PLAIN = "django.contrib.staticfiles.storage.StaticFilesStorage"
# Distinct vectors.
POOL = 1_000
# Photos that shoppers have searched with within the time that they are kept, far more than one web process takes.
QUERIES = 5_000
_ENGINE = "tests.shop_similarity.embedding.engines.in_memory.InMemory"


@dataclass
class Statement:
    """What Postgres says of one.

    Attributes:
        sql: as it was sent, shortened.
        ms: execution time.
        read: rows that its scans have read, kept or not.
        pages: of 8 KiB, from the cache or the disk.
        node: the scan that read most, with its table or index.
        triggers_ms: of the time, what triggers took.
    """

    sql: str
    ms: float
    read: int
    pages: int
    node: str
    triggers_ms: float = 0.0


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
    parser.add_argument("--only", metavar="WORD", action="append", help="Only flows whose name has this word, or one.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="Write all of it there, too.")
    parser.add_argument("--folder", type=Path, help="where the shop stays for the next measurement")
    parser.add_argument("--stale", action="store_true", help="Plan by statistics from before anything waited.")
    options = parser.parse_args()
    with shop(options.folder):
        from django.conf import settings
        from django.test import override_settings

        with override_settings(
            ALLOWED_HOSTS=["*"],
            STORAGES={**settings.STORAGES, "staticfiles": {"BACKEND": _PLAIN}},
            CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
            # Vectors are few, so that most photos would count as the same.
            # A hundredth of the products share a price, and all of them the category.
            SHOP_SIMILARITY={
                **settings.SHOP_SIMILARITY,
                "DUPLICATE_SIMILARITY": 2,
                "DIVERSITY": 0,
                "ATTRIBUTES": {"price": "price", "kind": "category"},
            },
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
    from django.db import connection, transaction

    from catalog.models import ProductPhoto
    from shop_similarity.models import Embedding, ModelVersion, OutboxEntry

    if OutboxEntry.objects.exists():
        return
    active, _made = ModelVersion.objects.get_or_create(
        name="old", defaults={"architecture": "mildnet", "weights_sha256": "0", "state": "active"}
    )
    candidate, _made = ModelVersion.objects.get_or_create(
        name="new", defaults={"architecture": "mildnet", "weights_sha256": "0"}
    )
    random = np.random.default_rng(0)
    missing = int(photos * backlog)
    embedding, entry = Embedding._meta.db_table, OutboxEntry._meta.db_table
    with connection.cursor() as cursor:
        if not ProductPhoto.objects.exists():
            _fill_products(cursor, photos // 2)
        cursor.execute("CREATE TEMPORARY TABLE pool (id int PRIMARY KEY, vector halfvec(4096), code bit(4096))")
        # As they are, they would fill 8 GB for each million. What is compressed once is copied as it is.
        for table in ("pool", embedding):
            cursor.execute(f"ALTER TABLE {table} ALTER vector SET STORAGE EXTENDED")
        for number in range(POOL):
            vector = np.zeros(4096)
            vector[random.choice(4096, 40, replace=False)] = random.standard_normal(40)
            cursor.execute(
                "INSERT INTO pool SELECT %s, v, binary_quantize(v)::bit(4096) FROM CAST(%s AS halfvec(4096)) v",
                [number, str((vector / np.linalg.norm(vector)).tolist())],
            )
        with transaction.atomic(), _without_indexes(cursor, embedding):
            for version, left_out in ((active, 0), (candidate, missing)):
                cursor.execute(
                    f"""INSERT INTO {embedding} (version_id, product_id, image_id, file_name, file_mark, content_sha256,
                        vector, code, embedded_at)
                    SELECT %s, p.product_id, p.id, p.file, '1:1', md5(p.id::text) || md5(p.id::text), pool.vector,
                        pool.code, now()
                    FROM {ProductPhoto._meta.db_table} p JOIN pool ON pool.id = p.id %% {POOL}
                    WHERE p.id <= (SELECT max(id) - %s FROM {ProductPhoto._meta.db_table})""",
                    [version.pk, left_out],
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


def _fill_products(cursor: Any, products: int) -> None:
    from catalog.models import Category, Product, ProductPhoto

    category = Category.objects.create(name="Things", slug="things")
    cursor.execute(
        f"""INSERT INTO {Product._meta.db_table} (name, slug, sku, category_id, price, stock, description,
            is_published, created_at) SELECT 'Thing ' || n, n, n, %s, n %% 100, 1, '', true, now()
        FROM generate_series(1, %s) n""",
        [category.pk, products],
    )
    cursor.execute(
        f"""INSERT INTO {ProductPhoto._meta.db_table} (product_id, file, position, caption, width, height)
        SELECT p.id, 'products/' || p.id || '/' || n || '.jpg', n, '', 800, 800
        FROM {Product._meta.db_table} p CROSS JOIN generate_series(0, 1) n"""
    )
    # As every shop of this size has that lets shoppers filter by price.
    cursor.execute(f"CREATE INDEX IF NOT EXISTS bench_price ON {Product._meta.db_table} (price)")


@contextlib.contextmanager
def _without_indexes(cursor: Any, table: str) -> Iterator[None]:
    """Indexes and constraints are made again afterwards, as a restore does: a row after the other takes hours."""
    cursor.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass "
        "AND contype IN ('u', 'f')",
        [table],
    )
    constraints = cursor.fetchall()
    for name, _definition in constraints:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    cursor.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
        "WHERE indrelid = %s::regclass AND NOT indisprimary",
        [table],
    )
    indexes = cursor.fetchall()
    for name, _definition in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    for _name, definition in indexes:
        cursor.execute(definition)
    for name, definition in constraints:
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")


def fill_queries() -> None:
    """Answered searches by photo, of which two hundred are kept with their photo."""
    from django.db import connection
    from django.utils import timezone

    from shop_similarity.models import ModelVersion, VisualQuery
    from shop_similarity.visual_search.queue import MOST_KEPT

    if VisualQuery.objects.count() >= QUERIES:
        VisualQuery.objects.update(created_at=timezone.now())
        return
    active = ModelVersion.objects.get(name="old")
    table = VisualQuery._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"""INSERT INTO {table} (id, version_id, photo, vector, created_at, answered_at, error, is_vote, regions,
                is_kept, product)
            SELECT gen_random_uuid(), %s, CASE WHEN n <= %s THEN decode(repeat('ab', 60000), 'hex') END,
                (SELECT array_agg(i + n) FROM generate_series(1, 4096) i)::halfvec(4096), now(), now(), '', false,
                '[[10, 10, 60, 60]]', n <= %s, ''
            FROM generate_series(1, %s) n""",
            [active.pk, MOST_KEPT, MOST_KEPT, QUERIES],
        )
        cursor.execute(f"VACUUM ANALYZE {table}")


def make_stale() -> None:
    """Have Postgres think that the active version has all embeddings and nothing waits."""
    from django.db import connection

    from shop_similarity.models import Embedding, EngineChange, ModelVersion, OutboxEntry

    if connection.pg_version < 180_000:
        raise SystemExit("--stale needs PostgreSQL 18, where statistics can be written.")
    active = ModelVersion.objects.get(name="old")
    with connection.cursor() as cursor:
        for model in (Embedding, OutboxEntry, EngineChange):
            cursor.execute(f"ALTER TABLE {model._meta.db_table} SET (autovacuum_enabled = false)")
        cursor.execute(
            "SELECT pg_restore_attribute_stats('schemaname', 'public', 'relname', %s::text, 'attname', "
            "'version_id'::text, 'inherited', false, 'null_frac', 0::real, 'n_distinct', 1::real, "
            "'most_common_vals', %s::text, 'most_common_freqs', '{1}'::real[])",
            [Embedding._meta.db_table, f"{{{active.pk}}}"],
        )
        for model in (OutboxEntry, EngineChange):
            table = model._meta.db_table
            for field in model._meta.concrete_fields:
                cursor.execute(
                    "SELECT pg_clear_attribute_stats('public', %s::text, %s::text, false)", [table, field.column]
                )
            cursor.execute(
                "SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', %s::text, 'relpages', 0, "
                "'reltuples', 0::real)",
                [table],
            )


def run(options: argparse.Namespace) -> list[Flow]:
    from django.db import connection

    fill(options.photos, options.backlog)
    fill_queries()
    if options.stale:
        make_stale()
    found = []
    for name, action in flows().items():
        if options.only and not any(word in name for word in options.only):
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
        textwrap.shorten(re.sub(r'"\w+"\.', "", sql), 6_000, placeholder=" ..."),
        plan["Execution Time"],
        sum(rows for rows, _node in scans),
        top["Shared Hit Blocks"] + top["Shared Read Blocks"],
        node,
        sum(trigger["Time"] for trigger in plan.get("Triggers", ())),
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
    from django.utils import timezone

    from catalog.models import Product, ProductPhoto
    from shop_similarity import database, rollout
    from shop_similarity.embedding import outbox, sweep
    from shop_similarity.models import MerchandisingRule, ModelVersion, OutboxEntry, SweepRun
    from shop_similarity.monitoring import exposition, health
    from shop_similarity.rollout.status import status
    from shop_similarity.search import SearchOptions, similar_products
    from shop_similarity.storefront.feed import FeedOptions, feed_keys
    from shop_similarity.workers import clock, identity

    middle = ProductPhoto.objects.order_by("pk")[ProductPhoto.objects.count() // 2]
    product = middle.product
    active, candidate = (ModelVersion.objects.get(name=name) for name in ("old", "new"))
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

    def weighed() -> None:
        kinds = MerchandisingRule.Kind
        for name, boost in (("price", 0.3), ("kind", 0.1)):
            MerchandisingRule.objects.create(kind=kinds.SHARE, attribute=name, boost=boost, product_id=product.pk)
        # Among a hundredth of the products, for the search itself is measured elsewhere.
        similar_products(product, among=Product.objects.filter(price=7), version=active)

    def preview_of_a_mode() -> None:
        address = reverse("admin:shop_similarity_modes", args=[product.pk])
        assert client.get(f"{address}?mode=other&attribute=price").status_code == 200

    def preview_of_a_rule() -> None:
        rule = {"kind": "share", "attribute": "price", "boost": "0.3", "product_id": product.pk, "is_on": "on"}
        address = reverse("admin:shop_similarity_merchandisingrule_add")
        answer = client.post(address, rule | {"_preview": "1"})
        # Not the form once more, with what is wrong in it.
        assert b"Preview of the rule" in answer.content

    def feed(since: timedelta | None = None, alternatives: bool = False) -> None:
        # Look-alikes are searched for as a page's are.
        options = FeedOptions(
            SearchOptions(limit=8), None if since is None else timezone.now() - since, alternatives=alternatives
        )
        feed_keys(options, active, after=product.pk)

    def health_checks() -> None:
        for name in health.NAMES:
            health.check(name)

    return {
        "page, found anew": widget,
        "page, attributes weigh": undone(weighed),
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
        "admin, preview of a mode": preview_of_a_mode,
        "admin, preview of a rule": preview_of_a_rule,
        "feed, keys of a page": feed,
        "feed, what has changed today": lambda: feed(timedelta(days=1)),
        "feed, what has changed long ago": lambda: feed(timedelta(days=-1)),
        "feed, sold out": lambda: feed(alternatives=True),
        "health checks": health_checks,
        "metrics": lambda: list(exposition.DatabaseState().collect()),
        **_photo_flows(active, product),
        **_engine_flows(active, candidate, middle),
    }


def _photo_flows(active: Any, product: Any) -> dict[str, Callable[[], object]]:
    """From a shopper's photo to the choice among its objects, beside the photos of thousands of others."""
    from django.db import transaction
    from PIL import Image

    from shop_similarity.models import VisualQuery
    from shop_similarity.visual_search import object_views, queue, votes

    def photo() -> Any:
        file = io.BytesIO()
        Image.new("RGB", (300, 300), "white").save(file, "JPEG")
        file.seek(0)
        return file

    queries: list[Any] = []

    def submit() -> None:
        queries.append(queue.submit(photo(), version=active, keep=True))

    def claim_and_answer() -> None:
        if not queries:
            submit()
        version = queue.next_version()
        claim = queue.claim(version)
        vector = np.ones(4096, np.float32) / 64
        queue.answer(claim, version, vector, vector, [[10, 10, 60, 60], [50, 50, 90, 90]])
        votes.count(version)

    def look() -> None:
        if not queries:
            claim_and_answer()
        (query,) = queries
        queue.wait(query, 1)
        assert object_views.choices(queue.find_query(query.pk), 1) is not None

    def choose() -> None:
        if not queries:
            claim_and_answer()
        (query,) = queries
        chosen = queue.submit_part(queue.find_query(query.pk), object_views.parts_of(query)[1])
        VisualQuery.objects.filter(pk__in=[chosen.pk, query.pk]).delete()

    def kept() -> None:
        asked = queue.submit(photo(), product=product.pk, version=active, keep=True)
        VisualQuery.objects.filter(pk=asked.pk).delete()

    def purge() -> None:
        with transaction.atomic():
            queue.purge()

    return {
        "photo search, photo sent": submit,
        "photo search, worker claims and answers": claim_and_answer,
        "photo search, results looked at": look,
        "photo search, object chosen": choose,
        "photo search, a product's own photo": kept,
        "photo search, worker tidies": purge,
    }


def _engine_flows(active: Any, candidate: Any, photo: Any) -> dict[str, Callable[[], object]]:
    """With an engine beside Postgres that holds the active version; without it none of this is sent."""
    from django.conf import settings
    from django.db import connection, transaction

    from shop_similarity.conf import get_settings
    from shop_similarity.embedding.engines import copies, states
    from shop_similarity.models import Embedding, EngineChange

    ours = settings.SHOP_SIMILARITY
    embedding, change = Embedding._meta.db_table, EngineChange._meta.db_table

    def choose(engine: str) -> None:
        settings.SHOP_SIMILARITY = ours | {"ENGINE": engine}
        get_settings.cache_clear()

    def begin() -> None:
        choose(_ENGINE)
        # The copy's row and the triggers, which are not explained, and a few of its batches.
        left = iter([False] * 4)
        copies.feed(versions=[candidate.pk], stopped=lambda: next(left, True))

    def write() -> None:
        # As workers write a batch, and as the shop removes one.
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE {embedding} SET embedded_at = now() WHERE version_id = %s AND image_id BETWEEN %s AND %s",
                [candidate.pk, photo.pk, photo.pk + 63],
            )
            cursor.execute(
                f"DELETE FROM {embedding} WHERE version_id = %s AND image_id = %s", [candidate.pk, photo.pk + 64]
            )
            transaction.set_rollback(True)

    def note(count: int) -> None:
        # Past Django, so that it does not count: what a backfill leaves when the engine is away for an hour.
        with connection.cursor() as cursor:
            cursor.cursor.execute(
                f"INSERT INTO {change} (version_id, embedding_id) SELECT version_id, id FROM {embedding} "
                "WHERE version_id = %s ORDER BY id LIMIT %s",
                [candidate.pk, count],
            )

    def behind() -> None:
        note(300_000)
        copies.is_due()
        states.trouble()
        states.search_states([active.pk, candidate.pk])

    def catch_up() -> None:
        row = copies.wanted_copy(candidate.pk)
        left = iter([False] * 4)
        feeder = copies._Feeder(copies.get_engine(), row, "", lambda _progress: None, lambda: next(left, True))
        feeder._catch_up()

    def caught_up() -> None:
        # What has been told of is gone, and VACUUM has not come by.
        with connection.cursor() as cursor:
            cursor.cursor.execute(f"DELETE FROM {change}")
        copies.is_due()
        copies.is_due()

    def end() -> None:
        choose("pgvector")
        copies.feed()

    return {
        "engine, filling a copy, 4 batches": begin,
        "engine, 64 embeddings written, one removed": write,
        "engine, tick and states, much to be told": behind,
        "engine, catching up, 4 batches": catch_up,
        "engine, two ticks after that": caught_up,
        "engine, back to pgvector": end,
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
