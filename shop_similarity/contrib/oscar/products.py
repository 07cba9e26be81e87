"""How Oscar's catalogue answers the plugin's settings: which products are shown, what they cost, what can be had.

The models are looked up by their labels when they are asked for, so that forks of Oscar's apps are found.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db.models import BooleanField, Case, Exists, F, OuterRef, Q, QuerySet, When
from django.db.models.functions import Coalesce


def _rows(app_label: str, model: str) -> Any:
    return apps.get_model(app_label, model)._default_manager.all()


def browsable() -> QuerySet:
    """``PRODUCTS``: what Oscar's own lists show, public parents and standalone products.

    With what Oscar's strategy reads for the price of a card, so that the number of statements does not grow with the
    cards.
    """
    children = _rows("catalogue", "Product").public().prefetch_related("stockrecords")
    products = _rows("catalogue", "Product").browsable().select_related("product_class")
    return products.prefetch_related("stockrecords").prefetch_public_children(children)


def public_photos(photos: QuerySet) -> QuerySet:
    """``IMAGE_FILTER``: all but those of children that are not public, which would speak for their public parent.

    Photos of a parent or standalone product are embedded before it is published, to be there when it is.
    """
    return photos.exclude(product__is_public=False, product__parent__isnull=False)


def category() -> Any:
    """``CATEGORY``: the categories that the shop shows, of a child those of its parent."""
    return Coalesce(_public_category("categories"), _public_category("parent__categories"))


def _public_category(path: str) -> Case:
    public = Q(**{f"{path}__is_public": True, f"{path}__ancestors_are_public": True})
    return Case(When(public, then=F(path)))


def price() -> Any:
    """``PRICE``: the prices of the stock records, of a parent those of its public children.

    As the stock record has them: what Oscar's strategy adds for a shopper (tax, discounts) is not in the database.
    """
    of_children = Case(When(children__is_public=True, then=F("children__stockrecords__price")))
    return Coalesce(F("stockrecords__price"), of_children)


def available() -> Any:
    """``IN_STOCK``: what Oscar's strategy ``StockRequired`` lets shoppers buy, of a parent any public child.

    A product needs a stock record, and where its class tracks stock, more of it than is allocated to orders.
    """
    untracked = Q(product__product_class__track_stock=False) | Q(product__parent__product_class__track_stock=False)
    left = Q(num_in_stock__gt=Coalesce(F("num_allocated"), 0))
    records = _rows("partner", "StockRecord").order_by().filter(untracked | left)
    of_children = records.filter(product__parent=OuterRef("pk"), product__is_public=True)
    own = records.filter(product=OuterRef("pk"))
    return Case(When(structure="parent", then=Exists(of_children)), default=Exists(own), output_field=BooleanField())
