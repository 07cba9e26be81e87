"""Every address of the shop and the plugin, with every parameter it may have, under text that no program means.

The addresses are those that Django knows, the parameters of the API those of its schema, so that what is added later is
tried as well. Whatever comes, the answer is never 500.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import ClassVar
from unittest.mock import patch
from urllib.parse import quote, unquote_to_bytes

import django.http.request
import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.handlers import wsgi
from django.http import QueryDict
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from pgvector import HalfVector

from shop_similarity.api.schema import own_schema
from shop_similarity.feedback import tokens
from shop_similarity.models import Experiment, MerchandisingRule, ModelVersion, OutboxEntry, VisualQuery
from shop_similarity.request_text import check_values
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

_words = str.split

NUL, HALF_A_PAIR, UNKNOWN = "%00", "%ED%A0%80", "%FF%FE"
HOSTILE = {
    "NUL": NUL,
    "NUL within": f"1{NUL}",
    "half of a surrogate pair": HALF_A_PAIR,
    "no UTF-8": UNKNOWN,
    "beyond bigint": "9" * 19,
    "a number that Python reads": "9" * 4_000,
    "a number that Python does not read": "9" * 5_000,
    "a digit that is none": quote("²"),
    "digits of another script": quote("٣"),
    "beyond float": "1e999",
    "not a number": "nan",
    "below zero": "-1",
    "a long name": "x" * 300,
    "over-long": "x" * 20_000,
    "a line break": "%0D%0Ax",
    "wildcards": "%25_%5C",
    "nothing": "",
}
# Parameters and fields by the beginning of the address; the longest one counts. Those of the API are in its schema.
NAMES = {
    "": "q sort page next",
    "similarity/": (
        "options limit layout heading_level page similar_lean similar_category similar_price_max category price_min "
        "price_max lean"
    ),
    "admin/": (
        "q p o all e _popup _changelist_filters next term app_label model_name field_name state when outcome "
        "kind__exact version__id__exact state__exact architecture priority__exact id pk__in product_id old new seed "
        "products"
    ),
}
FORMS = {
    "": "",
    "similarity/search/": "left top right bottom photo csrfmiddlewaretoken",
    "basket/": "quantity csrfmiddlewaretoken",
    "admin/login/": "username password next",
    "admin/": (
        "note force target rule entry version next action _selected_action select_across index kind product_id "
        "category target_product_id target_category position boost starts_at_0 starts_at_1 ends_at_0 ends_at_1 is_on "
        "name control treatment share post attribute _preview"
    ),
    "api/similarity/v1/search/image/": "image crop limit offset category price_min lean diversity explain",
}
# Pages of Django's own that have nothing to do with the plugin; what they do with text is Django's affair.
FOREIGN = ("admin/auth/", "admin/catalog/", "admin/password_change/", "admin/jsi18n/", "admin/r/", "admin/logout/")


@pytest.fixture
def keys(db, settings) -> dict[str, str]:
    """A shop in which every address leads somewhere: values of the parts of paths by their names."""
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "VISUAL_SEARCH_WAIT_SECONDS": 0,
        **dict.fromkeys(("SEARCH_RATE", "FEED_RATE", "UPLOAD_RATE", "EVENT_RATE", "LOGIN_RATE")),
    }
    cache.clear()
    return fill()


def fill() -> dict[str, str]:
    made = [make_product(price=3) for _number in range(4)]
    version = make_version()
    other = make_version("candidate", ModelVersion.State.CANDIDATE)
    store_vectors(version, make_photos_without_files(made), random_vectors(4))
    MerchandisingRule.objects.create(kind="hide", product_id=made[0].pk, target_product_id=made[1].pk)
    Experiment.objects.create(name="one", control=version, treatment=other)
    OutboxEntry.objects.create(version=version, image_id=1, product_id=made[0].pk)
    query = VisualQuery.objects.create(
        version=version, vector=HalfVector(random_vectors(1)[0]), answered_at=timezone.now()
    )
    return {
        "slug": made[0].slug,
        "pk": str(made[0].pk),
        "id": str(made[0].pk),
        "object_id": str(made[0].pk),
        "name": version.name,
        "uuid": str(query.pk),
        "path": "none/1-0.jpg",
        "app_label": "shop_similarity",
        "url": "x/",
        "version": str(version.pk),
        "number": "1",
    }


def addresses(patterns=None, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each address as a template with the names of its parts."""
    for each in get_resolver().url_patterns if patterns is None else patterns:
        pattern = each.pattern
        names = list(getattr(pattern, "converters", None) or pattern.regex.groupindex)
        route = str(pattern)
        for name in names:
            for kind in ("str", "int", "slug", "uuid", "path"):
                route = route.replace(f"<{kind}:{name}>", f"{{{name}}}")
        if "(?P" in route:
            route = {"^media/(?P<path>.+)$": "media/{path}"}.get(route, "")
            if not route:
                continue
        route = prefix + route
        if route.startswith(FOREIGN):
            continue
        if isinstance(each, URLResolver):
            yield from addresses(each.url_patterns, route)
        elif isinstance(each, URLPattern):
            yield route, names


