"""The plugin's limits of how often one client may ask, as REST framework wants to be told of them."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from ..rate_limits import seconds_to_wait


class _Throttle(BaseThrottle):
    # Name of the setting.
    rate = ""

    def allow_request(self, request: Request, view: APIView) -> bool:
        self.seconds = seconds_to_wait(request, self.rate)
        return not self.seconds

    def wait(self) -> int:
        return self.seconds


class SearchThrottle(_Throttle):
    """Searches and all that only reads."""

    rate = "search_rate"


class FeedThrottle(_Throttle):
    """Pages of the feed, each of which is as many searches as it has products."""

    rate = "feed_rate"


class UploadThrottle(_Throttle):
    """Searches with a photo, which cost a worker's time."""

    rate = "upload_rate"


class EventThrottle(_Throttle):
    """Impressions, clicks and additions to the basket."""

    rate = "event_rate"
