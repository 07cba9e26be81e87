"""Whether what a template made is for one visitor alone, and so nothing for a cache that others share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest


class _Cookies(dict[str, str]):
    """A request's cookies, which remember that somebody looked."""

    was_read = False

    def __getitem__(self, name: str) -> str:
        self.was_read = True
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.was_read = True
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.was_read = True
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self.was_read = True
        return super().__iter__()

    def items(self) -> Any:
        self.was_read = True
        return super().items()

    def values(self) -> Any:
        self.was_read = True
        return super().values()


class VisitorWatch:
    """Notices that a host's templates look at who asks: the session with its user, cookies, or a CSRF token.

    To be made before they are rendered. What is taken from elsewhere (an address, a header) goes unnoticed; it is on
    the host to name it in ``Vary``.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._cookies = request.COOKIES = _Cookies(request.COOKIES)

    def has_seen_visitor(self) -> bool:
        session = getattr(self._request, "session", None)
        # Set by django.middleware.csrf.get_token, which the templates' tag calls.
        has_token = "CSRF_COOKIE_NEEDS_UPDATE" in self._request.META
        return has_token or self._cookies.was_read or bool(getattr(session, "accessed", False))
