"""The admin in the shop with UUID keys and photos on the product; run by test_uuid_shop.py as the other file is."""

from __future__ import annotations

import importlib

import pytest
from django.contrib import admin
from django.db import models
from django.urls import clear_url_caches, reverse

import tests.support.other_shop_urls
from shop_similarity.admin import SimilarProductsAdminMixin
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import MerchandisingRule, ModelVersion, OutboxEntry
from shop_similarity.search import similar_products
from tests.uuid_shop.models import Poster
from tests.uuid_shop.run_in_uuid_shop import _embed_all, _poster

pytestmark = pytest.mark.django_db


@pytest.fixture
def posters() -> list[Poster]:
    version = ModelVersion.objects.create(name="v1", architecture="mildnet", weights_sha256="0", state="active")
    made = [_poster(f"Poster {n}", motif="sea" if n % 2 else "hill") for n in range(5)]
    _embed_all(version)
    return made


@pytest.fixture
def registered():
    """The shop has an admin of its posters, with the plugin's mixin, fields and read-only fields of its own."""

    class PosterAdmin(SimilarProductsAdminMixin, admin.ModelAdmin):
        search_fields = ["title"]
        fields = [("title", "shouted"), "motif"]
        readonly_fields = ["shouted"]

        def shouted(self, poster: models.Model) -> str:
            return str(poster).upper()

    admin.site.register(Poster, PosterAdmin)
    _reload_urls()
    yield
    admin.site.unregister(Poster)
    _reload_urls()


def _reload_urls() -> None:
    """The admin's addresses are made of what is registered when they are first asked for."""
    importlib.reload(tests.support.other_shop_urls)
    clear_url_caches()


def test_without_an_admin_of_its_own_the_plugins_page_does_it_all(admin_client, posters):
    found = admin_client.get(reverse("admin:shop_similarity_products"), {"q": "Poster 3"}).content.decode()
    page = reverse("admin:shop_similarity_product", args=[posters[3].pk])
    assert page in found
    assert admin_client.get(page).status_code == 200
    last = similar_products(posters[3])[-1]
    pin = reverse("admin:shop_similarity_pin", args=[posters[3].pk])
    html = admin_client.post(pin, {"target": str(last.pk)}, follow=True).content.decode()
    assert f"{last} is pinned now." in html
    assert similar_products(posters[3])[0] == last
    assert admin_client.post(pin, {"target": "42"}).status_code == 404
    admin_client.post(reverse("admin:shop_similarity_reembed", args=[posters[3].pk]))
    assert OutboxEntry.objects.get().product_id == posters[3].pk
    assert admin_client.get(reverse("admin:shop_similarity_dashboard")).status_code == 200


def test_rules_by_key_and_by_plain_categories(admin_client, posters):
    add = reverse("admin:shop_similarity_merchandisingrule_add")
    values = {"kind": "hide", "is_on": "on", "target_product_id": "no key"}
    response = admin_client.post(add, values)
    assert response.context["adminform"].form.errors["target_product_id"] == [
        "There is no product with the key no key."
    ]
    values |= {"target_product_id": "", "target_category": "sea", "product_id": str(posters[0].pk)}
    assert admin_client.post(add, values).status_code == 302
    rule = MerchandisingRule.objects.get()
    assert (rule.product_id, rule.target_category) == (posters[0].pk, "sea")
    assert {poster.motif for poster in similar_products(posters[0])} == {"hill"}
    assert (
        "category sea"
        in admin_client.get(reverse("admin:shop_similarity_merchandisingrule_changelist")).content.decode()
    )


def test_versions_are_compared(admin_client, posters):
    second = ModelVersion.objects.create(name="v2", architecture="mildnet", weights_sha256="0")
    sweep(files=False)
    _embed_all(second, seed=1)
    response = admin_client.get(reverse("admin:shop_similarity_compare"), {"products": str(posters[1].pk)})
    assert [row.comparison.product for row in response.context["rows"]] == [posters[1]]


def test_the_mixin_adds_to_the_shops_own_page(admin_client, posters, registered):
    change = reverse("admin:uuid_shop_poster_change", args=[posters[0].pk])
    html = admin_client.get(change).content.decode()
    assert "POSTER 0" in html and "data-shop-similarity-panel" in html
    assert html.count("data-shop-similarity-panel") == 1
    response = admin_client.post(change, {"title": "Renamed", "motif": "hill", "_save": "1"})
    assert response.status_code == 302
    posters[0].refresh_from_db()
    assert posters[0].title == "Renamed"
    search = admin_client.get(reverse("admin:shop_similarity_find_products"), {"term": "Poster 2"}).json()["results"]
    assert search == [{"id": str(posters[2].pk), "text": "Poster 2"}]
    add = reverse("admin:shop_similarity_merchandisingrule_add")
    values = {"kind": "pin", "is_on": "on", "target_product_id": str(posters[2].pk)}
    assert admin_client.post(add, values).status_code == 302