def belongs(table: dict[str, str], route: str) -> list[str]:
    """The names of the longest address in the table that the route begins with."""
    if route.startswith("api/"):
        return table.get(route, "").split()
    return table[max((start for start in table if route.startswith(start)), key=len)].split()


def filled(route: str, keys: dict[str, str], **changes: str) -> str:
    values = dict(keys, **changes)
    if "search/{pk}" in route or "search/image/{id}" in route:
        values = {**values, "pk": values["uuid"], "id": values["uuid"]} | changes
    elif route.startswith("admin/shop_similarity/modelversion/"):
        values = {**values, "pk": values["version"]} | changes
    return "/" + route.format(**values)


class Attempts:
    """Sends requests and remembers those that failed."""

    def __init__(self) -> None:
        self.count = 0
        self.failures: list[str] = []
        self.statuses: set[int] = set()
        self.staff, self.anybody = Client(raise_request_exception=False), Client(raise_request_exception=False)
        self.staff.force_login(User.objects.create_superuser(f"root-{uuid.uuid4()}"))

    def get(self, path: str, query: str = "", **extra) -> int:
        # The address as a server hands it on: only the path is decoded, and as Latin-1.
        environ = {"PATH_INFO": _decoded(path), "QUERY_STRING": query}
        response = self._client(path).generic("GET", "/", **environ, **extra)
        self._note("GET", path, query, response)
        return response.status_code

    def post(self, path: str, body: bytes, content_type: str) -> int:
        response = self._client(path).generic("POST", "/", body, content_type, PATH_INFO=_decoded(path))
        self._note("POST", path, repr(body[:60]) + content_type[-40:], response)
        return response.status_code

    def _client(self, path: str) -> Client:
        return self.staff if "admin/" in path or "version" in path or "status" in path else self.anybody

    def _note(self, method: str, path: str, more: str, response) -> None:
        self.count += 1
        self.statuses.add(response.status_code)
        if response.status_code >= 500 and response.status_code != 503:
            error = response.exc_info[1] if getattr(response, "exc_info", None) else ""
            self.failures.append(f"{response.status_code} {method} {path[:90]} {more[:90]} {error!r:.120}")


def _decoded(path: str) -> str:
    return unquote_to_bytes(path).decode("latin-1")


def query_names(route: str) -> list[str]:
    names = list(belongs(NAMES, route)) if not route.startswith("api/") else []
    for path, operations in own_schema()["paths"].items():
        if path.lstrip("/") == route:
            names += [
                parameter["name"]
                for operation in operations.values()
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "query"
            ]
    return names


# What the door refuses whatever the field, or what differs little from another value.
NOT_ALONE = {
    "half of a surrogate pair",
    "no UTF-8",
    "over-long",
    "NUL within",
    "a line break",
    "wildcards",
    "below zero",
}


def values(alone: bool) -> list[str]:
    return [value for name, value in HOSTILE.items() if not alone or name not in NOT_ALONE]


