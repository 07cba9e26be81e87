"""The feed: all products in pages by their keys, by what has changed, as the widget shows them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Product, ProductPhoto
from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.embedding.writing import keep
from shop_similarity.engine_errors import EngineDown
from shop_similarity.management.commands import similarity_feed
from shop_similarity.models import Embedding, MerchandisingRule, ModelVersion
from shop_similarity.search import SearchOptions, similar_products
from shop_similarity.storefront import feed
from shop_similarity.storefront.feed import FeedOptions, feed_keys, feed_lines
from tests.shop_similarity.factories import (
    make_category,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.support.plans import scans
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def products():
    made = [make_product(f"Lamp {n}", make_category("Lamps" if n % 2 else "Mugs"), stock=n % 3) for n in range(9)]
    version = make_version(activated_at=LONG_AGO)
    store_vectors(version, make_photos_without_files(made), random_vectors(9, clusters=1))
    Embedding.objects.update(embedded_at=LONG_AGO)
    return made


def written(*arguments: str) -> str:
    output = io.StringIO()
    call_command("similarity_feed", *arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


def lines(*arguments: str) -> list[dict]:
    return [json.loads(line) for line in written(*arguments).splitlines()]


def test_every_product_with_what_the_widget_shows(products, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": "stock"}
    MerchandisingRule.objects.create(kind="pin", product_id=products[0].pk, target_product_id=products[8].pk)
    MerchandisingRule.objects.create(kind="hide", target_product_id=products[4].pk)
    Product.objects.filter(pk=products[7].pk).update(is_published=False)
    told = lines("--limit", "3")
    assert [line["product"] for line in told] == [str(product.pk) for product in products if product != products[7]]
    for line in told:
        product = next(each for each in products if str(each.pk) == line["product"])
        shown = similar_products(product, options=SearchOptions(limit=3))
        assert [each["id"] for each in line["similar"]] == [str(each.pk) for each in shown]
        assert not {str(products[n].pk) for n in (0, 3, 4, 6, 7)} & {each["id"] for each in line["similar"]}
    assert told[0]["similar"][0]["pinned"] is True


def test_pages_and_going_on(products):
    assert lines("--products", "4") + lines("--after", str(products[3].pk)) == lines()
    options, version = FeedOptions(SearchOptions()), ModelVersion.objects.active()
    keys, after = [], None
    while page := feed_keys(options, version, after, 2):
        keys, after = keys + page, page[-1]
    assert keys == [product.pk for product in products]


def with_photos():
    """The shop's PRODUCTS: a product for each of its photos."""
    return Product.objects.filter(photos__isnull=False)


def test_a_product_that_the_shop_names_several_times_is_told_once(products, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "PRODUCTS": f"{__name__}.with_photos"}
    for _ in range(2):
        make_photos_without_files(products[2:4])
    assert [line["product"] for line in lines()] == [str(product.pk) for product in products]
    assert feed_keys(FeedOptions(SearchOptions()), ModelVersion.objects.active(), None, 4) == [
        product.pk for product in products[:4]
    ]


def test_csv_has_the_same(products):
    rows = list(csv.DictReader(io.StringIO(written("--format", "csv", "--limit", "2"))))
    assert [(row["product"], row["similar"]) for row in rows] == [
        (line["product"], each["id"]) for line in lines("--limit", "2") for each in line["similar"]
    ]
    lonely = make_product("Lonely")
    assert written("--format", "csv", "--after", str(products[8].pk)) == f"{lonely.pk},,,,\n"


def test_details_have_whole_addresses(products):
    with pytest.raises(CommandError, match="--base-url"):
        written("--details")
    first = lines("--details", "--base-url", "https://shop.example", "--limit", "1")[0]["similar"][0]
    other = Product.objects.get(pk=first["id"])
    assert first["name"] == other.name
    assert first["url"] == f"https://shop.example{other.get_absolute_url()}"


def test_a_name_is_no_formula_of_a_spreadsheet(products):
    Product.objects.filter(pk__in=[product.pk for product in products]).update(name="=HYPERLINK(A1)")
    arguments = ("--details", "--base-url", "https://shop.example", "--limit", "1")
    rows = list(csv.DictReader(io.StringIO(written("--format", "csv", *arguments))))
    assert {row["name"] for row in rows} == {"'=HYPERLINK(A1)"}
    assert {line["similar"][0]["name"] for line in lines(*arguments)} == {"=HYPERLINK(A1)"}


def test_what_a_sign_says_was_written_is_in_the_file(products, tmp_path, monkeypatch):
    monkeypatch.setattr(similarity_feed, "_SECONDS_BETWEEN_SIGNS", 0)
    file, signs = tmp_path / "feed.jsonl", []

    class Signs(io.StringIO):
        def write(self, text: str) -> int:
            if "--after" in text:
                signs.append(text)
                last = file.read_text(encoding="utf-8").splitlines()[-1:]
                # A process that is killed now leaves that much behind.
                assert last and f"--after {json.loads(last[0])['product']} " in text
            return super().write(text)

    call_command("similarity_feed", "--output", str(file), stderr=Signs())
    assert len(signs) >= len(products)


