"""How many requests one client may send: the settings ``SEARCH_RATE``, ``UPLOAD_RATE`` and ``EVENT_RATE``.

A client is who REST framework says it is: the user who is logged in, else the address, read with the shop's
``NUM_PROXIES``. Counts are kept in Django's cache alone, under a keyed hash.
"""

from __future__ import annotations

from django.utils.crypto import salted_hmac
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle
from rest_framework.views import APIView

from ..conf import get_settings


class _Throttle(SimpleRateThrottle):
    # Name of the setting.
    scope = ""

    def get_rate(self) -> str | None:
        return getattr(get_settings(), self.scope)

    def get_cache_key(self, request: Request, view: APIView) -> str:
        user = request.user
        client = f"user {user.pk}" if user and user.is_authenticated else f"address {self.get_ident(request)}"
        digest = salted_hmac("shop_similarity.api.throttles", client, algorithm="sha256").hexdigest()
        return f"shop_similarity:{self.scope}:{digest}"


class SearchThrottle(_Throttle):
    """Searches and all that only reads."""

    scope = "search_rate"


class UploadThrottle(_Throttle):
    """Searches with a photo, which cost a worker's time."""

    scope = "upload_rate"


class EventThrottle(_Throttle):
    """Impressions, clicks and additions to the basket."""

    scope = "event_rate"
