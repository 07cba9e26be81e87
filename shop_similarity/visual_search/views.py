"""The pages of search by photo: a form, and results that keep their address for a while."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_safe

from ..conf import get_settings
from ..feedback import tokens
from ..guards import guarded
from ..models import Surface, VisualQuery
from ..photos.errors import ImageError, ImageTooLarge, ImageTypeNotAllowed
from ..rate_limits import seconds_to_wait
from ..search.aspects import has_aspects
from ..storefront.cards import cards_of
from ..storefront.context import events_url
from ..storefront.experiment_arms import experiment_for, version_for
from .categories import category_choices
from .forms import PhotoForm, form_context
from .object_views import choices, part_name
from .privacy import private
from .queue import Busy, Expired, find_query, regions_of, submit, wait
from .results import MOST_PAGES, PAGE_SIZE, FiltersForm, products
from .uploads import announced_bytes, discard_body, limit_upload, most_bytes_of_body, was_too_large

# A page that still waits looks again after so many seconds, and so long a request for it is held.
REFRESH_SECONDS = 2


# Rate and limit come before the body is read, which the CSRF check does, so the check comes second.
@csrf_exempt
@never_cache
@transaction.non_atomic_requests
@guarded
@require_http_methods(["GET", "HEAD", "POST"])
@private
def visual_search(request: HttpRequest) -> HttpResponse:
    """GET shows the form. POST takes a photo and leads to its results (303).

    Fields: ``photo``; ``left``, ``top``, ``right``, ``bottom`` in per cent of the upright photo, for a region of it;
    ``whole`` for all of it, where else the largest object would be searched with; ``keep``, so that another one
    can be chosen on the page of the results.

    What is wrong is said above the form, with the status 413 (too large), 415 (no photo of an allowed format), 422 (no
    photo, a damaged one or a wrong region), 429 (too often) or 503 (busy), the latter two with ``Retry-After``. A
    program that accepts JSON and no HTML gets ``{"detail": "..."}`` with the same status, or 201 with
    ``{"url": "..."}``, or 202 where the answer is not there yet.
    """
    if request.method != "POST":
        return _form(request)
    most = get_settings().visual_search_max_bytes
    seconds = seconds_to_wait(request, "upload_rate")
    if seconds:
        discard_body(request, most)
        sentence = _("These were many photos in a short time; please try again in %(seconds)d seconds.")
        return _refusal(request, sentence % {"seconds": seconds}, 429, retry_after=seconds)
    if announced_bytes(request) > most_bytes_of_body(most):
        discard_body(request, most)
        return _refusal(request, _too_large(), 413)
    limit_upload(request, most)
    return _search(request)


def _too_large() -> str:
    limit = get_settings().visual_search_max_bytes / 2**20
    return _("The photo is larger than %(limit)s MiB; choose a smaller one.") % {"limit": f"{limit:,.3g}"}


@csrf_protect
def _search(request: HttpRequest) -> HttpResponse:
    form = PhotoForm(request.POST, request.FILES)
    try:
        if was_too_large(request):
            return _refusal(request, _too_large(), 413)
        if not form.is_valid():
            return _refusal(request, form.sentence(), 422)
        query = submit(
            form.cleaned_data["photo"],
            crop=form.crop(),
            version=version_for(request),
            request=request,
            keep=form.cleaned_data["keep"],
        )
    except ImageError as error:
        status = 413 if isinstance(error, ImageTooLarge) else 415 if isinstance(error, ImageTypeNotAllowed) else 422
        return _refusal(request, str(error), status)
    except Busy as busy:
        return _refusal(request, str(busy), 503, retry_after=busy.retry_after)
    status = 201
    try:
        wait(query)
    except Busy:
        # The photo waits for a while longer, and so may the shopper: the page of the results looks again.
        status = 202
    except Expired as expired:
        return _refusal(request, str(expired), 422)
    url = reverse("shop_similarity:visual-search-results", args=[query.pk])
    if _wants_json(request):
        return JsonResponse({"url": url}, status=status)
    response = HttpResponseRedirect(url)
    response.status_code = 303
    return response


def _form(request: HttpRequest, error: str = "", status: int = 200) -> HttpResponse:
    context = form_context(error=error, heading=_("Search by photo"), heading_level=1, is_page=True)
    return render(request, "shop_similarity/visual_search.html", context, status=status)


def _refusal(request: HttpRequest, sentence: str, status: int, retry_after: int | None = None) -> HttpResponse:
    if _wants_json(request):
        response: HttpResponse = JsonResponse({"detail": sentence}, status=status)
    else:
        response = _form(request, sentence, status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def _wants_json(request: HttpRequest) -> bool:
    return request.accepts("application/json") and not request.accepts("text/html")


@never_cache
@transaction.non_atomic_requests
@guarded
@require_safe
@private
def visual_search_results(request: HttpRequest, pk: UUID) -> HttpResponse:
    """What looks like the photo of a query: filtered, leaned and paged by the parameters of :class:`FiltersForm`.

    A request with ``X-Requested-With: fetch`` gets the list alone. 202 while the answer is not there yet; 404, 410, 422
    or 503 with a sentence where there will be none.
    """
    query = find_query(pk)
    context: dict[str, Any] = {"state": "found"}
    status = 200
    try:
        if query is None:
            raise Expired(VisualQuery.Error.GONE.label)
        wait(query, min(REFRESH_SECONDS, get_settings().visual_search_wait_seconds))
        context |= _results_context(request, query)
    except Busy as busy:
        context |= {"state": "waiting", "message": str(busy), "refresh": REFRESH_SECONDS}
        status = 202
    except Expired as expired:
        context |= {"state": "none", "message": str(expired)}
        code = VisualQuery.Error.GONE if query is None else query.error
        status = {VisualQuery.Error.TOO_LATE: 503, VisualQuery.Error.FAILED: 422, "": 410}.get(code, 404)
    is_shops_photo = query is not None and bool(query.product)
    context |= {
        "results_url": request.path,
        "again_url": request.get_full_path(),
        "is_shops_photo": is_shops_photo,
    }
    if request.headers.get("X-Requested-With") == "fetch":
        response = render(request, "shop_similarity/_visual_search_results.html", context, status=status)
    else:
        context |= form_context(heading=_("Search with another photo"), is_page=True)
        response = render(request, "shop_similarity/visual_search_results.html", context, status=status)
    if status == 503:
        response.headers["Retry-After"] = "10"
    return response


def _regions(query: VisualQuery) -> str:
    """The objects for the script, which has the photo, as JSON; empty where there are none."""
    crops = enumerate(regions_of(query), start=1)
    boxes = zip(query.regions or (), crops, strict=True)
    return json.dumps([{"part": box, "name": part_name(*crop)} for box, crop in boxes]) if query.regions else ""


def _results_context(request: HttpRequest, query: VisualQuery) -> dict[str, Any]:
    filters = FiltersForm(request.GET, categories=category_choices(), leanings=has_aspects(query.version))
    filters.full_clean()
    matches = products(query, filters.options())
    # Positions are counted from the first product of a list, so only the first page says what was shown where.
    token = ""  # none yet  # nosec B105
    if filters.page_number == 1:
        shown = [product.pk for product in matches]
        token = tokens.issue(
            version=query.version, surface=Surface.VISUAL_SEARCH, shown=shown, experiment=experiment_for(request)
        )
    url = request.path
    of, part = filters.cleaned_data.get("of"), filters.cleaned_data.get("part") or 0
    nothing_chosen = {name: None for name in filters.fields if name not in ("of", "part")}
    is_full = len(matches) == PAGE_SIZE and filters.page_number < MOST_PAGES
    return {
        "cards": cards_of(matches),
        "filters": filters,
        "objects": choices(find_query(of), part) if of else choices(query, 1),
        "regions": _regions(query),
        "reset_url": f"{url}?{filters.address(**nothing_chosen)}" if filters.is_filtered else "",
        "previous_url": f"{url}?{filters.address(page=filters.page_number - 1)}" if filters.page_number > 1 else "",
        "next_url": f"{url}?{filters.address(page=filters.page_number + 1)}" if is_full else "",
        "token": token,
        "events_url": events_url() if token else "",
        "heading_level": 2,
    }
