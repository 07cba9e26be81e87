"""What the modes of a template or a weighed attribute would show for a product, before a page or a rule uses them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..catalogue.attributes import attribute_names
from ..catalogue.field_paths import setting_value
from ..catalogue.stock import is_sold_out
from ..models import MerchandisingRule
from ..rollout.side_by_side import compare_lists
from ..search import searched_version, similar_products
from ..search.options import SearchOptions
from . import access
from .comparison import comparison_row
from .pages import admin_path, admin_url, render_page
from .pictures import product_entry, similar_products_url
from .product_pages import product_of
from .rule_form import OF_ATTRIBUTES
from .rule_preview import proposed

_SHOWN = 8
_Kind = MerchandisingRule.Kind


def urls(site: admin.AdminSite) -> list[URLPattern]:
    return [admin_path(site, "products/<str:object_id>/modes/", page, "shop_similarity_modes")]


class ModeForm(forms.Form):
    """What is tried. Fields that the shop has no use for are gone."""

    mode = forms.ChoiceField(
        label=gettext_lazy("Mode"),
        required=False,
        choices=[("", gettext_lazy("as it is")), *((kind.value, kind.label) for kind in OF_ATTRIBUTES)],
    )
    attribute = forms.ChoiceField(label=gettext_lazy("What they share"), required=False)
    weight = forms.FloatField(
        label=gettext_lazy("How much"),
        required=False,
        min_value=-1,
        max_value=1,
        widget=forms.NumberInput(attrs={"step": "0.05"}),
    )
    alternatives = forms.BooleanField(label=gettext_lazy("Only on the page of a sold-out product"), required=False)

    def __init__(self, data: Any) -> None:
        super().__init__(data or None)
        names = attribute_names()
        attribute = self.fields["attribute"]
        assert isinstance(attribute, forms.ChoiceField)
        attribute.choices = [("", "---------"), *((name, name) for name in names)]
        if not names:
            del self.fields["mode"], self.fields["attribute"], self.fields["weight"]
        if setting_value("in_stock") is None:
            del self.fields["alternatives"]

    def clean(self) -> dict[str, Any]:
        super().clean()
        values = self.cleaned_data
        mode = values.get("mode")
        if mode and not values.get("attribute") and "attribute" not in self.errors:
            self.add_error("attribute", _("Choose what products have to share, or to differ in."))
        if mode == _Kind.SHARE and not values.get("weight") and "weight" not in self.errors:
            self.add_error("weight", _("Say how much it is boosted: 0.1 lifts it a little, 0.5 much, -0.2 demotes it."))
        return values


def page(request: HttpRequest, site: admin.AdminSite, object_id: str) -> HttpResponse:
    """``?mode=same&attribute=brand``: the list of a product as it is, beside the one that the mode gives."""
    if not access.may_preview(request):
        raise PermissionDenied
    product = product_of(object_id)
    form = ModeForm(request.GET)
    is_right = not form.is_bound or form.is_valid()
    values = form.cleaned_data if form.is_bound and is_right else {}
    version = searched_version()
    row = None
    if version is not None and is_right:
        lists = similar_products(product, _SHOWN, version=version), _tried(product, version, values)
        names = (_("now"), _("with the mode"))
        row = comparison_row(request, site, compare_lists(product, *lists), *names, is_change=True)
    return render_page(
        request,
        site,
        "modes.html",
        _("Preview of modes for %(product)s") % {"product": product},
        {
            "product": product,
            "product_url": similar_products_url(request, site, product.pk),
            "form": form,
            "version": version,
            "row": row,
            "alternatives": values.get("alternatives"),
            "is_sold_out": is_sold_out(product),
            "tag": _tag(values) if values.get("mode") != _Kind.SHARE else "",
            "rule_url": _rule_url(request, site, product, values),
        },
        entry=product_entry(),
    )


def _tried(product: models.Model, version: Any, values: dict[str, Any]) -> list[models.Model]:
    mode, name = values.get("mode"), values.get("attribute") or ""
    if mode == _Kind.SHARE:
        rule = MerchandisingRule(kind=mode, product_id=product.pk, attribute=name, boost=values["weight"])
        with proposed(rule):
            return similar_products(product, _SHOWN, version=version)
    same, other = ((name,) if mode == kind else () for kind in (_Kind.SAME, _Kind.OTHER))
    options = SearchOptions(limit=_SHOWN, same=same, other=other)
    return similar_products(product, version=version, options=options)


def _tag(values: dict[str, Any]) -> str:
    """What a template has to say for this list."""
    mode, name = values.get("mode"), values.get("attribute")
    words = ["similar_products product", *(["alternatives=True"] if values.get("alternatives") else [])]
    words += [f'{mode}="{name}"'] if mode else []
    return "{% " + " ".join(words) + " %}"


def _rule_url(request: HttpRequest, site: admin.AdminSite, product: models.Model, values: dict[str, Any]) -> str | None:
    """The form of the rule that does the same, filled in."""
    mode = values.get("mode")
    add_url = admin_url(site, "shop_similarity_merchandisingrule_add")
    if not mode or add_url is None or not request.user.has_perm(access.ADD_RULE):
        return None
    query = {"kind": mode, "attribute": values["attribute"], "product_id": product.pk}
    return f"{add_url}?{urlencode(query | ({'boost': values['weight']} if mode == _Kind.SHARE else {}))}"
