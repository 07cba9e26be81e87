"""How long browsers and proxies may keep a list of look-alikes, for the fragment and for the API alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.http import quote_etag

from ..conf import get_settings
from ..photos.addresses import address_seconds
from ..photos.thumbnails import thumbnail_storages
from .experiment_arms import experiment_for


def kept_seconds(images: Iterable[Any]) -> int:
    """How long a list may be kept: its pictures' addresses must hold for as long as a page may stay open.

    Args:
        images: field files of the photos that are shown; None among them are passed over.
    """
    seconds = get_settings().widget_cache_seconds
    files = [image for image in images if image]
    signed = address_seconds([*(file.storage for file in files), *thumbnail_storages()]) if files else None
    return seconds if signed is None else min(seconds, signed // 2)


def say_how_long(request: Any, response: HttpResponse, seconds: int, *, is_personal: bool) -> None:
    """Set ``Cache-Control``: what is for one visitor alone is kept nowhere, what an experiment shows by him alone."""
    if is_personal:
        # Two shoppers with one token would count as one, and so would two views of one shopper. What a host's card says
        # of a visitor is nobody else's.
        patch_cache_control(response, private=True, no_store=True)
    else:
        in_experiment = experiment_for(request) is not None
        patch_cache_control(response, **{"private" if in_experiment else "public": True}, max_age=seconds)


def with_etag(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The response with an ``ETag`` of its content, or 304 where the client has it already."""
    # No part of security: a short name of the content.
    digest = hashlib.sha256(response.content).hexdigest()[:32]
    response.headers["ETag"] = quote_etag(digest)
    # It returns None where it is given none.
    return get_conditional_response(request, etag=response.headers["ETag"], response=response) or response