class ReadNames(QueryDict):
    """A query or a form that remembers which of its names were asked for."""

    seen: ClassVar[set[str]] = set()

    def __init__(self, *args, **kwargs) -> None:
        # It asks itself for each name that it is filled with.
        seen, ReadNames.seen = ReadNames.seen, set()
        super().__init__(*args, **kwargs)
        ReadNames.seen = seen

    def __getitem__(self, key):
        self.seen.add(key)
        return super().__getitem__(key)

    def __contains__(self, key):
        self.seen.add(key)
        return super().__contains__(key)

    def _getlist(self, key, *args, **kwargs):
        self.seen.add(key)
        return super()._getlist(key, *args, **kwargs)

    def __iter__(self):
        return iter(self.keys())

    def keys(self):
        self.seen.update(super().keys())
        return super().keys()

    def lists(self):
        # The door looks at all of them, whatever the page asks for.
        if sys._getframe(1).f_code is not check_values.__code__:
            self.seen.update(super().keys())
        return super().lists()


def names_read(names: list[str], send: Callable[[str], int]) -> list[str]:
    """Those of the names that a page looks for: what becomes of the others does not hang on their values."""
    ReadNames.seen = seen = set()
    with patch.object(wsgi, "QueryDict", ReadNames), patch.object(django.http.request, "QueryDict", ReadNames):
        # A page that refuses one of them may not come to the next.
        if names and send("&".join(f"{name}=1" for name in names)) >= 400:
            for name in names:
                send(f"{name}=1")
    return [name for name in names if name in seen]


FORM = "application/x-www-form-urlencoded"


def try_paths(attempts: Attempts, keys: dict[str, str]) -> None:
    for route, names in addresses():
        attempts.get(filled(route, keys))
        for name in names:
            for value in HOSTILE.values():
                attempts.get(filled(route, keys, **{name: value}))


def try_parameters(attempts: Attempts, keys: dict[str, str], alone: bool = False) -> None:
    for route, _names in addresses():
        path, names = filled(route, keys), query_names(route)
        if alone:
            names = names_read(names, lambda query, path=path: attempts.get(path, query))
        for value in values(alone):
            for group in [[name] for name in names] if alone else [names]:
                attempts.get(path, "&".join([*(f"{name}={value}" for name in group), f"{value}=1"]))


def try_parameters_alone(attempts: Attempts, keys: dict[str, str]) -> None:
    try_parameters(attempts, keys, alone=True)


def try_forms(attempts: Attempts, keys: dict[str, str], alone: bool = False) -> None:
    for route, _names in addresses():
        path, names = filled(route, keys), belongs(FORMS, route)
        if attempts.post(path, b"", FORM) == 405:
            continue
        if alone and "search/" not in route:
            names = names_read(names, lambda body, path=path: attempts.post(path, body.encode(), FORM))
        for value in values(alone) if names else ():
            for group in [[name] for name in names] if alone else [names]:
                if "search/" in route:
                    body = multipart(group, unquote_to_bytes(value))
                    attempts.post(path, body, "multipart/form-data; boundary=edge")
                else:
                    body = "&".join(f"{name}={value}" for name in group).encode()
                    attempts.post(path, body, FORM)


def try_forms_alone(attempts: Attempts, keys: dict[str, str]) -> None:
    try_forms(attempts, keys, alone=True)


