"""What comes from outside in place of a product's key: one answer wherever it comes in, and never a failure."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.urls import reverse

from shop_similarity.admin.comparison import _keys
from shop_similarity.admin.product_choice import is_key
from shop_similarity.catalogue import NotAKeyError, product_key
from shop_similarity.feedback import tokens
from shop_similarity.feedback.events import BadEvent, record_events
from shop_similarity.models import Surface
from shop_similarity.search import searched_version
from shop_similarity.workers.management.commands.similar_products import _find_product
from tests.shop_similarity.factories import make_product, make_version

# By name, for some of them can't be shown.
NOT_KEYS = {
    "word": "not-a-key",
    "hexadecimal": "0x1",
    "fraction": "1.5",
    "exponent": "1e3",
    "endless": "inf",
    "NUL": "\x00",
    "NUL behind a key": "1\x00",
    "half of a pair": "\ud800",
    "larger than the column": "9" * 30,
    "smaller than the column": "-" + "9" * 30,
    "longer than Python reads": "9" * 5_000,
    "UUID": str(uuid.uuid4()),
    "wrong UUID": "12345678-1234-1234-1234-12345678901",
}


def _url(name: str, key: str) -> str:
    return reverse(name, args=["KEY"]).replace("KEY", quote(key, safe="", errors="surrogatepass"))


def _refuses(error: type[Exception], call: Callable[[], Any]) -> bool:
    with pytest.raises(error):
        call()
    return True


def _pinned(client: Client, key: str) -> int:
    body = f"target={quote(key, errors='surrogatepass')}"
    url = _url("admin:shop_similarity_pin", str(make_product().pk))
    return client.post(url, body, content_type="application/x-www-form-urlencoded").status_code


def _recorded(key: str) -> None:
    text = tokens.issue(version=searched_version(), surface=Surface.WIDGET, product_id=1, shown=[1, 2])
    record_events(tokens.read(text), [("click", key)], None)


# What a caller does with a value that is no key, by where it comes in.
CALLERS: dict[str, Callable[[Client, str], bool]] = {
    "function": lambda client, key: _refuses(NotAKeyError, lambda: product_key(key)),
    "API": lambda client, key: client.get(_url("shop_similarity_api:similar-products", key)).status_code == 404,
    "widget": lambda client, key: client.get(_url("shop_similarity:similar-products", key)).status_code == 404,
    "admin page": lambda client, key: client.get(_url("admin:shop_similarity_product", key)).status_code == 404,
    "admin post": lambda client, key: _pinned(client, key) == (400 if "\0" in key else 404),
    "admin search": lambda client, key: (
        client.get(f"{reverse('admin:shop_similarity_products')}?q={quote(key, errors='surrogatepass')}").status_code
        == (400 if "\0" in key else 200)
    ),
    "admin comparison": lambda client, key: _keys(key) == ([], [key]),
    "admin form": lambda client, key: not is_key(key),
    "event": lambda client, key: _refuses(BadEvent, lambda: _recorded(key)),
    "command": lambda client, key: _find_product(key) is None,
}


@pytest.mark.django_db
@pytest.mark.parametrize("caller", CALLERS)
def test_what_is_no_key_is_no_product(admin_client, caller):
    make_product()
    make_version()
    answers = {name: CALLERS[caller](admin_client, key) for name, key in NOT_KEYS.items()}
    assert answers == dict.fromkeys(NOT_KEYS, True)


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["", None, [], {}, float("inf"), float("nan"), object()])
def test_what_is_no_text_is_no_key(value):
    with pytest.raises(NotAKeyError):
        product_key(value)


@pytest.mark.django_db
def test_a_key_is_what_the_product_has():
    product = make_product()
    assert product_key(product.pk) == product_key(str(product.pk)) == product_key(f" {product.pk} ") == product.pk
