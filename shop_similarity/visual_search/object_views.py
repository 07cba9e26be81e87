"""Choosing among the objects on a photo, without JavaScript too, and looking for those on a product's own photo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from uuid import UUID

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST, require_safe

from ..catalogue import NotAKeyError, get_catalogue, product_key, segment_key
from ..guards import guarded
from ..models import VisualQuery
from ..photos.contents import read_bytes
from ..photos.errors import ImageError
from ..photos.limits import catalogue_limits
from ..rate_limits import seconds_to_wait
from ..storefront.experiment_arms import version_for
from .forms import form_context
from .privacy import private
from .queue import Busy, Expired, find_query, has_photo, kept_photo, regions_of, submit, submit_part
from .uploads import WHOLE, Crop, picture_of

_PICTURE_SIDE = 240


class _Unreadable(Exception):
    """The storage does not give a product's photo."""


@dataclass(frozen=True)
class Part:
    """One thing that can be searched with.

    Attributes:
        number: from 1; 0 for the whole photo.
        name: in words.
        picture_url: address of its picture.
        is_current: whether the results on the page are those of it.
    """

    number: int
    name: str
    picture_url: str
    is_current: bool


def parts_of(query: VisualQuery) -> list[Crop]:
    """What can be searched with: the whole photo at 0, then its objects."""
    return [WHOLE, *regions_of(query)]


def choices(query: VisualQuery | None, current: int) -> dict[str, Any] | None:
    """What the list of objects is written with; None where there is nothing to choose, or the photo is gone."""
    if query is None or not query.regions or not has_photo(query):
        return None
    crops = parts_of(query)
    return {
        "action": reverse("shop_similarity:visual-search-part", args=[query.pk]),
        "parts": [
            Part(
                number,
                part_name(number, crop),
                reverse("shop_similarity:visual-search-picture", args=[query.pk, number]),
                number == current,
            )
            for number, crop in enumerate(crops)
        ],
    }


def part_name(number: int, crop: Crop) -> str:
    """A part in words that tell it from the others without seeing it."""
    if number == 0:
        return _("Whole photo")
    across, down = (crop[0] + crop[2]) / 2, (crop[1] + crop[3]) / 2
    columns = (_("left"), _("middle"), _("right"))
    rows = (_("top"), _("middle"), _("bottom"))
    return _("Object %(number)d (%(row)s, %(column)s)") % {
        "number": number,
        "row": rows[min(2, int(down * 3))],
        "column": columns[min(2, int(across * 3))],
    }


def _counted(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A request that has a photo embedded counts as an upload."""

    @never_cache
    @transaction.non_atomic_requests
    @guarded
    @require_POST
    @private
    @csrf_protect
    @wraps(view)
    def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if seconds := seconds_to_wait(request, "upload_rate"):
            sentence = _("These were many photos in a short time; please try again in %(seconds)d seconds.")
            return refusal(request, sentence % {"seconds": seconds}, 429, seconds)
        try:
            return view(request, **kwargs)
        except (ImageError, _Unreadable):
            return refusal(request, _("Nothing can be found in this picture."), 422)
        except Busy as busy:
            return refusal(request, str(busy), 503, busy.retry_after)
        except Expired as expired:
            return refusal(request, str(expired), 410)

    return wrapped


def refusal(request: HttpRequest, sentence: str, status: int, retry_after: int | None = None) -> HttpResponse:
    """A page with a sentence."""
    context = {"state": "none", "message": sentence, "results_url": request.path}
    context |= form_context(heading=_("Search with another photo"), is_page=True)
    response = render(request, "shop_similarity/visual_search_results.html", context, status=status)
    if retry_after is not None:
        response.headers["Retry-After"] = str(retry_after)
    return response


def _to_results(query: VisualQuery, **parameters: Any) -> HttpResponse:
    url = reverse("shop_similarity:visual-search-results", args=[query.pk])
    response = HttpResponseRedirect(f"{url}?{urlencode(parameters)}" if parameters else url)
    response.status_code = 303
    return response


@_counted
def choose_part(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Search with a part of a photo that is kept: the field ``part``, 0 for all of it. Leads to the results (303).

    404 where there is no such part; 410 where the photo is gone; 429 and 503 as for a photo.
    """
    query = find_query(pk)
    if query is None:
        raise Expired(VisualQuery.Error.GONE.label)
    crops = parts_of(query)
    number = request.POST.get("part", "")
    if not (number.isdecimal() and len(number) < 3 and int(number) < len(crops)):
        raise Http404(_("The photo has no such part."))
    return _to_results(submit_part(query, crops[int(number)]), of=query.pk, part=int(number))


@never_cache
@transaction.non_atomic_requests
@guarded
@require_safe
@private
def picture_of_part(request: HttpRequest, pk: UUID, number: int) -> HttpResponse:
    """A small JPEG of a part, 0 for the whole photo; 404 where the photo is not kept, or not any more."""
    query = find_query(pk)
    photo = kept_photo(query) if query is not None else None
    crops = parts_of(query) if query is not None else []
    if photo is None or number >= len(crops):
        raise Http404(_("The photo has no such part."))
    response = HttpResponse(picture_of(photo, crops[number], _PICTURE_SIDE), content_type="image/jpeg")
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


@_counted
def in_the_picture(request: HttpRequest, pk: str) -> HttpResponse:
    """Look for the objects on the first photo of a product that the shop shows. Leads to the results (303).

    The product itself is not among them. 404 where there is no such product or it has no photo; 422 where the photo
    can't be used; 429 and 503 as for a shopper's photo.
    """
    catalogue = get_catalogue()
    try:
        product = catalogue.products_to_ask_with().filter(pk=product_key(segment_key(pk))).first()
    except NotAKeyError:
        product = None
    photos = catalogue.product_photos(product) if product is not None else []
    if product is None or not photos:
        raise Http404(_("There is no such product."))
    try:
        photo = read_bytes(photos[0].file, catalogue_limits().max_bytes)
    # Storages raise what they like.
    except Exception as error:
        raise _Unreadable from error
    return _to_results(submit(photo, version=version_for(request), keep=True, product=catalogue.shown_key(product)))
