"""The searches of the API."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import models, transaction
from django.http import Http404
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from .. import visual_search
from ..catalogue import NotAKeyError, get_catalogue, product_key, segment_key
from ..catalogue.stock import is_sold_out
from ..conf import get_settings
from ..feedback import tokens
from ..models import ModelVersion, Surface, VisualQuery
from ..photos.decoding import ImageError
from ..search import similar_products, similar_to_several
from ..search.aspects import has_aspects
from ..search.options import SearchOptions
from ..storefront.caching import kept_seconds, say_how_long, with_etag
from ..storefront.cards import card_of, cards_of
from ..storefront.context import events_url
from ..storefront.experiment_arms import experiment_for, version_for
from . import documentation
from .base import SimilarityAPIView
from .documentation import SEARCH_TAG, operation, problems
from .fields import crop_edges
from .pages import page_links
from .parameters import MAX_OFFSET, BasketParameters, ImageForm, SearchParameters, SimilarParameters, search_options
from .parsers import PhotoParser
from .problems import Busy, ImageUnusable, LeanUnavailable, NoActiveModel, TooLarge, Unprocessable
from .serializers import BasketSerializer, ImageSearchSerializer, ResultSerializer, SimilarProductsSerializer
from .throttles import UploadThrottle

KEY_HELP = (
    "Key of the product. One with other characters than letters, digits and `_-.:@+` is best written as a tilde and "
    "the base64url of its UTF-8, without padding: slashes and dots do not get through every server."
)
PRODUCT_KEY = OpenApiParameter("id", OpenApiTypes.STR, OpenApiParameter.PATH, description=KEY_HELP)


class SimilarProductsView(SimilarityAPIView):
    @operation(
        operation_id="similar_products",
        summary="Products that look like one product",
        description=(
            "Most similar first. Only products that the shop shows are found, and only for a product that it shows. "
            "The list is empty while the product has no embedding yet. Pages can be followed by `next`."
        ),
        tags=[SEARCH_TAG],
        parameters=[PRODUCT_KEY, SimilarParameters],
        responses={200: SimilarProductsSerializer, **problems(400, 404, 422, 503)},
        examples=documentation.SIMILAR_PRODUCTS,
    )
    def get(self, request: Request, id: str) -> Response:
        values = SimilarParameters.read(request.query_params)
        options = search_options(values)
        products = _shown_products([id])
        if not products:
            raise Http404(_("There is no such product."))
        version = _searched_version(request)
        matches = []
        if not values["alternatives"] or is_sold_out(products[0]):
            matches = _find(version, options, partial(similar_products, products[0], version=version))
        key = str(products[0].pk)
        answer = _answer(request, version, Surface.API, options, matches, product_id=key)
        return _list_response(request, {**answer, "product": key}, matches)


class BasketView(SimilarityAPIView):
    @operation(
        operation_id="similar_to_several_products",
        summary="Products that look like several products at once",
        description=(
            "For a basket or a wish list: what is similar to any of them, without themselves. Products that the shop "
            "does not show any more are passed over and named in `unknown`."
        ),
        tags=[SEARCH_TAG],
        parameters=[BasketParameters],
        responses={200: BasketSerializer, **problems(400, 404, 422, 503)},
        examples=documentation.BASKET,
    )
    def get(self, request: Request) -> Response:
        values = BasketParameters.read(request.query_params)
        options = search_options(values)
        keys = list(dict.fromkeys(values["product"]))
        products = _shown_products(keys)
        if not products:
            raise Http404(_("The shop shows none of these products."))
        version = _searched_version(request)
        matches = _find(version, options, partial(similar_to_several, products, version=version))
        known = {str(product.pk) for product in products}
        answer = {
            **_answer(request, version, Surface.BASKET, options, matches),
            "products": [str(product.pk) for product in products],
            "unknown": [key for key in keys if str(_key(key)) not in known],
        }
        return _list_response(request, answer, matches)


# The photo must be committed before a worker can see it, also where the shop wraps requests in transactions.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class ImageSearchView(SimilarityAPIView):
    parser_classes = [PhotoParser]
    throttle_classes = [UploadThrottle]

    @operation(
        operation_id="search_by_image",
        summary="Products that look like a photo",
        description=(
            "The photo is checked, made small and handed to a worker; the answer comes as soon as the worker has "
            "embedded it. It is kept nowhere: after the answer only its vector is there, for as long as `expires_at` "
            "says."
        ),
        tags=[SEARCH_TAG],
        request={"multipart/form-data": ImageForm},
        responses={200: ImageSearchSerializer, **problems(400, 413, 415, 422, 503)},
        examples=[
            documentation.request_example(
                "Part of a photo",
                {"image": "(the file)", "crop": "0.1,0.2,0.9,0.8", "limit": 12, "explain": True},
                "multipart/form-data",
            ),
            *documentation.IMAGE_SEARCH,
        ],
    )
    def post(self, request: Request) -> Response:
        form = request.data
        assert not isinstance(form, list)
        values = ImageForm.read(form)
        options = search_options(values)
        largest = get_settings().visual_search_max_bytes
        if values["image"].size > largest:
            raise TooLarge(_("The photo is larger than %(largest)d bytes: save it smaller.") % {"largest": largest})
        version = _searched_version(request)
        _check_lean(version, options)
        try:
            # An answer names no objects, so a client that says no part means the whole photo.
            crop = crop_edges(values.get("crop")) or visual_search.WHOLE
            query = visual_search.submit(values["image"], crop=crop, version=version, request=request)
            visual_search.wait(query)
        except ImageError as error:
            raise _unusable(error) from error
        except visual_search.Busy as error:
            raise _busy(error) from error
        except visual_search.Expired as error:
            raise ImageUnusable(str(error), field="image") from error
        return Response(_photo_answer(request, query, options, page_values=request.data))


class ImageSearchResultsView(SimilarityAPIView):
    @operation(
        operation_id="image_search_results",
        summary="More results of a search by photo",
        description=(
            "Pages through the results of a search by photo, or filters them, without sending the photo again; until "
            "`expires_at`."
        ),
        tags=[SEARCH_TAG],
        parameters=[
            OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH, description="`id` of the search."),
            SearchParameters,
        ],
        responses={200: ImageSearchSerializer, **problems(400, 404, 422, 503)},
        examples=documentation.IMAGE_SEARCH,
    )
    def get(self, request: Request, id: str) -> Response:
        values = SearchParameters.read(request.query_params)
        options = search_options(values)
        try:
            query = visual_search.find_query(uuid.UUID(id))
        except ValueError:
            query = None
        if query is None:
            raise Http404(_("There is no such search by photo, or it has expired: send the photo again."))
        try:
            visual_search.wait(query, 0)
        except visual_search.Expired as error:
            raise Http404(str(error)) from error
        except visual_search.Busy as error:
            raise _busy(error) from error
        return Response(_photo_answer(request, query, options, page_values=request.query_params))


def _shown_products(keys: list[str]) -> list[models.Model]:
    """Those of the products that may be asked for, in the order of their keys in the list; one query."""
    values = list(dict.fromkeys(value for key in keys if (value := _key(key)) is not None))
    if not values:
        return []
    by_key = {product.pk: product for product in get_catalogue().products_to_ask_with().filter(pk__in=values)}
    return [by_key[value] for value in values if value in by_key]


def _key(text: str) -> Any:
    """The key that a text stands for; None where it can be none."""
    try:
        return product_key(segment_key(text))
    except NotAKeyError:
        return None


def _searched_version(request: Request) -> ModelVersion:
    version = version_for(request)
    if version is None:
        raise NoActiveModel
    return version


def _check_lean(version: ModelVersion, options: SearchOptions) -> None:
    if options.lean is not None and not has_aspects(version):
        raise LeanUnavailable(field="lean")


def _find(
    version: ModelVersion, options: SearchOptions, search: Callable[..., list[models.Model]]
) -> list[models.Model]:
    """The products of a page and one more, which tells whether there is a next page."""
    _check_lean(version, options)
    try:
        return search(options=replace(options, limit=options.limit + 1))
    except ValueError as error:
        # A filter that this shop does not have, or a category that can be none.
        raise Unprocessable(str(error)) from error


def _answer(
    request: Request,
    version: ModelVersion,
    surface: str,
    options: SearchOptions,
    matches: list[models.Model],
    *,
    product_id: str | None = None,
    page_url: str | None = None,
    page_values: Any = None,
) -> dict[str, Any]:
    has_next = len(matches) > options.limit and options.offset + options.limit <= MAX_OFFSET
    matches = matches[: options.limit]
    # Their pictures are asked for at once.
    cards_of(matches)
    token = tokens.issue(
        version=version,
        surface=surface,
        product_id=product_id,
        shown=[str(product.pk) for product in matches],
        experiment=experiment_for(request),
    )
    return {
        "version": version.name,
        "query_id": str(tokens.read(token).id) if token else None,
        "token": token or None,
        "events_url": _events_url(request) if token else None,
        **page_links(request, options.limit, options.offset, has_next, url=page_url, values=page_values),
        "results": ResultSerializer(matches, many=True, context={"request": request}).data,
    }


def _events_url(request: Request) -> str | None:
    """Where a browser's beacons go: they can send neither JSON's content type nor a CSRF token to the API's address."""
    path = events_url()
    return request.build_absolute_uri(path) if path else None


