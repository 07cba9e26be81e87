"""The Content-Security-Policy header of every page: nothing inline, nothing from elsewhere."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse


def policy() -> str:
    """The header's value; photos may come from the host of MEDIA_URL if that is another one."""
    media = urlsplit(settings.MEDIA_URL)
    images = ["'self'", "data:"] + ([f"{media.scheme or 'https'}://{media.netloc}"] if media.netloc else [])
    return "; ".join(
        [
            "default-src 'self'",
            f"img-src {' '.join(images)}",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        ]
    )


class ContentSecurityPolicyMiddleware:
    """Adds the policy to responses that bring none of their own."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.policy = policy()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self.policy)
        return response
