"""Two model versions beside each other: their figures, and what they show for the same products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import rollout
from ..catalogue import NotAKeyError, product_key, segment_key
from ..models import ModelVersion
from ..photos.thumbnails import Sources
from ..rollout.gate import Figure, measured
from ..rollout.side_by_side import Comparison, Place, comparable_versions, compare_versions, in_order, sample_products
from . import access
from .pages import admin_path, admin_url, render_page
from .pictures import picture_of, similar_products_url

_TITLES = {
    "look_alike.ndcg_at_10": (
        gettext_lazy("nDCG of ten look-alikes"),
        gettext_lazy("How well the first ten other products match in kind and colour; 1 is the best."),
    ),
    "look_alike.mean_average_precision": (
        gettext_lazy("Mean average precision of look-alikes"),
        gettext_lazy("How far at the front products of the same kind and colour stand; 1 is the best."),
    ),
    "retrieval.mean_average_precision": (
        gettext_lazy("Mean average precision"),
        gettext_lazy("How far at the front the right products stand; 1 is the best."),
    ),
    "retrieval.recall_at_1": (
        gettext_lazy("Recall at 1"),
        gettext_lazy("How often the first product is a right one; 1 is always."),
    ),
    "triplets.accuracy": (
        gettext_lazy("Triplet accuracy"),
        gettext_lazy("How often, of two products, the one that is alike is found nearer; 1 is always."),
    ),
}

PRODUCTS = 6
SHOWN = 8
_MOST_PRODUCTS = 12


@dataclass(frozen=True)
class FigureRow:
    """One figure of several versions, in their order; None where a version was not measured."""

    title: Any
    meaning: Any
    values: list[Figure | None]


def figure_rows(versions: Sequence[ModelVersion]) -> list[FigureRow]:
    """The figures that at least one of the versions was measured on."""
    measurements = [measured(version) for version in versions]
    rows = [
        FigureRow(title, meaning, [figures.get(name) for figures in measurements])
        for name, (title, meaning) in _TITLES.items()
    ]
    return [row for row in rows if any(row.values)]


@dataclass(frozen=True)
class Cell:
    """One look-alike of a row, with its picture."""

    place: Place
    picture: Sources | None
    is_pinned: bool


@dataclass(frozen=True)
class Row:
    """One product with the two lists that are shown for it, each with what it is called.

    ``is_change``: the second is what becomes of the first, so that products move in the second alone.
    """

    comparison: Comparison
    picture: Sources | None
    url: str | None
    lists: tuple[tuple[Any, list[Cell]], ...]
    is_change: bool = False


def urls(site: admin.AdminSite) -> list[URLPattern]:
    return [admin_path(site, "compare/", compare, "shop_similarity_compare", permission=access.COMPARE_VERSIONS)]


def compare(request: HttpRequest, site: admin.AdminSite) -> HttpResponse:
    """``?old=KEY&new=KEY`` names the versions, ``seed`` the sample, ``products`` keys of products instead of it."""
    versions = comparable_versions()
    old = _chosen(versions, request.GET.get("old")) or (versions[0] if versions else None)
    new = _chosen(versions, request.GET.get("new")) or next((version for version in versions if version != old), None)
    seed = int(text) if (text := request.GET.get("seed", "")).isdecimal() and len(text) < 10 else 0
    keys, unknown = _keys(request.GET.get("products", ""))
    figures: list[FigureRow] = []
    comparisons: list[Comparison] = []
    verdict = None
    if old is not None and new is not None and old != new:
        if keys:
            shown = set(access.products_for(request).filter(pk__in=keys).values_list("pk", flat=True))
            products = in_order([key for key in keys if key in shown])
        else:
            products = sample_products([old, new], PRODUCTS, seed)
        unknown += [str(key) for key in keys if key not in {product.pk for product in products}]
        comparisons = compare_versions(old, new, products, SHOWN)
        figures = figure_rows([old, new])
        if old.state == ModelVersion.State.ACTIVE and new.state == ModelVersion.State.CANDIDATE:
            verdict = rollout.judge(new, old)
    may_activate = request.user.has_perm(access.ACTIVATE_VERSION)
    return render_page(
        request,
        site,
        "compare.html",
        _("Compare model versions"),
        {
            "versions": versions,
            "old": old,
            "new": new,
            "seed": seed,
            "next_seed": seed + 1,
            "products": request.GET.get("products", ""),
            "unknown": unknown,
            "rows": [comparison_row(request, site, comparison, old, new) for comparison in comparisons],
            "overlap": sum(row.overlap for row in comparisons) / len(comparisons) if comparisons else None,
            "same_first": sum(row.is_same_first for row in comparisons),
            "same": sum(row.is_same for row in comparisons),
            "shown": SHOWN,
            "figures": figures,
            "verdict": verdict,
            "actions": [
                (version, admin_url(site, "shop_similarity_activate", version.pk))
                for version in (old, new)
                if may_activate
                and version
                and version.state in (ModelVersion.State.CANDIDATE, ModelVersion.State.RETIRED)
            ],
            "roll_back_url": may_activate
            and any(version and version.state == ModelVersion.State.STANDBY for version in (old, new))
            and admin_url(site, "shop_similarity_roll_back"),
            "dashboard_url": request.user.has_perm(access.VIEW_DASHBOARD)
            and admin_url(site, "shop_similarity_dashboard"),
        },
    )


def _chosen(versions: list[ModelVersion], text: str | None) -> ModelVersion | None:
    return next((version for version in versions if str(version.pk) == text), None)


def _keys(text: str) -> tuple[list, list[str]]:
    """Keys of products, separated by commas or blanks or in the form of addresses, and texts that can't be one."""
    keys, unknown = [], []
    for word in dict.fromkeys(text.replace(",", " ").split()[:_MOST_PRODUCTS]):
        try:
            keys.append(product_key(segment_key(word)))
        except NotAKeyError:
            unknown.append(word)
    return keys, unknown


def comparison_row(
    request: HttpRequest, site: admin.AdminSite, comparison: Comparison, old: Any, new: Any, *, is_change: bool = False
) -> Row:
    """A comparison with pictures; ``old`` and ``new`` are what its lists are called."""
    lists = tuple(
        (title, [Cell(place, picture_of(place.product), _is_pinned(place.product)) for place in places])
        for title, places in ((old, comparison.old), (new, comparison.new))
    )
    product = comparison.product
    return Row(comparison, picture_of(product), similar_products_url(request, site, product.pk), lists, is_change)


def _is_pinned(product: models.Model) -> bool:
    return bool(getattr(product, "pinned", False))