@pytest.mark.parametrize("fault", [EngineDown("It is down."), OperationalError("The server went away.")], ids=str)
def test_a_run_that_breaks_off_says_from_where_to_go_on(products, monkeypatch, fault):
    whole, made = feed._similar, []

    def similar(product, *rest):
        if len(made) == 3:
            raise fault
        made.append(product.pk)
        return whole(product, *rest)

    monkeypatch.setattr(feed, "_similar", similar)
    with pytest.raises(CommandError, match=f"{fault} Go on with --after {products[2].pk}"):
        written()


def test_a_file_that_can_not_be_written_is_said(products, tmp_path):
    with pytest.raises(CommandError, match="No such file or directory"):
        written("--output", str(tmp_path / "none" / "feed.jsonl"))


def test_to_a_file_and_on_at_its_end(products, tmp_path):
    file = tmp_path / "feed.csv"
    written("--format", "csv", "--output", str(file), "--products", "3")
    written("--format", "csv", "--output", str(file), "--after", str(products[2].pk))
    assert file.read_text(encoding="utf-8") == written("--format", "csv")


class TestSince:
    SINCE = "2026-01-01T00:00:00Z"

    def told(self, since: str = SINCE) -> list[str]:
        return [line["product"] for line in lines("--since", since)]

    @pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
    def test_where_the_shop_keeps_its_own_time(self, products, settings, zone):
        settings.TIME_ZONE, settings.USE_TZ = zone, False
        connection.ensure_timezone()
        try:
            now = datetime.now(UTC)
            Embedding.objects.filter(product_id=products[3].pk).update(embedded_at=timezone.now())
            Embedding.objects.filter(product_id=products[4].pk).update(embedded_at=timezone.now() - timedelta(hours=2))
            assert self.told(f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}") == [str(products[3].pk)]
            user = User.objects.create_superuser("mailer")
            client = Client()
            client.force_login(user)
            since = f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
            answer = client.get("/api/similarity/v1/feed/", {"since": since})
            told = b"".join(answer.streaming_content).decode().splitlines()
            assert [json.loads(line)["product"] for line in told] == [str(products[3].pk)]
        finally:
            settings.USE_TZ = True
            connection.ensure_timezone()

    def test_product_that_got_the_photo_of_another(self, products):
        """Its file is what it was, so that no network looks at it."""
        version, photo = ModelVersion.objects.active(), ProductPhoto.objects.get(product=products[2])
        photo.product = products[5]
        photo.save()
        (claim,) = outbox.claim(version.pk, 5, "me")
        row = ImageRow(photo.pk, products[5].pk, photo.file.name)
        assert keep(version.pk, claim, row, Embedding.objects.get(image_id=photo.pk).file_mark)
        assert self.told() == [str(products[5].pk)]
        # One whose file has another time only is what it was.
        Embedding.objects.update(embedded_at=LONG_AGO)
        photo.save()
        (claim,) = outbox.claim(version.pk, 5, "me")
        assert keep(version.pk, claim, row, "other:mark")
        assert self.told() == []

    def test_nothing_has_changed(self, products):
        assert self.told() == []

    def test_photos(self, products):
        keys = [products[5].pk, products[2].pk]
        Embedding.objects.filter(product_id__in=keys).update(embedded_at=timezone.now())
        assert self.told() == [str(key) for key in sorted(keys)]
        assert self.told("2999-01-01T00:00:00Z") == []

    @pytest.mark.parametrize(("minutes", "is_told"), [(4, True), (31, True), (60, False)])
    def test_what_was_committed_after_long_waiting_is_not_lost(self, products, minutes, is_told):
        began = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(minutes=minutes)
        Embedding.objects.filter(product_id=products[0].pk).update(embedded_at=began)
        assert self.told() == [str(products[0].pk)] * is_told

    def test_rules_that_changed_began_or_ended(self, products, settings):
        now, rules = timezone.now(), MerchandisingRule.objects
        rules.create(kind="hide", product_id=products[6].pk, target_product_id=products[1].pk)
        began = rules.create(
            kind="hide", product_id=products[4].pk, target_product_id=products[1].pk, starts_at=now - timedelta(hours=1)
        )
        coming = rules.create(
            kind="hide", product_id=products[3].pk, target_product_id=products[1].pk, starts_at=now + timedelta(hours=1)
        )
        rules.filter(pk__in=[began.pk, coming.pk]).update(updated_at=LONG_AGO)
        assert self.told() == [str(products[4].pk), str(products[6].pk)]
        rules.create(kind="hide", category=str(products[1].category_id), target_product_id=products[0].pk)
        assert self.told() == [str(products[n].pk) for n in (1, 3, 4, 5, 6, 7)]
        rules.create(kind="hide", target_product_id=products[0].pk)
        assert len(self.told()) == 9

    def test_another_version(self, products):
        ModelVersion.objects.update(activated_at=timezone.now())
        assert len(self.told()) == 9


