"""The widget alone, as a piece of HTML that a page loads after itself."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from .catalogue import get_catalogue
from .serving import version_for
from .widget import widget_cards


@require_safe
def similar_products(request: HttpRequest, pk: str) -> HttpResponse:
    """Look-alikes of one product; 404 where the shop does not show it."""
    product = visible_product(pk)
    cards = widget_cards(product, 8, version=version_for(request))
    context = {"similar_to": product, "cards": cards}
    return render(request, "shop_similarity/similar_products.html", context)


def visible_product(pk: Any) -> models.Model:
    """The product with this key.

    Raises:
        Http404: there is none, or the shop does not show it.
    """
    visible = get_catalogue().visible_products()
    try:
        product = visible.filter(pk=visible.model._meta.pk.to_python(pk)).first()
    except (ValidationError, ValueError, OverflowError):
        product = None
    if product is None:
        raise Http404(_("There is no such product."))
    return product
