"""Two versions side by side."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from shop_similarity.models import ModelVersion
from shop_similarity.rollout.side_by_side import comparable_versions, compare_lists, compare_versions, sample_products
from tests.shop_similarity.factories import make_version, store_vectors
from tests.shop_similarity.shops import make_shop, mixed

pytestmark = pytest.mark.django_db

COMPARE = "shop_similarity.compare_modelversion"


def second_version(shop: dict, parts: dict[str, dict], state: str = "candidate") -> ModelVersion:
    version = make_version("second", state)
    photos = [shop[name].photos.get() for name in parts]
    store_vectors(version, photos, [mixed(cosines, f"second {name}") for name, cosines in parts.items()])
    return version


REVERSED = {
    "Asked": {"a": 0.9},
    "Near": {"a": 0.2},
    "Middle": {"a": 0.4},
    "Far": {"a": 0.6},
    "Farthest": {"a": 0.8},
}


def test_lists_are_put_beside_each_other():
    class Item:
        def __init__(self, pk):
            self.pk = pk

    one, two, three = map(Item, "abc")
    found = compare_lists(Item("q"), [one, two], [two, three, one])
    assert [(place.product.pk, place.other_rank, place.moved) for place in found.new] == [
        ("b", 2, 1),
        ("c", None, 0),
        ("a", 1, -2),
    ]
    assert found.new[2].fell == 2
    assert found.overlap == pytest.approx(2 / 3)
    assert not found.is_same_first and not found.is_same
    assert compare_lists(Item("q"), [], []).overlap == 1.0


def test_versions_are_compared_by_what_pages_show(shop):
    active = ModelVersion.objects.active()
    second = second_version(shop, REVERSED)
    (found,) = compare_versions(active, second, [shop["Asked"]])
    assert [place.product.name for place in found.old] == ["Near", "Middle", "Far", "Farthest"]
    assert [place.product.name for place in found.new] == ["Farthest", "Far", "Middle", "Near"]
    assert found.overlap == 1.0 and not found.is_same


def test_the_sample_is_drawn_by_its_seed_among_products_that_both_have(shop):
    active = ModelVersion.objects.active()
    second = second_version(shop, {name: REVERSED[name] for name in ("Asked", "Near", "Far")})
    shop["Far"].is_published = False
    shop["Far"].save()
    drawn = {product.name for product in sample_products([active, second], 10)}
    assert drawn == {"Asked", "Near"}
    first, again = (sample_products([active], 2, seed=3) for _ in range(2))
    assert first == again
    assert len({tuple(p.pk for p in sample_products([active], 2, seed=seed)) for seed in range(20)}) > 3


def test_the_page(staff, shop):
    make_version("bare", "candidate")
    active = ModelVersion.objects.active()
    second = second_version(shop, REVERSED)
    client = staff(COMPARE)
    url = reverse("admin:shop_similarity_compare")
    response = client.get(url)
    html = response.content.decode()
    assert [version.name for version in response.context["versions"]] == ["drawn", "second"], "bare has no embeddings"
    assert len(response.context["rows"]) == 5
    assert "were not evaluated" in html
    assert "Activate" not in html
    asked = client.get(url, {"old": second.pk, "new": active.pk, "products": f"{shop['Asked'].pk}, 4242 x"})
    html = asked.content.decode()
    assert [row.comparison.product.name for row in asked.context["rows"]] == ["Asked"]
    assert "There is no product with these keys: x, 4242" in html
    assert "Overlap 1" in html and "↑ 3" in html and "↓ 3" in html
    activate = reverse("admin:shop_similarity_activate", args=[second.pk])
    assert activate in staff(COMPARE, "shop_similarity.activate_modelversion").get(url).content.decode()


def test_with_one_version_there_is_nothing_to_compare(staff, shop):
    assert comparable_versions() == [ModelVersion.objects.active()]
    html = staff(COMPARE).get(reverse("admin:shop_similarity_compare")).content.decode()
    assert "A comparison needs two versions with embeddings." in html


@pytest.mark.parametrize("query", [{"old": "x"}, {"new": "99"}, {"seed": "-1"}, {"seed": "9" * 50}])
def test_nonsense_in_the_address_is_ignored(staff, shop, query):
    second_version(shop, REVERSED)
    assert staff(COMPARE).get(reverse("admin:shop_similarity_compare"), query).status_code == 200


def test_what_no_database_can_hold_is_refused(staff, shop):
    assert staff(COMPARE).get(reverse("admin:shop_similarity_compare"), {"old": "1\x00"}).status_code == 400


def test_it_needs_its_permission(staff, shop):
    client = staff("shop_similarity.view_dashboard", "shop_similarity.activate_modelversion")
    assert client.get(reverse("admin:shop_similarity_compare")).status_code == 403
    assert (
        reverse("admin:shop_similarity_compare")
        not in client.get(reverse("admin:shop_similarity_dashboard")).content.decode()
    )


def test_queries_depend_on_the_sample_alone(staff, shop):
    second_version(shop, REVERSED)
    client = staff(COMPARE)
    url = reverse("admin:shop_similarity_compare")
    keys = {"products": ",".join(str(shop[name].pk) for name in ("Asked", "Near"))}
    client.get(url, keys)
    with CaptureQueriesContext(connection) as few:
        client.get(url, keys)
    make_shop({f"More {number}": {"a": 0.5} for number in range(6)}, ModelVersion.objects.active())
    make_version("third", "candidate")
    with CaptureQueriesContext(connection) as many:
        client.get(url, keys)
    assert len(many) == len(few) <= 34