def test_what_is_sold_out_and_can_be_had_instead(products, settings):
    assert lines("--alternatives") == []
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": "stock"}
    told = lines("--alternatives")
    assert [line["product"] for line in told] == [str(products[n].pk) for n in (0, 3, 6)]
    assert all(len(line["similar"]) == 6 for line in told)


def test_statements_do_not_grow_with_the_catalogue(products):
    options, version = FeedOptions(SearchOptions(limit=3)), ModelVersion.objects.active()
    list(feed_lines(options, version, [products[0].pk]))
    with CaptureQueriesContext(connection) as one:
        list(feed_lines(options, version, [products[0].pk]))
    with CaptureQueriesContext(connection) as three:
        list(feed_lines(options, version, [product.pk for product in products[:3]]))
    assert len(one) <= 5
    # The rules and the search of each.
    assert len(three) - len(one) == 2 * 2
    assert not any("DECLARE" in query["sql"] for query in three.captured_queries)


class TestPlans:
    """What a page of keys reads, among many products."""

    MANY, SIZE = 3_000, 20

    @pytest.fixture
    def many(self, vacuumed, monkeypatch) -> ModelVersion:
        monkeypatch.setattr(feed, "_LOOKED_THROUGH", 1)
        version = make_version(activated_at=LONG_AGO)
        category = make_category()
        rows = [
            Product(name=f"Lamp {n}", slug=f"lamp-{n}", sku=f"L{n}", category=category, is_published=True)
            for n in range(self.MANY)
        ]
        photos = make_photos_without_files(Product.objects.bulk_create(rows))
        with connection.cursor() as cursor:
            cursor.execute(
                f"""INSERT INTO {Embedding._meta.db_table} (version_id, product_id, image_id, file_name, file_mark,
                    content_sha256, vector, code, embedded_at)
                SELECT %s, p.product_id, p.id, p.file, '1:1', md5(p.id::text), v.vector,
                    binary_quantize(v.vector)::bit(4096), %s
                FROM {type(photos[0])._meta.db_table} p CROSS JOIN (
                    SELECT array_agg(n)::halfvec(4096) AS vector FROM generate_series(1, 4096) n
                ) v""",
                [version.pk, LONG_AGO],
            )
        self.change([photo.pk for photo in photos[5 :: self.MANY // 5]])
        return version

    def change(self, photos: list[int]) -> None:
        Embedding.objects.filter(image_id__in=photos).update(embedded_at=timezone.now())
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")

    @pytest.mark.parametrize("since", [None, datetime(2026, 1, 1, tzinfo=UTC)], ids=["all", "changed"])
    def test_a_page_of_keys_reads_itself_alone(self, many, since):
        middle = Product.objects.order_by("pk")[self.MANY // 2].pk
        with scans() as found:
            keys = feed_keys(FeedOptions(SearchOptions(), since), many, middle, self.SIZE)
        assert len(keys) == (self.SIZE if since is None else 2)
        assert max(scan.rows for scan in found) <= 2 * self.SIZE, found

    def test_a_page_of_what_is_sold_out_reads_nothing_that_lies_before_it(self, many, settings):
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IN_STOCK": "stock"}
        Product.objects.update(stock=1)
        keys = list(Product.objects.order_by("pk").values_list("pk", flat=True))
        Product.objects.filter(pk__in=keys[::2]).update(stock=0)
        with connection.cursor() as cursor:
            # In a larger catalogue Postgres joins by the order of keys.
            cursor.execute("SET LOCAL enable_hashjoin = off")
            cursor.execute("SET LOCAL enable_nestloop = off")
            cursor.execute("ANALYZE")
        options = FeedOptions(SearchOptions(), alternatives=True)
        after = keys[-4 * self.SIZE]
        with scans() as found:
            assert feed_keys(options, many, after, self.SIZE) == [key for key in keys[::2] if key > after][: self.SIZE]
        assert max(scan.rows for scan in found) <= 4 * self.SIZE, found

    def test_new_products_at_the_end_are_found_without_reading_those_before_them(self, many):
        new = Product.objects.order_by("-pk")[: self.MANY // 5]
        photos = list(Embedding.objects.filter(product_id__in=[product.pk for product in new]))
        self.change([photo.image_id for photo in photos])
        options = FeedOptions(SearchOptions(), datetime(2026, 1, 1, tzinfo=UTC))
        after = min(product.pk for product in new) - self.MANY // 2
        with connection.cursor() as cursor:
            # In a larger catalogue a sort of all that has changed costs more than the way through the order seems to.
            cursor.execute("SET LOCAL enable_sort = off")
        with scans() as found:
            keys = feed_keys(options, many, after, self.SIZE)
        # Two that are spread over the catalogue stand before the new ones.
        assert keys[2:] == sorted(product.pk for product in new)[: self.SIZE - 2]
        assert max(scan.rows for scan in found) <= self.MANY // 5 + self.SIZE, found
        with scans() as found:
            assert feed_keys(options, many, keys[-1], self.SIZE)[0] == keys[-1] + 1
        assert max(scan.rows for scan in found) <= 2 * self.SIZE, found


def test_no_model_says_what_to_do(db):
    with pytest.raises(CommandError, match="calibrate_mildnet"):
        written()
