"""What holds with every engine: pgvector, one of a dotted path, and a real Milvus (``long``)."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Product
from shop_similarity import rollout
from shop_similarity.embedding.engines import EngineDown, copies, get_engine
from shop_similarity.models import Embedding, MerchandisingRule, ModelVersion
from shop_similarity.search import Path, Query, find_matches, similar_products, similar_to_several
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

K = 10


def _recall(found: list, right: list) -> float:
    return len(set(found) & set(right)) / len(right)


def _keys(products: list[Product]) -> list:
    return [product.pk for product in products]


def test_interface(engine, shop):
    engine.bring_up(shop.version)
    asked, copy = get_engine(), engine.copy_of(shop.version)
    state = asked.state(copy)
    assert state.exists and state.photos == len(shop.products)
    asked.build(copy, 1)
    rows = (
        shop.vectors[:3].astype(np.float16) if asked.holds == "vectors" else np.packbits(shop.vectors[:3] > 0, axis=1)
    )
    named = asked.nearest(copy, rows, 40)
    keys = dict(Embedding.objects.values_list("product_id", "pk"))
    for place, ids in enumerate(named):
        assert len(ids) == len(set(ids)) == 40
        assert ids[0] == keys[shop.products[place].pk]
        near = [keys[key] for key in shop.nearest(shop.products[place])[:K]]
        assert _recall(ids, near) >= 0.9
    asked.drop(copy)
    assert not asked.state(copy).exists
    asked.drop(copy)


def test_same_results_within_recall(engine, shop):
    engine.bring_up(shop.version)
    wanted = Path.ENGINE if engine.is_beside else Path.INDEX
    recalls = []
    for product in shop.products[::12]:
        found = find_matches(
            shop.version,
            Query.of_product(shop.version, product),
            limit=K,
            among=None,
            exclude=[product.pk],
            path=wanted,
        )
        recalls.append(_recall([match.product_id for match in found], shop.nearest(product)[:K]))
        exact = similar_products(product, K)
        assert _recall(_keys(exact), shop.nearest(product)[:K]) >= 0.9
    assert np.mean(recalls) >= 0.98


def test_one_statement_and_one_array(engine, shop):
    engine.bring_up(shop.version)
    similar_products(shop.products[0], 3)
    with CaptureQueriesContext(connection) as queries:
        similar_products(shop.products[0], 3)
    (statement,) = [query["sql"] for query in queries if "compared AS" in query["sql"]]
    if engine.is_beside:
        assert statement.count("unnest((") == 1 and "<~>" not in statement
    else:
        assert "row_number() OVER () AS n" in statement and "ORDER BY e.code <~> q.code LIMIT" in statement


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_recall_holds_behind_a_filter(engine, shop, share):
    engine.bring_up(shop.version)
    bound = len(shop.products) * share
    among = Product.objects.filter(price__lt=bound)
    for product in shop.products[::24]:
        found = _keys(similar_products(product, 5, among=among))
        right = shop.nearest(product, lambda other: other.price < bound)[:5]
        assert _recall(found, right) >= 0.95
        assert all(Product.objects.get(pk=key).price < bound for key in found)


def test_filter_that_the_planner_takes_for_a_wide_one(engine, shop, monkeypatch):
    from shop_similarity.search import paths

    engine.bring_up(shop.version)
    monkeypatch.setattr(paths, "_count", lambda condition, most: most + 1)
    monkeypatch.setattr(paths, "_estimate", lambda condition: len(shop.products))
    among = Product.objects.filter(price__lt=12)
    product = shop.products[50]
    found = _keys(similar_products(product, 5, among=among))
    assert _recall(found, shop.nearest(product, lambda other: other.price < 12)[:5]) == 1


def test_pinned_hidden_and_boosted(engine, shop):
    engine.bring_up(shop.version)
    product = shop.products[1]
    near = shop.nearest(product)
    MerchandisingRule.objects.create(kind="pin", target_product_id=near[-1], position=2, product_id=product.pk)
    MerchandisingRule.objects.create(kind="hide", target_product_id=near[0])
    MerchandisingRule.objects.create(kind="boost", boost=0.9, target_category="Bowls")
    bowls = Product.objects.get(pk=shop.products[0].pk).category
    MerchandisingRule.objects.filter(kind="boost").update(target_category=str(bowls.pk))
    found = similar_products(product, 8)
    keys = _keys(found)
    assert keys[1] == near[-1] and near[0] not in keys
    # The nearest bowls, far as they are, stand before the hats.
    right = [key for key in near if key in set(_keys(shop.products[::20]))][:3]
    assert set(right) <= set(keys)


def test_basket(engine, shop, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CANDIDATES": 80}
    engine.bring_up(shop.version)
    basket = [shop.products[0], shop.products[30]]
    mean = (shop.vectors @ shop.vectors[[0, 30]].T).mean(axis=1)
    order = [shop.products[n].pk for n in np.argsort(-mean) if n not in (0, 30)]
    assert _recall(_keys(similar_to_several(basket, 5)), order[:5]) >= 0.8


def test_product_without_an_embedding_finds_nothing(engine, shop):
    engine.bring_up(shop.version)
    assert similar_products(make_product(), 5) == []


def test_several_photos_of_a_product(engine, shop):
    lone = make_product(price=1, stock=1)
    photos = make_photos_without_files([lone], 2)
    store_vectors(shop.version, photos, shop.vectors[[5, 70]])
    engine.bring_up(shop.version)
    found = {product.pk: product.similarity for product in similar_products(lone, 30)}
    assert found[shop.products[5].pk] == pytest.approx(1, abs=1e-3)
    assert found[shop.products[70].pk] == pytest.approx(0.8, abs=1e-3)


def test_versions_side_by_side_rolled_out_back_and_retired(engine, shop, monkeypatch):
    monkeypatch.setattr(rollout.activation, "judge", lambda *_: rollout.Verdict(True, []))
    engine.bring_up(shop.version)
    old, new = shop.version, make_version("new", ModelVersion.State.CANDIDATE)
    other = random_vectors(len(shop.products), clusters=10, seed=7)
    store_vectors(new, shop.photos, other)
    if engine.is_beside:
        with pytest.raises(rollout.NotReady, match="no index"):
            rollout.activate(new)
    engine.bring_up(old, new)
    rollout.activate(new)
    order = np.argsort(-(other @ other[3]))
    right = [shop.products[n].pk for n in order if n != 3][:K]
    assert _recall(_keys(similar_products(shop.products[3], K)), right) >= 0.9
    assert _recall(_keys(similar_products(shop.products[3], K, version=old)), shop.nearest(shop.products[3])[:K]) >= 0.9
    rollout.roll_back()
    assert _recall(_keys(similar_products(shop.products[3], K)), shop.nearest(shop.products[3])[:K]) >= 0.9
    copy = engine.copy_of(new)
    rollout.retire(new)
    from shop_similarity.rollout.retirement import clear_retired

    assert clear_retired() == len(shop.products)
    copies.feed()
    assert not get_engine().state(copy).exists
    assert get_engine().state(engine.copy_of(old)).exists


def test_deleted_version_takes_its_copy_along(engine, shop):
    new = make_version("new", ModelVersion.State.CANDIDATE)
    store_vectors(new, shop.photos, shop.vectors)
    engine.bring_up(shop.version, new)
    copy = engine.copy_of(new)
    assert get_engine().state(copy).exists
    rollout.delete(new)
    copies.feed()
    assert not get_engine().state(copy).exists
    if engine.is_beside:
        with pytest.raises(EngineDown):
            get_engine().nearest(copy, np.zeros((1, 512), np.uint8), 5)


def test_photos_that_come_change_and_go(engine, shop):
    engine.bring_up(shop.version)
    product = shop.products[2]
    lone = make_product(price=1, stock=1)
    store_vectors(shop.version, make_photos_without_files([lone]), shop.vectors[[2]])
    far = shop.products[shop.products.index(Product.objects.get(pk=shop.nearest(product)[-1]))]
    place = shop.products.index(far)
    store_vectors(shop.version, [shop.photos[place]], shop.vectors[[2]])
    gone = shop.nearest(product)[0]
    with connection.cursor() as cursor:
        # Past every signal.
        cursor.execute("DELETE FROM shop_similarity_embedding WHERE product_id = %s", [gone])
    assert engine.bring_up(shop.version) == 3 * engine.is_beside
    found = _keys(similar_products(product, 5, among=Product.objects.filter(stock=1)))
    settings_found = {match.product_id for match in _matches(shop, product)}
    assert gone not in found
    assert {lone.pk, far.pk} <= settings_found


def _matches(shop, product: Product) -> list:
    query = Query.of_product(shop.version, product)
    return find_matches(shop.version, query, limit=5, among=None, exclude=[product.pk])
