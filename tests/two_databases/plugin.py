"""Lets tests that were written for one database run in two: ``pytest -p tests.two_databases.plugin``."""

from __future__ import annotations

import django.db
import pytest
from django.db import connections, transaction
from django.utils.connection import ConnectionProxy

# What tests look into is the shop's; the plugin's own modules may not import these names, which another test holds.
django.db.connection = ConnectionProxy(connections, "shop")
transaction.DEFAULT_DB_ALIAS = "shop"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marks = [mark.kwargs for mark in item.iter_markers("django_db")]
        if not marks or "databases" not in marks[0]:
            item.add_marker(pytest.mark.django_db(**{**(marks[0] if marks else {}), "databases": "__all__"}), False)
