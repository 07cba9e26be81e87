"""Staff with some permissions and a shop with look-alikes."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client

from catalog.models import Product
from tests.shop_similarity.shops import make_shop

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def forget_what_was_cached():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def staff(db) -> Callable[..., Client]:
    """staff("shop_similarity.add_merchandisingrule", ...) -> a client logged in with these permissions alone."""

    def make(*permissions: str, csrf: bool = False) -> Client:
        user = User.objects.create_user(f"staff-{next(_numbers)}", password="x", is_staff=True)
        for permission in permissions:
            app, codename = permission.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        client = Client(enforce_csrf_checks=csrf)
        client.force_login(user)
        client.user = user
        return client

    return make


@pytest.fixture
def shop(db) -> dict[str, Product]:
    """Five products; seen from Asked, they are less similar one after the other."""
    return make_shop(
        {
            "Asked": {"a": 0.9},
            "Near": {"a": 0.8},
            "Middle": {"a": 0.6},
            "Far": {"a": 0.4},
            "Farthest": {"a": 0.2},
        }
    )
