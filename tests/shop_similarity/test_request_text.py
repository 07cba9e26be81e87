"""Text that is none, at every door that text comes in by."""

from __future__ import annotations

import pytest
from django.core.exceptions import BadRequest
from django.http import Http404
from django.test import RequestFactory, override_settings

from shop_similarity.request_text import MOST_CHARACTERS, check_request, is_usable
from tests.shop_similarity.factories import make_product, make_version

MIDDLEWARE = "shop_similarity.middleware.UsableTextMiddleware"
# As a cookie writes it.
NUL_COOKIE = '"' + "\\000" * 9 + '"'


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("", True),
        ("Größe \U0001f9e5\r\n\t\x7f", True),
        ("x" * MOST_CHARACTERS, True),
        ("x" * (MOST_CHARACTERS + 1), False),
        ("a\x00", False),
        ("\ud800", False),
        ("\udfff", False),
    ],
)
def test_texts(text, usable):
    assert is_usable(text) == usable


@pytest.mark.parametrize(
    ("environ", "error"),
    [
        ({"PATH_INFO": "/a\x00"}, Http404),
        ({"PATH_INFO": "/" + "a" * 9_000}, Http404),
        ({"QUERY_STRING": "a=%00"}, BadRequest),
        ({"QUERY_STRING": "%00=a"}, BadRequest),
        ({"QUERY_STRING": "a=" + "a" * 9_000}, BadRequest),
        ({"HTTP_COOKIE": f"sessionid={NUL_COOKIE}"}, BadRequest),
        ({"CONTENT_TYPE": "text/plain; charset=unicode_escape", "QUERY_STRING": r"a=\ud800"}, BadRequest),
        ({"CONTENT_TYPE": "text/plain; charset=punycode"}, BadRequest),
    ],
)
def test_requests_that_are_refused(environ, error):
    with pytest.raises(error):
        check_request(RequestFactory().generic("GET", "/", **environ))


@pytest.mark.parametrize("charset", ["utf-8", "UTF8", "iso-8859-1", "us-ascii", "windows-1252"])
def test_charsets_that_browsers_send_are_read(charset):
    content_type = f"text/plain; charset={charset}"
    check_request(RequestFactory().generic("GET", "/", CONTENT_TYPE=content_type, HTTP_COOKIE=f"other={NUL_COOKIE}"))


@pytest.fixture(params=[True, False], ids=["with the middleware", "without it"])
def host(request, settings, db):
    """A shop that uses the plugin's middleware, and one that does not."""
    if not request.param:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != MIDDLEWARE]
    make_version()
    return make_product()


def test_the_plugins_pages_guard_themselves(host, client):
    url = f"/similarity/products/{host.pk}/similar/"
    assert client.get(url).status_code == 200
    assert client.get(f"{url}?options=%00").status_code == 400
    assert client.get(f"{url}?similar_lean={'x' * 9_000}").status_code == 400
    assert client.get("/similarity/products/%00/similar/").status_code == 404
    for path in (url, "/similarity/search/"):
        assert client.get(path, headers={"Cookie": f"sessionid={NUL_COOKIE}"}).status_code == 400
        assert client.get(path, CONTENT_TYPE="text/plain; charset=utf-7").status_code == 400
    body = rb'{"token": "x", "events": [{"kind": "\ud800"}]}'
    assert client.post("/similarity/events/", body, content_type="text/plain").status_code == 400


@override_settings(ROOT_URLCONF="catalog.urls")
@pytest.mark.parametrize("path", ["/search/?q=%00", "/?page=%00", "/basket/?%00=1"])
def test_the_shops_own_pages_are_guarded_by_the_middleware(db, client, path):
    response = client.get(path)
    assert response.status_code == 400
    assert "can&#x27;t read" in response.content.decode() or "can't read" in response.content.decode()


def test_files_with_names_that_none_can_have(db, client):
    for name in ("%00", "x" * 300, "9" * 9_000):
        assert client.get(f"/media/{name}").status_code == 404
