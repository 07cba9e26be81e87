"""Pictures of products in the admin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..catalogue import get_catalogue, key_segment
from ..photos.thumbnails import Sources, sources
from .access import may_view_products, products_for
from .pages import admin_url

WIDTHS = (160, 320)


def picture_of(product: models.Model | None) -> Sources | None:
    """The photo of a product to show: the one that a search found most similar, else the first."""
    if product is None:
        return None
    photos = get_catalogue().product_photos(product)
    similar = getattr(product, "similar_image_id", None)
    photo = next((photo for photo in photos if photo.image_id == similar), photos[0] if photos else None)
    return sources(photo and photo.file, WIDTHS)


def picture_tag(product: models.Model | None) -> SafeString:
    """An ``<img>`` for a list, or a dash. The product's name stands beside it, so it needs no text of its own."""
    picture = picture_of(product)
    if picture is None:
        return format_html("{}", "–")
    return format_html(
        '<img class="shop-similarity-thumb" src="{}" alt="" width="64" height="64" loading="lazy">', picture.src
    )


def products_by_key(request: HttpRequest, keys: Iterable[Any]) -> dict[Any, models.Model]:
    """The products of these keys with their photos, those that the shop doesn't show only if the user may see them."""
    wanted = {key for key in keys if key is not None}
    if not wanted:
        return {}
    products = get_catalogue().with_images(products_for(request).filter(pk__in=wanted))
    return {product.pk: product for product in products}


def product_admin_url(site: admin.AdminSite, key: Any) -> str | None:
    """The shop's own page of a product in the admin; None where it has registered none."""
    options = get_catalogue().product_model._meta
    return admin_url(site, f"{options.app_label}_{options.model_name}_change", quote(key))


def product_entry() -> str:
    """Name of the address of the shop's products in the admin's sidebar, where it has registered them."""
    options = get_catalogue().product_model._meta
    return f"{options.app_label}_{options.model_name}_changelist"


def similar_products_url(request: HttpRequest, site: admin.AdminSite, key: Any) -> str | None:
    """The plugin's own page of a product; None where the user may not see it."""
    return admin_url(site, "shop_similarity_product", key_segment(key)) if may_view_products(request) else None
