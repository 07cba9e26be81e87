"""Choosing a product in a form: by the search of the shop's own admin where it has one, else by its key."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..catalogue import NotAKeyError, get_catalogue, product_key
from ..models import MerchandisingRule
from .pages import checked

_URL = "shop_similarity_find_products"


def searchable(request: HttpRequest, site: admin.AdminSite) -> admin.ModelAdmin | None:
    """The shop's own admin of its products, if this user may search in it."""
    model_admin = site._registry.get(get_catalogue().product_model)
    if model_admin is None or not model_admin.get_search_fields(request):
        return None
    return model_admin if model_admin.has_view_permission(request) else None


def is_key(value: Any) -> bool:
    """Whether a value can be the key of a product."""
    try:
        product_key(value)
    except NotAKeyError:
        return False
    return True


class FindProducts(AutocompleteJsonView):
    """Answers the search box. Django's own view answers for foreign keys only, and the plugin has none."""

    def process_request(self, request: HttpRequest) -> tuple:
        assert self.admin_site is not None
        model_admin = searchable(request, self.admin_site)
        if model_admin is None:
            if self.admin_site._registry.get(get_catalogue().product_model) is not None:
                raise PermissionDenied
            raise Http404
        source = SimpleNamespace(get_limit_choices_to=dict)
        return request.GET.get("term", ""), model_admin, source, get_catalogue().product_model._meta.pk.attname


def urls(site: admin.AdminSite) -> list[URLPattern]:
    def find(request: HttpRequest) -> HttpResponseBase:
        return FindProducts.as_view(admin_site=site)(request)

    return [checked(path("find-products/", site.admin_view(find), name=_URL))]


class ProductSearch(AutocompleteSelect):
    """A select with Django's own search box above the shop's products."""

    def __init__(self, site: admin.AdminSite, name: str) -> None:
        model = get_catalogue().product_model
        remote = SimpleNamespace(model=model, field_name=model._meta.pk.attname)
        super().__init__(SimpleNamespace(model=MerchandisingRule, name=name, remote_field=remote), site)

    def optgroups(self, name: str, value: Sequence[str], attrs: dict | None = None) -> list:
        # What came back from the form, or in the address, need not be a key at all.
        return super().optgroups(name, [text for text in value if is_key(text)], attrs)

    def get_url(self) -> str:
        return reverse(f"admin:{_URL}", current_app=self.admin_site.name)


class ProductKey(forms.TextInput):
    """The key of a product, with its name beside it."""

    def __init__(self) -> None:
        super().__init__(attrs={"class": "vTextField"})

    def render(self, name: str, value: Any, attrs: dict | None = None, renderer: Any = None) -> SafeString:
        box = super().render(name, value, attrs, renderer)
        product = get_catalogue().all_products().filter(pk=value).first() if is_key(value) else None
        return format_html('{} <span class="shop-similarity-chosen">{}</span>', box, product) if product else box


class ProductChoice(forms.ModelChoiceField):
    """A product by its key, whatever type that has; ``clean`` returns the key."""

    def __init__(self, request: HttpRequest, site: admin.AdminSite, name: str, **kwargs: Any) -> None:
        widget = ProductSearch(site, name) if searchable(request, site) else ProductKey()
        super().__init__(get_catalogue().all_products(), widget=widget, required=False, **kwargs)
        self.error_messages["invalid_choice"] = _("There is no product with the key %(value)s.")

    def to_python(self, value: Any) -> models.Model | None:
        if value not in self.empty_values and not is_key(value):
            # A key's own field would speak of its type.
            raise forms.ValidationError(
                self.error_messages["invalid_choice"], code="invalid_choice", params={"value": value}
            )
        return super().to_python(value)

    def clean(self, value: Any) -> Any:
        product: models.Model | None = super().clean(value)
        return None if product is None else product.pk
