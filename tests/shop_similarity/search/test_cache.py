"""What the widget keeps in the cache, and what it never does."""

from __future__ import annotations

import logging
from decimal import Decimal

import numpy as np
import pytest
from django.core.cache import cache as django_cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Product
from shop_similarity.models import Embedding, MerchandisingRule, ModelVersion
from shop_similarity.search import Filters, SearchOptions, cache, paths, similar_products
from shop_similarity.search.cache import cached_similar_products
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.shop_similarity.shops import direction, make_shop, mixed, names

COSINES = dict(zip("abcdef", (1, 0.9, 0.8, 0.7, 0.6, 0.5), strict=True))


@pytest.fixture(autouse=True)
def _caching(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WIDGET_CACHE_SECONDS": 60, "PRICE": "price"}
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "similar"}}
    django_cache.clear()
    paths.forget_paths()
    cache._unheard = False


@pytest.fixture
def shop() -> dict[str, Product]:
    return make_shop({name: {"x": cosine} for name, cosine in COSINES.items()}, price=Decimal(10))


def _searched(product, *arguments, **options) -> tuple[list[Product], bool]:
    with CaptureQueriesContext(connection) as queries:
        found = cached_similar_products(product, *arguments, **options)
    return found, any("compared AS" in query["sql"] for query in queries)


@pytest.mark.django_db
def test_second_page_view_searches_no_more_and_shows_the_same(shop):
    first, searched = _searched(shop["a"], 3)
    assert searched
    second, searched = _searched(shop["a"], 3)
    assert not searched
    for found in (first, second):
        assert names(found) == names(similar_products(shop["a"], 3)) == ["b", "c", "d"]
        assert [p.similarity for p in found] == pytest.approx([0.9, 0.8, 0.7], abs=3e-3)
    assert [p.similar_image_id for p in first] == [p.similar_image_id for p in second]
    assert [(p.pinned, p.explanation) for p in second] == [(False, None)] * 3
    # Another question is another entry.
    assert _searched(shop["a"], 2)[1]
    assert _searched(shop["b"], 3)[1]
    assert _searched(shop["a"], options=SearchOptions(limit=3, diversity=0.9))[1]
    assert _searched(shop["a"], options=SearchOptions(limit=3, offset=1))[1]
    assert not _searched(shop["a"], 3)[1]


@pytest.mark.django_db
def test_products_are_as_they_are_now(shop):
    _searched(shop["a"], 3)
    Product.objects.filter(pk=shop["b"].pk).update(price=Decimal("3.50"))
    found, searched = _searched(shop["a"], 3)
    assert not searched
    assert found[0].price == Decimal("3.50")
    # One that may not be shown any more leaves a gap, which is filled.
    Product.objects.filter(pk=shop["b"].pk).update(is_published=False)
    assert _searched(shop["a"], 3) == ([shop["c"], shop["d"], shop["e"]], True)
    assert _searched(shop["a"], 3) == ([shop["c"], shop["d"], shop["e"]], False)


@pytest.mark.django_db
def test_filters_hold_for_what_was_kept(shop):
    options = SearchOptions(limit=2, filters=Filters(price_min=5))
    assert names(_searched(shop["a"], options=options)[0]) == ["b", "c"]
    Product.objects.filter(pk=shop["b"].pk).update(price=1)
    assert names(_searched(shop["a"], options=options)[0]) == ["c", "d"]


@pytest.mark.django_db
def test_photos_rules_settings_and_versions_are_seen_at_once(shop, settings):
    def renewed() -> bool:
        changed = _searched(shop["a"], 3)[1]
        assert not _searched(shop["a"], 3)[1]
        return changed

    assert renewed()
    Embedding.objects.filter(product_id=shop["a"].pk).update(embedded_at=timezone.now())
    assert renewed()
    rule = MerchandisingRule.objects.create(kind="hide", target_product_id=shop["b"].pk)
    assert renewed()
    assert names(cached_similar_products(shop["a"], 3)) == ["c", "d", "e"]
    # update() leaves updated_at as it was.
    MerchandisingRule.objects.filter(pk=rule.pk).update(target_product_id=shop["c"].pk)
    assert renewed()
    assert names(cached_similar_products(shop["a"], 3)) == ["b", "d", "e"]
    MerchandisingRule.objects.filter(pk=rule.pk).update(ends_at=timezone.now())
    assert names(cached_similar_products(shop["a"], 3)) == ["b", "c", "d"]
    # A rule for another product's look-alikes is none of this one's.
    MerchandisingRule.objects.create(kind="hide", product_id=shop["b"].pk, target_product_id=shop["d"].pk)
    assert not _searched(shop["a"], 3)[1]
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DIVERSITY": 0.5}
    assert renewed()
    other = make_version("other", state="candidate")
    photos = make_photos_without_files([shop["a"]]) + list(shop["b"].photos.all())
    store_vectors(other, photos, np.stack([direction("x"), mixed({"x": 0.1}, "b")]).astype(np.float32))
    found, searched = _searched(shop["a"], 1, version=other)
    assert searched
    assert found[0].similarity == pytest.approx(0.1, abs=3e-3)


@pytest.mark.django_db
def test_short_lists_and_lists_among_given_products_are_not_kept(shop):
    for _ in range(2):
        found, searched = _searched(shop["a"], 9)
        assert (len(found), searched) == (5, True)
        among = Product.objects.exclude(pk=shop["b"].pk)
        found, searched = _searched(shop["a"], 2, among)
        assert (names(found), searched) == (["c", "d"], True)
    late = make_product("late")
    store_vectors(ModelVersion.objects.get(), make_photos_without_files([late]), mixed({"x": 0.95}, "late")[None])
    assert names(cached_similar_products(shop["a"], 9))[0] == "late"
    assert cached_similar_products(make_product("not embedded"), 3) == []
    assert cached_similar_products(Product(name="unsaved"), 3) == []
    assert cached_similar_products(shop["a"], 0) == []


@pytest.mark.django_db
def test_nothing_is_kept_without_seconds(shop, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WIDGET_CACHE_SECONDS": 0}
    assert _searched(shop["a"], 3)[1]
    assert _searched(shop["a"], 3)[1]


@pytest.mark.django_db
def test_a_cache_that_is_down_costs_no_page_and_one_line_of_the_log(shop, settings, caplog):
    # Nothing listens there: the real client's real error.
    address = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {"default": address}
    with caplog.at_level(logging.WARNING, "shop_similarity"):
        for _ in range(3):
            assert names(cached_similar_products(shop["a"], 3)) == ["b", "c", "d"]
    assert len(caplog.records) == 1
    assert "Check CACHES['default']" in caplog.text


@pytest.mark.django_db
def test_a_kept_list_costs_the_same_queries_whatever_its_length(shop):
    counts = []
    for limit in (2, 5):
        cached_similar_products(shop["a"], limit)
        with CaptureQueriesContext(connection) as queries:
            for product in cached_similar_products(shop["a"], limit):
                assert len(product.photos.all()) == 1
        counts.append(len(queries))
    # The version, the stamps, the products and their photos.
    assert counts == [4, 4]


@pytest.mark.django_db
def test_wrong_questions_are_told_as_without_a_cache(shop):
    with pytest.raises(ValueError, match="limit is -1"):
        cached_similar_products(shop["a"], -1)
    with pytest.raises(ValueError, match="can't be a category"):
        cached_similar_products(shop["a"], options=SearchOptions(filters=Filters(categories=("x",))))
