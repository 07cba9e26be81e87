"""The look-alikes of one product as pages of the plugin, and what a merchandiser does with them."""

from __future__ import annotations

import contextlib
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, DELETION
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import Max, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from .. import database
from ..catalogue import NotAKeyError, get_catalogue, key_segment, product_key, segment_key
from ..embedding.reembedding import reembed
from ..models import MerchandisingRule
from . import access, journal
from .pages import admin_path, render_page, row_key, way_back
from .pictures import picture_of, product_entry, similar_products_url
from .product_panel import render_panel

_FOUND = 24
# The script of the product's page asks for the panel alone and puts it in place of the old one.
_PANEL_HEADER = "X-Shop-Similarity-Panel"

_Kind = MerchandisingRule.Kind


def urls(site: admin.AdminSite) -> list[URLPattern]:
    one = "products/<str:object_id>/"
    return [
        admin_path(site, "products/", find_product, "shop_similarity_products"),
        admin_path(site, one, product_page, "shop_similarity_product"),
        admin_path(site, f"{one}pin/", pin, "shop_similarity_pin", permission=access.ADD_RULE, post=True),
        admin_path(site, f"{one}hide/", hide, "shop_similarity_hide", permission=access.ADD_RULE, post=True),
        admin_path(
            site, f"{one}take-back/", take_back, "shop_similarity_take_back", permission=access.DELETE_RULE, post=True
        ),
        admin_path(
            site, f"{one}reembed/", reembed_photos, "shop_similarity_reembed", permission=access.REEMBED, post=True
        ),
    ]


