"""What a merchandiser decides holds in every search."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Product
from shop_similarity.models import MerchandisingRule
from shop_similarity.search import Filters, SearchOptions, paths, search_by_vector, similar_products, similar_to_several
from tests.shop_similarity.factories import (
    make_category,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.shop_similarity.shops import PATHS, direction, make_shop, mixed, names


@pytest.fixture(autouse=True)
def _by_similarity_alone(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DIVERSITY": 0.0, "CATEGORY_BOOST": 0.0}
    paths.forget_paths()


@pytest.fixture
def shop() -> dict[str, Product]:
    return make_shop({name: {"x": cosine} for name, cosine in zip("abcdef", (1, 0.9, 0.8, 0.7, 0.6, 0.5), strict=True)})


def _pin(target: Product, position: int | None = None, **values) -> MerchandisingRule:
    return MerchandisingRule.objects.create(kind="pin", target_product_id=target.pk, position=position, **values)


def _hide(**values) -> MerchandisingRule:
    return MerchandisingRule.objects.create(kind="hide", **values)


def _boost(boost: float, **values) -> MerchandisingRule:
    return MerchandisingRule.objects.create(kind="boost", boost=boost, **values)


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_pinned_hidden_and_boosted(settings, shop, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path]}
    assert names(similar_products(shop["a"])) == ["b", "c", "d", "e", "f"]
    _pin(shop["f"], 2, product_id=shop["a"].pk)
    _hide(target_product_id=shop["c"].pk)
    _boost(0.25, target_product_id=shop["e"].pk)
    found = similar_products(shop["a"])
    assert names(found) == ["b", "f", "e", "d"]
    assert [product.pinned for product in found] == [False, True, False, False]
    # What is shown stays the cosine.
    assert [product.similarity for product in found] == pytest.approx([0.9, 0.5, 0.6, 0.7], abs=3e-3)
    without = similar_products(shop["a"], options=SearchOptions(rules=False))
    assert names(without) == ["b", "c", "d", "e", "f"]
    # The pin was for one product alone.
    assert "f" not in names(similar_products(shop["b"], 3))


@pytest.mark.django_db
def test_rules_hold_from_to_and_while_they_are_on(shop):
    now = timezone.now()
    day = timedelta(days=1)
    _hide(target_product_id=shop["b"].pk, starts_at=now + day)
    _hide(target_product_id=shop["c"].pk, ends_at=now - day)
    _hide(target_product_id=shop["d"].pk, is_on=False)
    rule = _hide(target_product_id=shop["e"].pk, starts_at=now - day, ends_at=now + day)
    assert names(similar_products(shop["a"])) == ["b", "c", "d", "f"]
    # update() and deletions are seen at once, for nothing is kept.
    MerchandisingRule.objects.filter(pk=rule.pk).update(is_on=False)
    assert "e" in names(similar_products(shop["a"]))


@pytest.mark.django_db
def test_pins_take_their_positions_or_the_first_free_one(shop):
    _pin(shop["f"])
    _pin(shop["e"], 1)
    _pin(shop["d"], 4)
    assert names(similar_products(shop["a"])) == ["e", "f", "b", "d", "c"]
    # Pages cut the same list.
    pages = [names(similar_products(shop["a"], options=SearchOptions(limit=2, offset=n))) for n in (0, 2, 4)]
    assert pages == [["e", "f"], ["b", "d"], ["c"]]


@pytest.mark.django_db
def test_pin_beyond_the_end_of_the_list_closes_it(shop):
    _pin(shop["b"], 50)
    assert names(similar_products(shop["a"])) == ["c", "d", "e", "f", "b"]


@pytest.mark.django_db
def test_what_is_said_about_the_product_comes_before_what_is_said_about_all(shop):
    _pin(shop["f"], 1, product_id=shop["a"].pk)
    _pin(shop["e"], 1)
    _pin(shop["d"], 1, category=str(shop["a"].category_id))
    assert names(similar_products(shop["a"]))[:3] == ["f", "d", "e"]
    assert names(similar_products(shop["b"]))[:2] == ["d", "e"]


@pytest.mark.django_db
def test_pinned_products_are_never_shown_where_they_may_not_be(shop):
    _pin(shop["f"], 1)
    _pin(shop["a"], 1)
    assert names(similar_products(shop["a"], 2)) == ["f", "b"]
    among = Product.objects.exclude(pk=shop["f"].pk)
    assert names(similar_products(shop["a"], 2, among=among)) == ["b", "c"]
    filtered = SearchOptions(limit=2, filters=Filters(categories=(make_category("Empty").pk,)))
    assert similar_products(shop["a"], options=filtered) == []
    assert names(search_by_vector(direction("x"), 2, exclude=[shop["f"].pk, shop["a"].pk])) == ["b", "c"]
    Product.objects.filter(pk=shop["f"].pk).update(is_published=False)
    assert names(similar_products(shop["a"], 2)) == ["b", "c"]
    Product.objects.filter(pk=shop["f"].pk).update(is_published=True)
    hiding = _hide(target_product_id=shop["f"].pk)
    assert names(similar_products(shop["a"], 2)) == ["b", "c"]
    hiding.delete()
    mugs = make_category("Mugs")
    Product.objects.filter(pk=shop["f"].pk).update(category=mugs)
    _hide(target_category=str(mugs.pk))
    assert names(similar_products(shop["a"], 2)) == ["b", "c"]


@pytest.mark.django_db
def test_pinned_product_without_an_embedding_is_shown_without_a_similarity(shop):
    bare = make_product("no photo")
    _pin(bare, 2)
    found = similar_products(shop["a"], 3)
    assert names(found) == ["b", "no photo", "c"]
    assert (found[1].similarity, found[1].similar_image_id, found[1].pinned) == (None, None, True)
    # A product that is not embedded itself has what is pinned, and nothing else.
    assert names(similar_products(make_product("new"), 3)) == ["no photo"]
    explained = similar_products(shop["a"], options=SearchOptions(limit=3, explain=True))
    assert [product.explanation for product in explained] == [None] * 3


@pytest.fixture
def categories(settings) -> dict[str, Product]:
    """Shirts near the query, many of them; mugs and lamps far away."""
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CANDIDATES": 20}
    kinds = {name: make_category(name) for name in ("Shirts", "Mugs", "Lamps")}
    made = [make_product("asked", kinds["Shirts"])]
    made += [make_product(f"shirt {n}", kinds["Shirts"]) for n in range(130)]
    made += [make_product(f"mug {n}", kinds["Mugs"]) for n in range(3)]
    made += [make_product(f"lamp {n}", kinds["Lamps"]) for n in range(3)]
    near = {"Shirts": 0.8, "Mugs": 0.5, "Lamps": 0.4}
    vectors = [
        direction("x") if p.name == "asked" else mixed({"x": near[p.category.name] - place * 1e-5}, p.name)
        for place, p in enumerate(made)
    ]
    store_vectors(make_version(), make_photos_without_files(made), np.stack(vectors).astype(np.float32))
    return {product.name: product for product in made}


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_boosted_category_is_lifted_from_beyond_the_first_candidates(settings, categories, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path]}
    asked = categories["asked"]
    mugs = str(categories["mug 0"].category_id)
    assert all(name.startswith("shirt") for name in names(similar_products(asked)))
    rule = _boost(0.5, target_category=mugs)
    found = names(similar_products(asked))
    assert set(found[:3]) == {"mug 0", "mug 1", "mug 2"}
    assert all(name.startswith("shirt") for name in found[3:])
    assert similar_products(asked)[0].similarity == pytest.approx(0.5, abs=5e-3)
    MerchandisingRule.objects.filter(pk=rule.pk).update(boost=-0.5, target_category=str(asked.category_id))
    # Demoted, the shirts come after all else that the candidates hold.
    _boost(0.01, target_category=mugs)
    assert set(names(similar_products(asked, 3))) == {"mug 0", "mug 1", "mug 2"}


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_boosted_product_and_pinned_category_come_from_anywhere(settings, categories, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path]}
    asked = categories["asked"]
    _boost(0.9, target_product_id=categories["lamp 2"].pk, product_id=asked.pk)
    MerchandisingRule.objects.create(
        kind="pin", target_category=str(categories["mug 0"].category_id), position=2, category=str(asked.category_id)
    )
    found = similar_products(asked, 4)
    nearest_mug = max((n for n in categories if n.startswith("mug")), key=lambda n: -categories[n].pk)
    assert names(found)[:2] == ["lamp 2", nearest_mug]
    assert [product.pinned for product in found] == [False, True, False, False]


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_hidden_category_makes_room_for_others(settings, categories, path):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path]}
    asked = categories["asked"]
    _hide(target_category=str(asked.category_id), product_id=asked.pk)
    assert {name[:3] for name in names(similar_products(asked, 6))} == {"mug", "lam"}


@pytest.mark.django_db
def test_rules_about_what_is_no_more_do_nothing(settings, shop):
    _hide(target_category="no number")
    _boost(0.5, target_category="987654321")
    _pin(Product(pk=987654321), 1)
    MerchandisingRule.objects.create(kind="boost", target_product_id=shop["f"].pk)
    assert names(similar_products(shop["a"])) == ["b", "c", "d", "e", "f"]
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": None}
    assert names(similar_products(shop["a"])) == ["b", "c", "d", "e", "f"]


@pytest.mark.django_db
def test_searches_by_vector_and_by_several_obey_too(shop):
    _pin(shop["f"], 1)
    _pin(shop["e"], 1, product_id=shop["a"].pk)
    _hide(target_product_id=shop["c"].pk)
    found = search_by_vector(direction("x"), 3)
    assert names(found) == ["f", "a", "b"]
    assert [product.pinned for product in found] == [True, False, False]
    # Rules of any of the products count for all of them.
    assert names(similar_to_several([shop["a"], shop["b"]], 3)) == ["e", "f", "d"]


@pytest.mark.django_db
def test_number_of_queries_does_not_grow_with_rules(shop):
    counts = []
    similar_products(shop["a"])
    for _ in range(3):
        with CaptureQueriesContext(connection) as queries:
            similar_products(shop["a"])
        counts.append(len(queries))
        for n in range(8):
            _pin(make_product(f"pinned {len(counts)} {n}"), n + 1)
            _boost(0.1, target_product_id=shop["d"].pk, product_id=shop["a"].pk)
            _hide(target_category=str(10_000 + n))
    # Where there are pins, one query asks which of them may be shown; where categories are hidden, one what lies below.
    assert counts[0] + 2 == counts[1] == counts[2]


def _many(count: int, **values) -> None:
    """Rules of an editor with a script."""
    MerchandisingRule.objects.bulk_create(
        [MerchandisingRule(target_product_id=10**6 + number, **values) for number in range(count)]
    )


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["hide", "boost"])
@pytest.mark.parametrize("path", PATHS)
def test_hidden_products_stay_hidden_however_many_rules_there_are(settings, shop, path, kind):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **PATHS[path]}
    _many(600, kind=kind, boost=0.1 if kind == "boost" else None)
    _hide(target_product_id=shop["b"].pk)
    _hide(target_product_id=shop["c"].pk, product_id=shop["a"].pk)
    _hide(target_category=str(shop["d"].category_id))
    others = make_category("Others")
    Product.objects.filter(pk__in=[shop[name].pk for name in "ef"]).update(category=others)
    # A pin of what is hidden shows nothing either.
    _pin(shop["b"], 1)
    with CaptureQueriesContext(connection) as queries:
        assert names(similar_products(shop["a"])) == ["e", "f"]
    asked = [query for query in queries if query["sql"].startswith('SELECT "shop_similarity_merchandisingrule"')]
    assert len(asked) <= 4


@pytest.mark.django_db
def test_of_too_many_rules_the_most_specific_ones_count(shop):
    _many(600, kind="boost", boost=0.1)
    pin = _pin(shop["f"], 1, product_id=shop["a"].pk)
    MerchandisingRule.objects.filter(pk=pin.pk).update(updated_at=timezone.now() - timedelta(days=30))
    assert names(similar_products(shop["a"]))[0] == "f"
