"""Run by test_odd_shop.py: prices, categories and groups that lie behind several paths, callables and trees."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from shop_similarity.catalogue.categories import category_choices
from shop_similarity.catalogue.category_tree import category_tree, closeness, split_trail
from shop_similarity.catalogue.field_paths import setting_value
from shop_similarity.checks import check_database, check_settings
from shop_similarity.models import Embedding, MerchandisingRule, OutboxEntry
from shop_similarity.search import Filters, SearchOptions, similar_products
from shop_similarity.search.rules import relevant_rules
from shop_similarity.training.triplets.product_groups import group_names
from tests.odd_shop.models import Group, Item, StockRecord
from tests.odd_shop.shop import embed_all, make_item, make_node, make_version

pytestmark = pytest.mark.django_db


def _configure(settings, **values) -> None:
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **values}


@pytest.fixture
def version():
    return make_version()


@pytest.fixture
def items() -> dict[str, Item]:
    """Alone for 10, a parent whose children cost 20 and 30, one at a price of nothing known, a dear one for 200."""
    made = {name: make_item(name) for name in ("alone", "parent", "unpriced", "dear")}
    for number, price in enumerate((20, 30)):
        child = made[f"child {number}"] = make_item(f"child {number}", parent=made["parent"])
        StockRecord.objects.create(item=child, price=price, num_in_stock=number)
    StockRecord.objects.create(item=made["alone"], price=10, num_in_stock=3)
    StockRecord.objects.create(item=made["dear"], price=200, num_in_stock=0)
    StockRecord.objects.create(item=made["unpriced"], price=None)
    return made


def _priced(low, high) -> set[str]:
    found = list(Filters(price_min=low, price_max=high).apply(Item.objects.all()))
    assert len(found) == len(set(found))
    return {item.pk for item in found}


@pytest.mark.parametrize(
    "price", [("stockrecords__price", "children__stockrecords__price"), "tests.odd_shop.values.any_price"]
)
def test_a_parent_is_found_by_the_prices_of_its_children(settings, items, price):
    _configure(settings, PRICE="stockrecords__price")
    assert _priced(0, 100) == {"alone", "child 0", "child 1"}
    _configure(settings, PRICE=list(price) if isinstance(price, tuple) else price)
    assert check_settings() == []
    assert setting_value("price").many
    assert _priced(0, 100) == {"alone", "parent", "child 0", "child 1"}
    assert _priced(25, 35) == {"parent", "child 1"}
    # One and the same price has to lie within both bounds.
    assert _priced(21, 29) == set()
    assert _priced(0, 1000) == set(items) - {"unpriced"}


@pytest.mark.parametrize("name", ["lowest_price", "mean_price"])
def test_a_callable_may_aggregate(settings, items, name):
    StockRecord.objects.create(item=items["alone"], price=14)
    _configure(settings, PRICE=f"tests.odd_shop.values.{name}")
    expected = {"lowest_price": Decimal(10), "mean_price": Decimal(12)}[name]
    assert _priced(expected, expected) == {"alone"}
    price = setting_value("price")
    assert dict(price.annotate(Item.objects.all()).values_list("pk", price.alias))["alone"] == expected
    assert list(price.values(Item.objects.filter(pk="alone"))) == [expected]
    ordered = price.annotate(Item.objects.filter(pk__in=["alone", "dear"])).order_by(f"-{price.alias}")
    assert [item.pk for item in ordered] == ["dear", "alone"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"PRICE": ()}, "at least one"),
        ({"PRICE": ("stockrecords__price", 3)}, "Write texts"),
        ({"PRICE": ("stockrecords__price", "cost")}, "no field 'cost'"),
        ({"PRICE": ("stockrecords__price", "title")}, "values of different kinds"),
        ({"CATEGORY": ("nodes", "group")}, "values of different kinds"),
        ({"PRICE": "tests.odd_shop.values.missing"}, "can't be imported"),
        ({"PRICE": "tests.odd_shop.shop.random_vectors"}, "random_vectors"),
        ({"IN_STOCK": "tests.odd_shop.values.a_text"}, "returned str, no expression"),
        ({"VARIANT_GROUP": "tests.odd_shop.values.nowhere"}, "expression can't be used"),
        ({"COLOUR": "colour"}, "no field 'colour'"),
    ],
)
def test_what_is_no_value_is_refused_with_a_sentence(settings, values, sentence):
    _configure(settings, **values)
    (found,) = check_settings()
    assert sentence in f"{found.msg} {found.hint}"
    assert next(iter(values)) in found.msg


def test_products_without_a_value_are_counted_by_the_check(settings, items):
    _configure(settings, PRICE="stockrecords__price", CATEGORY=None)
    (found,) = check_database(databases=["default"])
    assert found.id == "shop_similarity.W005"
    assert "'stockrecords__price', has no value for 2 of 6 visible products" in found.msg
    assert "'children__stockrecords__price'" in found.hint
    _configure(settings, PRICE=("stockrecords__price", "children__stockrecords__price"))
    (found,) = check_database(databases=["default"])
    assert "has no value for 1 of 6" in found.msg
    StockRecord.objects.filter(price=None).update(price=1)
    with CaptureQueriesContext(connection) as captured:
        assert check_database(databases=["default"]) == []
    assert any("LIMIT 10000" in query["sql"] for query in captured.captured_queries)


@pytest.fixture
def tree() -> dict[str, object]:
    return {path: make_node(path) for path in ("0001", "00010001", "000100010001", "00010002", "0002", "00020001")}


@pytest.fixture
def sorted_items(version, tree):
    """Items by the node they lie in, the last one by that of its parent."""
    made = {}
    for path, node in tree.items():
        item = made[path] = make_item(path)
        item.nodes.add(node)
    made["child"] = make_item("child", parent=made["00010001"])
    return made


def _in(*paths, tree) -> set[str]:
    return {item.pk for item in Filters(categories=[tree[path].pk for path in paths]).apply(Item.objects.all())}


def test_a_node_of_a_materialized_tree_counts_with_those_above_it(sorted_items, tree):
    assert _in("0001", tree=tree) == {"0001", "00010001", "000100010001", "00010002", "child"}
    assert _in("00010001", tree=tree) == {"00010001", "000100010001", "child"}
    assert _in("00010002", "0002", tree=tree) == {"00010002", "0002", "00020001"}
    shown = category_choices(with_hidden=False, most=100, separator=" > ")
    assert (str(tree["000100010001"].pk), "0001 > 00010001 > 000100010001") in shown
    assert len(shown) == 6


def test_rules_of_a_node_concern_what_lies_below_it(version, sorted_items, tree):
    embed_all(version, list(sorted_items.values()))
    above, beside = (
        MerchandisingRule.objects.create(kind="hide", category=str(tree[path].pk), target_category=str(tree["0002"].pk))
        for path in ("0001", "00010002")
    )
    assert (
        set(relevant_rules([sorted_items["000100010001"]])) == set(relevant_rules([sorted_items["child"]])) == {above}
    )
    assert set(relevant_rules([sorted_items["00010002"]])) == {above, beside}
    found = similar_products(sorted_items["000100010001"], 10)
    assert {item.pk for item in found} == {"0001", "00010001", "00010002", "child"}
    MerchandisingRule.objects.all().delete()
    MerchandisingRule.objects.create(kind="pin", target_category=str(tree["0002"].pk), position=1)
    (first, *_rest) = similar_products(sorted_items["child"], 10)
    assert first.pk in ("0002", "00020001")
    assert first.pinned


def test_the_same_node_weighs_more_than_one_nearby_and_that_more_than_one_far_away(settings, version, tree):
    _configure(settings, CATEGORY_BOOST=0.2, DIVERSITY=0, DUPLICATE_SIMILARITY=2)
    places = {"asked": "000100010001", "far": "0002", "nearby": "00010002", "the same": "000100010001"}
    made = {}
    for name, path in places.items():
        made[name] = make_item(name)
        made[name].nodes.add(tree[path])
    same = np.zeros((4, 4096), np.float32)
    same[:, 0] = 1
    # Those behind are a little more similar.
    for number in range(1, 4):
        same[number, number], same[number, 0] = 1, 2 - number * 0.02
    embed_all(version, list(made.values()), same / np.linalg.norm(same, axis=1, keepdims=True))
    assert [item.pk for item in similar_products(made["asked"])] == ["the same", "nearby", "far"]
    _configure(settings, CATEGORY_BOOST=0.0, DIVERSITY=0, DUPLICATE_SIMILARITY=2)
    assert [item.pk for item in similar_products(made["asked"])] == ["far", "nearby", "the same"]


def test_a_tree_of_foreign_keys_ends_in_a_circle_too(settings, version):
    top, middle, low = (Group.objects.create(name=name) for name in ("top", "middle", "low"))
    for below, above in ((middle, top), (low, middle)):
        below.parent = above
        below.save()
    for group in (top, middle, low):
        make_item(group.name, group=group)
    make_item("child", parent=Item.objects.get(pk="low"))
    for category in ("group", ("group", "parent__group"), "tests.odd_shop.values.group", "group__name"):
        _configure(settings, CATEGORY=category)
        assert check_settings() == []
        key = middle.name if category == "group__name" else middle.pk
        found = {item.pk for item in Filters(categories=[key]).apply(Item.objects.all())}
        assert found == {"middle", "low"} | ({"child"} if category not in ("group", "group__name") else set())
        value, inside = setting_value("category"), category_tree()
        trails = value.annotate(Item.objects.filter(pk="low")).values_list(inside.trail(value.expression), flat=True)
        named = [str(group.name if category == "group__name" else group.pk) for group in (top, middle, low)]
        assert split_trail(trails[0]) == tuple(named)
    Group.objects.filter(pk=top.pk).update(parent=low)
    _configure(settings, CATEGORY="group")
    assert {item.pk for item in Filters(categories=[low.pk]).apply(Item.objects.all())} == {"top", "middle", "low"}
    assert {key for key, _label in category_choices(with_hidden=True, most=9, separator="/")} == {
        str(group.pk) for group in (top, middle, low)
    }
    low_item = Item.objects.get(pk="low")
    embed_all(version, [low_item, *Item.objects.filter(pk__in=["top", "middle", "child"])])
    assert len(similar_products(low_item, options=SearchOptions(limit=3))) == 3


def test_a_callable_that_filters_categories_gives_rows_as_a_path_does(settings):
    make_item("one").nodes.add(make_node("0001"), make_node("00010002"))
    choices = []
    for category in ("nodes", "tests.odd_shop.values.shown_node"):
        _configure(settings, CATEGORY=category)
        assert setting_value("category").ends_at_key
        choices.append(category_choices(with_hidden=True, most=9, separator=" / "))
    assert [label for _key, label in choices[0]] == ["0001", "0001 / 00010002"]
    assert choices[0] == choices[1]


def test_closeness_of_categories():
    first, second = ("a", "b", "c"), ("a", "b")
    assert closeness([first], [first]) == 1
    assert closeness([first], [second]) == pytest.approx(4 / 5)
    assert closeness([first], [("a", "x", "y"), ("z",)]) == pytest.approx(2 / 6)
    assert closeness([("a",)], [("b",)]) == closeness([], [first]) == 0


def test_training_reads_the_same_values(settings, items):
    _configure(settings, VARIANT_GROUP="parent")
    assert group_names() == {"child 0": "parent", "child 1": "parent"}
    _configure(settings, VARIANT_GROUP=("parent", "parent__parent"))
    assert group_names() == {"child 0": "parent", "child 1": "parent"}


def test_columns_of_keys_whose_type_has_a_modifier_pass_the_checks(monkeypatch, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": None, "PRICE": None}
    assert check_settings() == []
    assert check_database(databases=["default"]) == []
    fields = [model._meta.get_field(name) for model in (Embedding, OutboxEntry) for name in ("product_id", "image_id")]
    for field in fields:
        monkeypatch.setattr(field, "db_type", lambda connection: "numeric(20, 0)")
    assert {found.id for found in check_database(databases=["default"])} == {"shop_similarity.E012"}
    with connection.cursor() as cursor:
        for field in fields:
            table = field.model._meta.db_table
            cursor.execute(
                f"ALTER TABLE {table} ALTER COLUMN {field.column} TYPE numeric(20, 0) USING {field.column}::numeric"
            )
    assert check_database(databases=["default"]) == []
    for field in fields:
        monkeypatch.setattr(field, "db_type", lambda connection: "numeric(30, 0)")
    assert len(check_database(databases=["default"])) == 4


@pytest.mark.parametrize(
    "in_stock",
    [
        ("stockrecords__num_in_stock", "children__stockrecords__num_in_stock"),
        "tests.odd_shop.values.can_be_had",
        "tests.odd_shop.values.all_stock",
    ],
)
def test_stock_behind_several_paths_or_a_callable(settings, version, items, in_stock):
    embed_all(version, list(items.values()))
    _configure(settings, IN_STOCK=in_stock)
    assert check_settings() == []
    parent = {"parent"} if isinstance(in_stock, tuple) else set()
    found = similar_products(items["dear"], options=SearchOptions(collapse=False))
    assert {item.pk for item in found} == {"alone", "child 1"} | parent
