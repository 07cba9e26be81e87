"""The page above a product as its category, in a tree like Wagtail's in which products themselves are rows."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from shop_similarity.catalogue import setting_value
from shop_similarity.catalogue.categories import category_choices
from shop_similarity.catalogue.category_tree import CategoryTree, category_tree
from shop_similarity.models import MerchandisingRule
from shop_similarity.search.options import Filters
from shop_similarity.search.rules import relevant_rules
from tests.relation_shops.models import Leaf, Node
from tests.relation_shops.shops import the_shop

pytestmark = pytest.mark.django_db


@pytest.fixture
def leaves():
    """Two shirts, one dress in a category below clothes, and a gift beside the categories."""
    names = {"0001": "Root", "00010001": "Start", "000100010001": "Clothes", "0001000100010001": "Shirts"}
    for path, title in (names | {"0001000100010002": "Dresses"}).items():
        Node.objects.create(title=title, path=path, numchild=2)
    places = {
        "a": "00010001000100010001",
        "b": "00010001000100010002",
        "c": "00010001000100020001",
        "gift": "000100010002",
    }
    with the_shop("Leaf", "photo", CATEGORY="shop_similarity.contrib.wagtail.categories.parent_page"):
        yield {title: Leaf.objects.create(title=title, path=path) for title, path in places.items()}


def key_of(title: str) -> str:
    return str(Node.objects.get(title=title).pk)


def test_categories_are_the_pages_above_and_those_above_them_without_root_and_start(leaves):
    labels = {label for _key, label in category_choices(with_hidden=False, most=50, separator=" / ")}
    assert labels == {"Clothes", "Clothes / Shirts", "Clothes / Dresses"}
    tree = category_tree()
    assert isinstance(tree, CategoryTree) and tree.model is Node
    trails = Leaf.objects.annotate(trail=tree.trail(setting_value("category").expression))
    shirts = [key_of("Clothes"), key_of("Shirts")]
    assert dict(trails.values_list("title", "trail"))["a"].split("\x1f") == shirts
    assert dict(trails.values_list("title", "trail"))["gift"] is None


@pytest.mark.parametrize(("category", "found"), [("Shirts", {"a", "b"}), ("Clothes", {"a", "b", "c"})])
def test_a_filter_by_a_page_finds_what_lies_below_it(leaves, category, found):
    assert set(Filters([key_of(category)]).apply(Leaf.objects.all()).values_list("title", flat=True)) == found


def test_a_rule_for_a_page_holds_for_what_lies_below_it(leaves):
    rule = MerchandisingRule.objects.create(kind="hide", category=key_of("Clothes"), target_category=key_of("Dresses"))
    assert list(relevant_rules([leaves["a"]])) == [rule]
    assert list(relevant_rules([leaves["gift"]])) == []


def test_the_pages_above_are_looked_up_by_their_paths(leaves):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO relation_shops_node (title, path, numchild) "
            "SELECT 'x', '000100010003' || lpad(n::text, 4, '0'), 0 FROM generate_series(1, 3000) n"
        )
        cursor.execute("ANALYZE relation_shops_node")
        # The table is small, and would be read whole.
        cursor.execute("SET LOCAL enable_seqscan = off")
        above = category_tree().above([Node.objects.get(title="Shirts").pk])
        cursor.execute("EXPLAIN " + above.sql, above.params)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Seq Scan" not in plan and "_path_" in plan, plan
    with CaptureQueriesContext(connection) as queries:
        titles = set(Node.objects.filter(pk__in=above).values_list("title", flat=True))
    assert titles == {"Clothes", "Shirts"} and len(queries) == 1


def test_a_text_that_a_product_inherits_is_its_own(leaves, settings):
    settings.SHOP_SIMILARITY = settings.SHOP_SIMILARITY | {"CATEGORY": "title"}
    assert category_tree() is None
    assert {label for _key, label in category_choices(with_hidden=False, most=50, separator=" / ")} == set(leaves)
