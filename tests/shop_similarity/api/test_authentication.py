"""Who may try passwords at the API, and how often."""

from __future__ import annotations

import base64

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher
from django.contrib.auth.models import User
from django.core.cache import cache
from rest_framework.authentication import BaseAuthentication, BasicAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed

from shop_similarity.api.base import SimilarityAPIView, StaffAPIView

API = "/api/similarity/v1/"
PUBLIC = ["products/1/similar/", "products/similar/?product=1", "search/image/00000000-0000-4000-8000-000000000001/"]


class CountingHasher(MD5PasswordHasher):
    """Counts how often a password is hashed."""

    algorithm = "counting"
    hashed = 0

    def encode(self, password, salt):
        CountingHasher.hashed += 1
        return super().encode(password, salt)


class HeaderToken(BaseAuthentication):
    """A shop's own way to know a program."""

    def authenticate(self, request):
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        if kind != "Token":
            return None
        if value != "right":
            raise AuthenticationFailed
        return User.objects.get(username="robot"), value

    def authenticate_header(self, request):
        return "Token"


@pytest.fixture(autouse=True)
def hashed(settings, db):
    settings.PASSWORD_HASHERS = [f"{__name__}.CountingHasher"]
    cache.clear()
    User.objects.create_superuser("robot", password="secret")
    CountingHasher.hashed = 0
    yield CountingHasher
    cache.clear()


@pytest.fixture
def tokens(monkeypatch):
    """The API of a shop that has chosen another way to know its users."""
    chosen = [HeaderToken, SessionAuthentication, BasicAuthentication]
    for view in (SimilarityAPIView, StaffAPIView):
        monkeypatch.setattr(view, "authentication_classes", chosen)
    from shop_similarity.api import events, operation, search

    for module in (events, operation, search):
        for view in vars(module).values():
            if isinstance(view, type) and issubclass(view, SimilarityAPIView):
                monkeypatch.setattr(view, "authentication_classes", chosen)


def _basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def _configure(settings, **values) -> None:
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **values}


@pytest.mark.parametrize("path", PUBLIC)
def test_where_anybody_may_ask_no_password_is_hashed(client, hashed, path):
    for password in ("wrong", "secret"):
        assert client.get(API + path, headers=_basic("robot", password)).status_code == 404
    for path in ("events/", "search/image/"):
        assert client.post(API + path, headers=_basic("robot", "wrong")).status_code in (400, 415)
    assert hashed.hashed == 0


def test_wrong_passwords_are_refused_before_they_are_hashed(client, hashed, settings):
    _configure(settings, LOGIN_RATE="3/hour")
    for number in range(3):
        assert client.get(API + "status/", headers=_basic("robot", f"guess {number}")).status_code == 403
    done = hashed.hashed
    assert done >= 3
    for number in range(20):
        response = client.get(API + "versions/", headers=_basic("robot", f"guess {number}"))
        assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 3_600
    assert response.json()["type"].endswith(":throttled")
    # Nor does the right one help, or another name, or an account of one's own.
    assert client.get(API + "status/", headers=_basic("robot", "secret")).status_code == 429
    client.force_login(User.objects.create_user("shopper"))
    assert client.get(API + "status/", headers=_basic("somebody", "secret")).status_code == 429
    assert hashed.hashed == done
    # What takes no password goes on.
    assert client.get(API + PUBLIC[0], headers=_basic("robot", "wrong")).status_code == 404
    client.logout()
    # Who asks from elsewhere is let in, and so is a browser that is logged in.
    assert client.get(API + "status/", headers=_basic("robot", "secret"), REMOTE_ADDR="192.0.2.7").status_code == 200
    client.force_login(User.objects.get(username="robot"))
    assert client.get(API + "status/").status_code == 200


def test_right_passwords_do_not_count(client, settings):
    _configure(settings, LOGIN_RATE="2/hour")
    for _ in range(6):
        assert client.get(API + "status/", headers=_basic("robot", "secret")).status_code == 200
    for status in (403, 403, 429):
        assert client.get(API + "status/", headers=_basic("robot", "wrong")).status_code == status


def test_the_shops_own_way_to_know_its_users_goes_on(client, hashed, tokens, settings):
    _configure(settings, LOGIN_RATE="2/hour")
    right, wrong = ({"Authorization": f"Token {value}"} for value in ("right", "wrong"))
    assert client.get(API + "status/").status_code == 401
    for _ in range(3):
        assert client.get(API + "status/", headers=right).status_code == 200
        assert client.get(API + "products/1/similar/", headers=right).status_code == 404
    assert client.get(API + "status/", headers=_basic("robot", "secret")).status_code == 200
    for path, status in (
        ("products/1/similar/", 401),
        ("status/", 401),
        ("products/1/similar/", 429),
        ("status/", 429),
    ):
        assert client.get(API + path, headers=wrong).status_code == status


def test_a_session_needs_the_token_of_its_csrf_cookie_in_the_header(hashed):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="robot"))
    body = {"token": "x", "events": [{"kind": "impression"}]}
    assert client.post(API + "events/", body, content_type="application/json").status_code == 403
    client.get("/similarity/search/")
    headers = {"X-CSRFToken": client.cookies["csrftoken"].value}
    assert client.post(API + "events/", body, content_type="application/json", headers=headers).status_code == 422
