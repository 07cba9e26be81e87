"""Other admin sites, and shops that unregister what they don't want."""

from __future__ import annotations

import importlib

import pytest
from django.contrib import admin
from django.test import RequestFactory
from django.urls import clear_url_caches, reverse

import catalog.urls
from shop_similarity.admin import SimilarProductsAdminMixin, register
from shop_similarity.models import Dashboard, Experiment, MerchandisingRule, ModelVersion, OutboxEntry

pytestmark = pytest.mark.django_db


def test_a_site_of_the_shops_own_gets_all_of_it():
    site = admin.AdminSite(name="back_office")
    register(site)
    assert set(site._registry) == {Dashboard, ModelVersion, OutboxEntry, MerchandisingRule, Experiment}
    names = {pattern.name for model_admin in site._registry.values() for pattern in model_admin.get_urls()}
    assert {"shop_similarity_dashboard", "shop_similarity_compare", "shop_similarity_product"} <= names


def test_without_the_plugins_pages_the_shops_own_page_still_works(staff, shop):
    kept = {model: admin.site._registry[model] for model in (ModelVersion, MerchandisingRule)}
    for model in kept:
        admin.site.unregister(model)
    importlib.reload(catalog.urls)
    clear_url_caches()
    try:
        client = staff("catalog.view_product", "catalog.change_product", "shop_similarity.add_merchandisingrule")
        response = client.get(reverse("admin:catalog_product_change", args=[shop["Asked"].pk]))
        assert response.status_code == 200
        panel = response.content.decode().split("data-shop-similarity-panel")[1]
        assert "Near" in panel and ">Pin<" not in panel
    finally:
        admin.site._registry.update(kept)
        importlib.reload(catalog.urls)
        clear_url_caches()


def test_the_mixin_adds_and_takes_nothing_away(shop, admin_user):
    class Plain(admin.ModelAdmin):
        fieldsets = [("First", {"fields": [("name", "slug")]}), ("Second", {"fields": ["shout"], "classes": ["wide"]})]
        readonly_fields = ["shout"]
        actions = ["cheer"]
        change_form_template = "shop/own.html"

        class Media:
            css = {"all": ["own.css"]}

        def shout(self, product):
            return str(product)

        @admin.action(description="Cheer")
        def cheer(self, request, queryset):
            return None

    class Mixed(SimilarProductsAdminMixin, Plain):
        class Media:
            js = ["own.js"]

    request = RequestFactory().get("/")
    request.user = admin_user
    product = shop["Asked"]
    plain, mixed = (kind(type(product), admin.site) for kind in (Plain, Mixed))
    assert mixed.change_form_template == "shop/own.html"
    assert mixed.get_fieldsets(request) == plain.get_fieldsets(request)
    assert mixed.get_fieldsets(request, product)[:2] == plain.get_fieldsets(request, product)
    assert len(mixed.get_fieldsets(request, product)) == 3
    assert mixed.get_readonly_fields(request, product)[0] == "shout"
    assert len(mixed.get_readonly_fields(request, product)) == 2
    assert list(mixed.get_actions(request)) == [*plain.get_actions(request), "reembed_photos"]
    media = str(mixed.media)
    assert "own.css" in media and "own.js" in media and "shop_similarity/admin.css" in media
    mixed.actions = None
    assert mixed.get_actions(request) == {}