def find_product(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    """A search for a product, by the search fields of the shop's own admin where it has one."""
    if not access.may_view_products(request):
        raise PermissionDenied
    term = request.GET.get("q", "").strip()
    catalogue = get_catalogue()
    products = _search(request, site, term) if term else catalogue.all_products().order_by("-pk")
    found = catalogue.with_images(products[: _FOUND + 1])
    return render_page(
        request,
        site,
        "products.html",
        _("Look-alikes of a product"),
        {
            "term": term,
            "found": [
                {
                    "product": product,
                    "picture": picture_of(product),
                    "url": similar_products_url(request, site, product.pk),
                }
                for product in found[:_FOUND]
            ],
            "has_more": len(found) > _FOUND,
        },
        entry=product_entry(),
    )


def _search(request: HttpRequest, site: admin.AdminSite, term: str) -> models.QuerySet:
    catalogue = get_catalogue()
    model_admin = site._registry.get(catalogue.product_model)
    if model_admin is not None and model_admin.get_search_fields(request):
        found, may_repeat = model_admin.get_search_results(request, model_admin.get_queryset(request), term)
        return found.distinct() if may_repeat else found
    texts = [
        field.name
        for field in catalogue.product_model._meta.concrete_fields
        if isinstance(field, models.CharField | models.TextField) and not isinstance(field, models.FileField)
    ]
    condition = Q()
    for name in texts:
        condition |= Q(**{f"{name}__icontains": term})
    with contextlib.suppress(NotAKeyError):
        condition |= Q(pk=product_key(term))
    return catalogue.all_products().filter(condition).order_by("-pk") if condition else catalogue.all_products().none()


def product_page(request: HttpRequest, site: admin.AdminSite, object_id: str) -> HttpResponse:
    """The same panel as on the shop's own page, for shops without the mixin."""
    if not access.may_view_products(request):
        raise PermissionDenied
    product = product_of(object_id)
    return render_page(
        request,
        site,
        "product.html",
        _("Look-alikes of %(product)s") % {"product": product},
        {"panel": render_panel(request, site, product, back=request.path, in_form=False), "product": product},
        entry=product_entry(),
    )


def pin(request: HttpRequest, site: admin.AdminSite, object_id: str) -> HttpResponse:
    """Put a look-alike behind the products that are pinned already."""
    return _decide(request, site, object_id, _Kind.PIN)


def hide(request: HttpRequest, site: admin.AdminSite, object_id: str) -> HttpResponse:
    """Take a look-alike out of the product's list."""
    return _decide(request, site, object_id, _Kind.HIDE)


def _decide(request: HttpRequest, site: admin.AdminSite, object_id: str, kind: str) -> HttpResponse:
    product = product_of(object_id)
    target = product_of(request.POST.get("target", ""), quoted=False)
    if target.pk == product.pk:
        said = _("A product is no look-alike of itself.")
        return _answer(request, site, product, said, messages.ERROR)
    names = {"target": str(target), "product": str(product)}
    with database.atomic():
        rules = MerchandisingRule.objects.in_force().filter(product_id=product.pk)
        # Of one pair only the last decision counts.
        rule = (
            rules.select_for_update()
            .filter(target_product_id=target.pk, kind__in=[_Kind.PIN, _Kind.HIDE])
            .order_by("-pk")
            .first()
        )
        is_new = rule is None
        if rule is None:
            rule = MerchandisingRule(product_id=product.pk, target_product_id=target.pk)
        if is_new or rule.kind != kind:
            pinned = rules.filter(kind=_Kind.PIN).aggregate(last=Max("position"))["last"] or 0
            rule.kind = kind
            rule.position = min(pinned + 1, 100) if kind == _Kind.PIN else None
            rule.save()
            sentence = (
                _("Pinned %(target)s among the look-alikes of %(product)s.")
                if kind == _Kind.PIN
                else _("Hid %(target)s from the look-alikes of %(product)s.")
            ) % names
            if is_new:
                journal.note(request, rule, sentence, ADDITION)
            else:
                journal.note(request, rule, sentence)
            journal.note(request, product, sentence)
    said = (_("%(target)s is pinned now.") if kind == _Kind.PIN else _("%(target)s is hidden here now.")) % names
    return _answer(request, site, product, said)


def take_back(request: HttpRequest, site: admin.AdminSite, object_id: str) -> HttpResponse:
    """Delete one of the rules about this product's look-alikes."""
    product = product_of(object_id)
    key = row_key(request.POST.get("rule", ""))
    rule = MerchandisingRule.objects.filter(product_id=product.pk, pk=key).first() if key is not None else None
    if rule is None:
        return _answer(request, site, product, _("This rule is gone already."), messages.WARNING)
    with database.atomic():
        sentence = _("Took the rule “%(rule)s” back.") % {"rule": rule}
        journal.note(request, rule, sentence, DELETION)
        journal.note(request, product, sentence)
        rule.delete()
    return _answer(request, site, product, sentence)


def reembed_photos(request: HttpRequest, site: admin.AdminSite, object_id: str) -> HttpResponse:
    """Queue the product's photos for all live versions."""
    product = product_of(object_id)
    count = reembed([product.pk])
    if not count:
        said = _("Nothing was queued: the product has no photo, or there is no model version that embeds.")
        return _answer(request, site, product, said, messages.WARNING)
    said = reembedded_sentence(count)
    journal.note(request, product, said)
    return _answer(request, site, product, said)


def reembedded_sentence(count: int) -> str:
    return ngettext(
        "%(count)d photo is queued to be embedded again.", "%(count)d photos are queued to be embedded again.", count
    ) % {"count": count}


def product_of(key: Any, *, quoted: bool = True) -> models.Model:
    """The product of a part of an address, or of a key in a form.

    Raises:
        Http404: there is none.
    """
    catalogue = get_catalogue()
    try:
        key = product_key(segment_key(key) if quoted else key)
        product = next(iter(catalogue.with_images(catalogue.all_products().filter(pk=key))), None)
    except NotAKeyError:
        product = None
    if product is None:
        raise Http404(_("There is no such product."))
    return product


def _answer(
    request: HttpRequest, site: admin.AdminSite, product: models.Model, said: str, level: int = messages.SUCCESS
) -> HttpResponse:
    own_page = reverse("admin:shop_similarity_product", args=[key_segment(product.pk)], current_app=site.name)
    back = way_back(request, own_page)
    if request.headers.get(_PANEL_HEADER):
        return HttpResponse(render_panel(request, site, product, back=back, in_form=back != own_page, said=said))
    messages.add_message(request, level, said)
    return HttpResponseRedirect(back)
