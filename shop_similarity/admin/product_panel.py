"""What the admin shows of one product: its look-alikes, the rules about them and how far its photos are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from ..catalogue import key_segment
from ..embedding.photo_states import Photo, photo_states
from ..engine_errors import EngineDown
from ..guards import ENGINE_SENTENCE
from ..models import MerchandisingRule
from ..photos.thumbnails import Sources, sources
from ..search import searched_version, similar_products
from ..search.options import SearchOptions
from . import access
from .pages import admin_url
from .pictures import WIDTHS, picture_of, product_admin_url, products_by_key, similar_products_url
from .rules import how_much, is_in_force, when

LOOK_ALIKES = 12


@dataclass(frozen=True)
class LookAlike:
    """One product of the strip. ``similarity`` is the cosine, ``sentence`` the explanation or empty."""

    product: models.Model
    picture: Sources | None
    similarity: float
    is_pinned: bool
    sentence: str
    url: str | None


@dataclass(frozen=True)
class ProductRule:
    """A rule about the look-alikes of this one product. ``words`` say how much it does and when it holds."""

    rule: MerchandisingRule
    target: models.Model | None
    picture: Sources | None
    is_in_force: bool
    words: str
    url: str | None


@dataclass(frozen=True)
class PhotoRow:
    photo: Photo
    picture: Sources | None


def panel_context(
    request: HttpRequest, site: admin.AdminSite, product: models.Model, *, back: str, in_form: bool, said: str = ""
) -> dict[str, Any]:
    """The values of ``product_panel.html``.

    Args:
        back: where the buttons return to.
        in_form: whether the panel stands in the form of the shop's own page.
        said: what has just been done, for the reader of the page.
    """
    version = searched_version()
    found: list[Any] = []
    if version is not None:
        options = SearchOptions(limit=LOOK_ALIKES, explain=True)
        try:
            found = similar_products(product, version=version, options=options)
        except EngineDown:
            said = " ".join(filter(None, (said, str(ENGINE_SENTENCE))))
    may = request.user.has_perm

    def action(name: str) -> str | None:
        url = admin_url(site, f"shop_similarity_{name}", key_segment(product.pk))
        return url and f"{url}?{urlencode({'next': back})}"

    rule_list = admin_url(site, "shop_similarity_merchandisingrule_changelist")
    return {
        "product": product,
        "version": version,
        "look_alikes": [
            LookAlike(
                item,
                picture_of(item),
                item.similarity,
                bool(getattr(item, "pinned", False)),
                item.explanation.sentence() if getattr(item, "explanation", None) else "",
                product_admin_url(site, item.pk) or similar_products_url(request, site, item.pk),
            )
            for item in found
        ],
        "rules": _rules(request, site, product),
        "photos": [PhotoRow(photo, sources(photo.file, WIDTHS)) for photo in photo_states(product)],
        "in_form": in_form,
        "said": said,
        "pin_url": may(access.ADD_RULE) and action("pin"),
        "hide_url": may(access.ADD_RULE) and action("hide"),
        "take_back_url": may(access.DELETE_RULE) and action("take_back"),
        "reembed_url": may(access.REEMBED) and action("reembed"),
        "add_rule_url": may(access.ADD_RULE)
        and rule_list
        and f"{rule_list}add/?{urlencode({'kind': 'pin', 'product_id': product.pk})}",
        "modes_url": access.may_preview(request) and admin_url(site, "shop_similarity_modes", key_segment(product.pk)),
        "own_page_url": similar_products_url(request, site, product.pk) if in_form else None,
        "shop_page_url": None if in_form else product_admin_url(site, product.pk),
    }


def render_panel(
    request: HttpRequest, site: admin.AdminSite, product: models.Model, *, back: str, in_form: bool, said: str = ""
) -> SafeString:
    context = panel_context(request, site, product, back=back, in_form=in_form, said=said)
    return render_to_string("shop_similarity/admin/product_panel.html", context, request)


def _rules(request: HttpRequest, site: admin.AdminSite, product: models.Model) -> list[ProductRule]:
    may_open = any(map(request.user.has_perm, (access.VIEW_RULE, access.CHANGE_RULE)))
    rules = list(MerchandisingRule.objects.filter(product_id=product.pk).order_by("kind", "position", "pk")[:50])
    targets = products_by_key(request, (rule.target_product_id for rule in rules))
    return [
        ProductRule(
            rule,
            targets.get(rule.target_product_id),
            picture_of(targets.get(rule.target_product_id)),
            is_in_force(rule),
            ", ".join(filter(None, [how_much(rule), when(rule)])),
            admin_url(site, "shop_similarity_merchandisingrule_change", rule.pk) if may_open else None,
        )
        for rule in rules
    ]
