"""The widget alone, as a piece of HTML that a page loads after itself, or as a page of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.template.loader import render_to_string
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from ..catalogue import NotAKeyError, get_catalogue, product_key, segment_key
from ..guards import guarded
from .caching import kept_seconds, say_how_long, with_etag
from .context import Address, frame, widget_context
from .options import WidgetOptions, choices_of
from .visitors import VisitorWatch


# Under ATOMIC_REQUESTS the database would be asked before the guard is.
@transaction.non_atomic_requests
@guarded
@require_safe
def similar_products(request: HttpRequest, pk: str) -> HttpResponse:
    """Look-alikes of one product.

    Parameters of the address: ``options``, as the tag signs them; ``limit``, ``layout`` and ``heading_level``, for
    hosts that write the address themselves; the shopper's choices, as :class:`.options.ChoicesForm` names them; and
    ``page=1`` for a whole page, which is where links without JavaScript lead.

    404 where the shop does not show the product; 400 with a sentence where a parameter is wrong; 503 while the database
    is away.
    """
    product = _visible_product(pk)
    try:
        options = _options(request)
    except ValueError as error:
        return _refusal(str(error))
    choices, errors = choices_of(request.GET, options)
    if errors:
        return _refusal(" ".join(f"{name}: {sentence}" for name, sentence in errors.items()))
    address = Address.of_fragment(product, options)
    context = widget_context(product, options, choices, request=request, address=address)
    if request.GET.get("page"):
        context = context or {**frame(product, options, choices, version=None, address=address), "cards": None}
        template = "shop_similarity/similar_products_page.html"
    else:
        template = options.template_name if context else "shop_similarity/similar_products_none.html"
    watch = VisitorWatch(request)
    response = HttpResponse(render_to_string(template, context, request))
    response.headers["X-Robots-Tag"] = "noindex"
    is_personal = bool(context and context.get("token")) or watch.has_seen_visitor()
    seconds = kept_seconds(card.image for card in (context or {}).get("cards") or ())
    say_how_long(request, response, seconds, is_personal=is_personal)
    return response if is_personal else with_etag(request, response)


def _options(request: HttpRequest) -> WidgetOptions:
    options = WidgetOptions.of_signed(request.GET.get("options", ""))
    plain: dict[str, Any] = {
        name: request.GET[name] for name in ("limit", "layout", "heading_level") if name in request.GET
    }
    return replace(options, **plain) if plain else options


def _refusal(sentence: str) -> HttpResponse:
    return HttpResponseBadRequest(sentence, content_type="text/plain; charset=utf-8")


def _visible_product(pk: str) -> models.Model:
    try:
        product = get_catalogue().products_to_ask_with().filter(pk=product_key(segment_key(pk))).first()
    except NotAKeyError:
        product = None
    if product is None:
        raise Http404(_("There is no such product."))
    return product
