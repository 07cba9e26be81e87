"""Run by test_odd_shop.py: what is asked of a few products reads no whole table, however their values are described."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import QuerySet

from shop_similarity.catalogue.category_tree import category_tree
from shop_similarity.catalogue.field_paths import setting_value
from shop_similarity.catalogue.stock import in_stock
from shop_similarity.search import Filters
from tests.odd_shop.models import Group, Item, Node, StockRecord

pytestmark = pytest.mark.django_db

COUNT = 3_000
FEW = [f"item {number}" for number in range(0, 80, 10)]
MOST_ROWS = 500
"""Of all steps of a plan together; each product has a parent or two children, stock, a node and those above it."""


@pytest.fixture(scope="module", autouse=True)
def large_shop(django_db_setup, django_db_blocker) -> Iterator[None]:
    """Rows for all tests of this file, gone behind the last one."""
    with django_db_blocker.unblock(), transaction.atomic():
        _fill()
        yield
        transaction.set_rollback(True)


def _fill() -> None:
    paths = [f"{number // 50 + 1:04}{number % 50 + 1:04}" for number in range(COUNT)]
    nodes = [Node(name=path, path=path, depth=len(path) // 4) for path in (*sorted({p[:4] for p in paths}), *paths)]
    nodes = Node.objects.bulk_create(nodes)
    groups = Group.objects.bulk_create(
        Group(pk=number, name=f"group {number}", parent_id=number // 4 or None) for number in range(1, COUNT + 1)
    )
    items = Item.objects.bulk_create(
        Item(
            code=f"item {number}",
            title="Thing",
            parent_id=f"item {number - number % 3}" if number % 3 else None,
            group=groups[number],
        )
        for number in range(COUNT)
    )
    Item.nodes.through.objects.bulk_create(
        Item.nodes.through(item=item, node=node) for item, node in zip(items, nodes[-COUNT:], strict=True)
    )
    StockRecord.objects.bulk_create(StockRecord(item=item, price=5, num_in_stock=1) for item in items)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        # What a look-up costs, whoever's server this is.
        cursor.execute("SET LOCAL random_page_cost = 1.1")


def rows_read(products: QuerySet) -> int:
    """Rows that the steps of the plan pass on or throw away, all together."""
    (found,) = json.loads(products.explain(format="json", analyze=True, timing=False))
    return sum(_rows_of_steps(found["Plan"]))


def _rows_of_steps(step: dict[str, Any]) -> Iterator[int]:
    rows = step["Actual Rows"] + step.get("Rows Removed by Filter", 0) + step.get("Rows Removed by Join Filter", 0)
    yield int(rows * step["Actual Loops"])
    for below in step.get("Plans", ()):
        yield from _rows_of_steps(below)


def _configure(settings, **values) -> None:
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **values}


STOCK = ("stockrecords__num_in_stock", "children__stockrecords__num_in_stock")


@pytest.mark.parametrize(
    "stock", [STOCK[0], STOCK, "tests.odd_shop.values.can_be_had", "tests.odd_shop.values.all_stock"]
)
def test_the_stock_of_few_products(settings, stock):
    _configure(settings, IN_STOCK=stock)
    few = in_stock(Item.objects.filter(pk__in=FEW))
    assert few.count() == len(FEW)
    assert rows_read(few) < MOST_ROWS


@pytest.mark.parametrize(
    "price", ["stockrecords__price", ("stockrecords__price", "children__stockrecords__price"), "lowest_price"]
)
def test_the_price_of_few_products(settings, price):
    _configure(settings, PRICE=f"tests.odd_shop.values.{price}" if price == "lowest_price" else price)
    few = Filters(price_min=4, price_max=6).apply(Item.objects.filter(pk__in=FEW))
    assert few.count() == len(FEW)
    assert rows_read(few) < MOST_ROWS


@pytest.mark.parametrize(
    "category",
    ["nodes", ("nodes", "parent__nodes"), "group", ("group", "parent__group"), "tests.odd_shop.values.group"],
)
def test_the_categories_above_those_of_few_products(settings, category):
    _configure(settings, CATEGORY=category)
    value, tree = setting_value("category"), category_tree()
    few = value.annotate(Item.objects.filter(pk__in=FEW)).values_list("pk", tree.trail(value.expression))
    assert len(few) == len(FEW)
    assert all(trail for _key, trail in few)
    assert rows_read(few) < MOST_ROWS


@pytest.mark.parametrize("category", ["nodes", ("nodes", "parent__nodes"), "group"])
def test_how_many_products_lie_below_a_category_is_known_to_the_planner(settings, category):
    _configure(settings, CATEGORY=category)
    top = [1, 2, 3] if category == "group" else list(Node.objects.filter(depth=1).values_list("pk", flat=True))
    products = Filters(categories=top).apply(Item.objects.order_by())
    assert products.count() == COUNT
    (found,) = json.loads(products.explain(format="json"))
    assert found["Plan"]["Plan Rows"] > COUNT / 10