def _list_response(request: Request, answer: dict[str, Any], matches: list[models.Model]) -> Response:
    """The answer, which others may keep where it names no list for events."""
    response = Response(answer)
    if answer["token"] is None:
        seconds = kept_seconds(card_of(product).image for product in matches)
        say_how_long(request, response, seconds, is_personal=False)
        response.add_post_render_callback(partial(with_etag, request._request))
    return response


def _photo_answer(request: Request, query: VisualQuery, options: SearchOptions, page_values: Any) -> dict[str, Any]:
    matches = _find(query.version, options, partial(visual_search.products, query))
    url = request.build_absolute_uri(reverse("shop_similarity_api:image-search-results", kwargs={"id": query.pk}))
    expires = query.created_at + timedelta(seconds=get_settings().visual_search_keep_seconds)
    answer = _answer(
        request, query.version, Surface.VISUAL_SEARCH, options, matches, page_url=url, page_values=page_values
    )
    return {"id": str(query.pk), "expires_at": expires, **answer}


def _unusable(error: ImageError) -> ImageUnusable:
    return ImageUnusable(str(error), field="crop" if isinstance(error, visual_search.CropError) else "image")


def _busy(error: visual_search.Busy) -> Busy:
    busy = Busy(str(error))
    busy.wait = error.retry_after
    return busy