def multipart(names: list[str], value: bytes) -> bytes:
    parts = [b'--edge\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), value) for n in names]
    return b"".join(parts) + b"--edge--\r\n"


JSON_TEXTS = ['"\\u0000"', '"\\ud800"', '"a\\udc00b"', "9" * 30, "1e999", '"' + "x" * 30_000 + '"', "null", "[]", "{}"]


def try_json(attempts: Attempts, keys: dict[str, str]) -> None:
    token = tokens.issue(version=ModelVersion.objects.active(), surface="api", shown=[keys["pk"]])
    shapes = {
        "/similarity/events/": EVENTS,
        "/api/similarity/v1/events/": EVENTS,
        "/api/similarity/v1/versions/candidate/activate/": ['{"note": %s}', '{"force": %s}', "{%s: 1}", "%s"],
    }
    for path, bodies in shapes.items():
        for body in bodies:
            for text in JSON_TEXTS:
                sent = body.replace("TOKEN", json.dumps(token)).replace("%s", text)
                for encoding in ("utf-8", "utf-16") if path.startswith("/similarity") else ("utf-8",):
                    attempts.post(path, sent.encode(encoding), "application/json")


EVENTS = [
    '{"token": %s, "events": [{"kind": "impression"}]}',
    '{"token": TOKEN, "events": [{"kind": %s}]}',
    '{"token": TOKEN, "events": [{"kind": "click", "product": %s}]}',
    '{"token": TOKEN, "events": [{"kind": "click", %s: "1"}]}',
    '{"token": TOKEN, "events": %s}',
    "{%s: 1}",
    "%s",
]

# Django itself fails on "hex" and "idna", before any middleware is asked.
CHARSETS = ["punycode", "unicode_escape", "raw_unicode_escape", "utf-7", "utf-16", "\\"]

COOKIES = ["sessionid", "csrftoken", "similarity_bucket", "django_language", "messages"]
# As a cookie writes any byte, by its octal number.
COOKIE_TEXTS = ['"' + "\\000" * 9 + '"', '"\\355\\240\\200aaaaaaaa"', "x" * 9_000, "9" * 40]
HEADERS = _words(
    "ACCEPT_LANGUAGE ACCEPT IF_NONE_MATCH IF_MODIFIED_SINCE REFERER ORIGIN X_REQUESTED_WITH AUTHORIZATION "
    "X_FORWARDED_FOR X_CSRFTOKEN RANGE USER_AGENT SEC_GPC"
)
HEADER_TEXTS = ["\0", "\xed\xa0\x80", "x" * 9_000, "9" * 40, ",;q="]
# What Python decodes these to: half of a pair, or nothing, or an error.
ESCAPED = "\\ud800+2AA-"


def try_headers(attempts: Attempts, keys: dict[str, str], alone: bool = False) -> None:
    for turn, (route, _names) in enumerate(addresses()):
        path = filled(route, keys)
        for text in COOKIE_TEXTS:
            for cookie in COOKIES:
                attempts.get(path, HTTP_COOKIE=f"{cookie}={text}")
        for number, text in enumerate(HEADER_TEXTS):
            if not alone:
                attempts.get(path, **{f"HTTP_{header}": text for header in HEADERS})
                continue
            # Each address gets each header with one of the texts, and the next address with the next.
            for place, header in enumerate(HEADERS):
                if (place + turn) % len(HEADER_TEXTS) == number:
                    attempts.get(path, **{f"HTTP_{header}": text})


def try_headers_alone(attempts: Attempts, keys: dict[str, str]) -> None:
    try_headers(attempts, keys, alone=True)


def try_charsets(attempts: Attempts, keys: dict[str, str]) -> None:
    for route, _names in addresses():
        path = filled(route, keys)
        for charset in CHARSETS:
            attempts.get(path, f"limit=1&q={ESCAPED}", CONTENT_TYPE=f"text/plain; charset={charset}")
            body = f"quantity={ESCAPED}&note={ESCAPED}".encode()
            attempts.post(path, body, f"application/x-www-form-urlencoded; charset={charset}")
            body = multipart(["quantity", "note"], ESCAPED.encode())
            attempts.post(path, body, f"multipart/form-data; boundary=edge; charset={charset}")


TRIES = [try_paths, try_parameters, try_forms, try_json, try_headers, try_charsets]
# Each field by itself: another one may be looked at first, and hide it.
LONG_TRIES = [try_parameters_alone, try_forms_alone, try_headers_alone]


LONG = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("attempt", [*TRIES, *(pytest.param(each, marks=LONG) for each in LONG_TRIES)])
def test_nothing_fails(keys, attempt):
    attempts = Attempts()
    attempt(attempts, keys)
    assert not attempts.failures, "\n".join([f"{len(attempts.failures)} of {attempts.count}", *attempts.failures[:40]])
    # Most of them got to a view.
    assert attempts.count > 100


def test_names_that_a_page_reads_are_told_from_others(keys):
    attempts = Attempts()
    path = filled("search/", keys)
    assert names_read(["q", "nobody"], lambda query: attempts.get(path, query)) == ["q"]
