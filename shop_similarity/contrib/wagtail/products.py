"""Which products a Wagtail shop shows, and which of them belong on the page of one."""

from __future__ import annotations

import functools
import operator
from typing import Any

from django.conf import settings
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Now
from wagtail.models import Site

from ...catalogue import get_catalogue


def visible_products() -> QuerySet:
    """The products that everybody may see: what the ``PRODUCTS`` setting names.

    Of pages, those that are published, not expired, below a site's start page, and in no private section; of snippets
    with drafts, those that are published; of other models, all.
    """
    model = get_catalogue().product_model
    names = {field.name for field in model._meta.get_fields()}
    rows: Any = model._default_manager.all()
    if "live" in names:
        rows = rows.filter(live=True)
    if "expire_at" in names:
        # Wagtail itself takes them away when `publish_scheduled` runs next.
        rows = rows.exclude(expire_at__lte=Now())
    if not is_page(model):
        return rows
    below = [Q(url_path__startswith=path) for path in _start_paths()]
    # Pages outside of every site have no address.
    return rows.filter(functools.reduce(operator.or_, below)).public() if below else rows.none()


def products_beside(product: Any) -> QuerySet | None:
    """The visible products of the site and the language of a product; None where the shop has one of each."""
    if not is_page(type(product)):
        if getattr(settings, "WAGTAIL_I18N_ENABLED", False) and hasattr(product, "locale_id"):
            return get_catalogue().visible_products().filter(locale_id=product.locale_id)
        return None
    paths = _start_paths()
    own = next((path for path in paths if product.url_path.startswith(path)), None)
    if len(paths) < 2 or own is None:
        return None
    return get_catalogue().visible_products().filter(url_path__startswith=own)


def product_of(value: Any) -> Model | None:
    """The product that a page or a snippet is, in its own class; None where it is none."""
    model = get_catalogue().product_model
    if isinstance(value, model):
        return value
    specific = getattr(value, "specific_class", None)
    return value.specific if specific is not None and issubclass(specific, model) else None


def is_page(model: type[Model]) -> bool:
    """Whether a model's rows are pages of Wagtail's tree."""
    return hasattr(model, "url_path") and hasattr(model, "steplen")


def _start_paths() -> list[str]:
    """Where the pages of each site begin, in each of its languages, the most specific first."""
    return list(dict.fromkeys(root.root_path for root in Site.get_site_root_paths()))
