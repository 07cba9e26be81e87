"""The plugin's middleware under ASGI: no thread, the same work."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.core.handlers.base import BaseHandler
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path

from shop_similarity.middleware import ExperimentMiddleware, UsableTextMiddleware

NAMES = [f"shop_similarity.middleware.{kind.__name__}" for kind in (UsableTextMiddleware, ExperimentMiddleware)]


async def page(request):
    request.shop_similarity_visitor.mattered = True
    request.shop_similarity_visitor.bucket()
    return HttpResponse(str(threading.get_ident()))


urlpatterns = [path("page/", page)]


def test_no_request_changes_its_thread(settings, monkeypatch):
    import asgiref.sync

    settings.MIDDLEWARE = NAMES
    settings.ROOT_URLCONF = __name__
    handler = BaseHandler()
    handler.load_middleware(is_async=True)
    hops = []
    call = asgiref.sync.SyncToAsync.__call__

    async def counted(self, *args, **kwargs):
        hops.append(self.func)
        return await call(self, *args, **kwargs)

    monkeypatch.setattr(asgiref.sync.SyncToAsync, "__call__", counted)

    async def ask(cookie: str = "") -> HttpResponse:
        request = RequestFactory().get("/page/")
        request.COOKIES["sessionid"] = cookie
        return await handler.get_response_async(request)

    response = asyncio.run(ask())
    assert (response.status_code, response.content.decode()) == (200, str(threading.get_ident()))
    assert response.cookies["similarity_bucket"].value
    assert response["Vary"] == "Cookie"
    assert [hop for hop in hops if "shop_similarity" in getattr(hop, "__module__", "")] == []
    assert asyncio.run(ask("a\0b")).status_code == 400


@pytest.mark.parametrize("kind", [UsableTextMiddleware, ExperimentMiddleware])
def test_both_ways_are_known(kind):
    assert kind.sync_capable and kind.async_capable
    assert kind(lambda request: HttpResponse("page"))(RequestFactory().get("/")).content == b"page"
