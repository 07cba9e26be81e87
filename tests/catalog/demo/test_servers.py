"""Servers of the user's own: what is said of their addresses."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from catalog.demo.errors import DemoError
from catalog.demo.servers import Servers

SECRET = "hush"


def _said(monkeypatch, name: str, url: str) -> str:
    """All that the demo prints about an address."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody@127.0.0.1:9/none")
    monkeypatch.setenv(name, url)
    said: list[str] = []
    servers = Servers(said.append)
    try:
        servers._try_database() if name == "DATABASE_URL" else servers._try_broker()
    except DemoError as error:
        said.append(str(error))
    assert said
    return " ".join(said)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@127.0.0.1:9/shop",
        f"postgresql://user:a/{SECRET}@127.0.0.1:9/shop",
        f"postgresql://user:a%2F{SECRET}@127.0.0.1:9/shop",
        f"postgresql://127.0.0.1:9/shop?user=u&password={SECRET}",
        f"postgres//user:{SECRET}@127.0.0.1:9/shop",
    ],
)
def test_no_password_of_a_database_is_printed(monkeypatch, url):
    assert SECRET not in _said(monkeypatch, "DATABASE_URL", url)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@127.0.0.1:9/0",
        f"redis://:{SECRET}/b@127.0.0.1:9/0",
        f"redis://127.0.0.1:9/0?password={SECRET}",
        f"amqp://user:{SECRET}@127.0.0.1:9//",
        f"redis//:{SECRET}@127.0.0.1:9/0",
    ],
)
def test_no_password_of_a_broker_is_printed(monkeypatch, url):
    assert SECRET not in _said(monkeypatch, "REDIS_URL", url)


def test_the_host_is_still_named(monkeypatch):
    said = _said(monkeypatch, "REDIS_URL", f"redis://:{SECRET}@127.0.0.1:9/0")
    assert "redis://…@127.0.0.1:9/0" in said


def test_the_state_of_the_servers_names_no_password(monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:{SECRET}@127.0.0.1:9/shop")
    monkeypatch.setenv("REDIS_URL", f"redis://:{SECRET}@127.0.0.1:9/0")
    call_command("services", "status")
    assert SECRET not in capsys.readouterr().out
