"""What is known of a visitor: a bucket that a thousandth of all visitors share, and what they wish."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from django.http import HttpRequest

COOKIE = "similarity_bucket"
BUCKETS = 1000


def wants_privacy(request: HttpRequest) -> bool:
    """Whether the browser asks not to be followed: Global Privacy Control or Do Not Track."""
    return request.META.get("HTTP_SEC_GPC") == "1" or request.META.get("HTTP_DNT") == "1"


@dataclass
class Visitor:
    """The visitor of one request, as the middleware sees them.

    Attributes:
        known: the bucket in their cookie, or None.
        drawn: the bucket that was drawn in this request, which their cookie shall hold; or None.
        mattered: whether the page depends on the bucket.
    """

    known: int | None
    drawn: int | None = None
    mattered: bool = False

    @classmethod
    def of(cls, request: HttpRequest) -> Visitor:
        value = request.COOKIES.get(COOKIE, "")
        return cls(int(value) if re.fullmatch("[0-9]{1,3}", value) else None)

    def bucket(self) -> int:
        """The visitor's bucket, 0 to 999; drawn now if they have none."""
        if self.known is not None:
            return self.known
        if self.drawn is None:
            self.drawn = secrets.randbelow(BUCKETS)
        return self.drawn
