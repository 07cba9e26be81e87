"""The demo's Postgres and Valkey, unless the user named servers of their own."""

import re
from collections.abc import Callable
from urllib.parse import unquote

import dj_database_url
import psycopg
import redis
from django.conf import settings
from django.db import connections
from django.utils.translation import gettext as _

from catalog.demo.errors import DemoError
from catalog.services import shop
from catalog.services.errors import ServiceError
from catalog.services.server import EmbeddedServer


class Servers:
    """What the shop stands on. `start` also makes this process use it."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self._embedded: list[EmbeddedServer] = []

    def start(self) -> None:
        """Start the embedded servers or try the user's own. Raises DemoError where one cannot be used."""
        try:
            if shop.own_database_url() is None:
                self._start(shop.postgres(report=self.note))
            else:
                self._try_database()
            if shop.own_broker_url() is None:
                self._start(shop.valkey(report=self.note))
            else:
                self._try_broker()
        except ServiceError as error:
            raise DemoError(str(error)) from error
        # Settings were read before the servers had an address.
        for connection in connections.all(initialized_only=True):
            connection.close()
        settings.DATABASES["default"].update(
            {
                name: value
                for name, value in dj_database_url.parse(shop.database_url()).items()
                if name in ("HOST", "PORT", "NAME", "USER", "PASSWORD")
            }
        )
        settings.CELERY_BROKER_URL = shop.broker_url()

    def stop(self) -> list[str]:
        """Stop the embedded servers; returns a sentence for each that would not."""
        problems = []
        for server in reversed(self._embedded):
            try:
                server.stop()
            except ServiceError as error:
                problems.append(str(error))
        return problems

    def _start(self, server: EmbeddedServer) -> None:
        self._embedded.append(server)
        started = server.start()
        text = _("%(title)s on port %(port)d") if started else _("%(title)s on port %(port)d (was running already)")
        self.note(text % {"title": server.title, "port": server.port})

    def _try_database(self) -> None:
        url = shop.own_database_url()
        shown = _without_password(url)
        try:
            with psycopg.connect(url, connect_timeout=5) as connection:
                known = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone()
        except (psycopg.Error, ValueError) as error:
            raise DemoError(
                _("DATABASE_URL (%(url)s) cannot be used: %(error)s")
                % {"url": shown, "error": _scrubbed(str(error).strip(), url)}
            ) from error
        if not known:
            raise DemoError(
                _("The Postgres of DATABASE_URL (%(url)s) lacks pgvector. Install it there.") % {"url": shown}
            )
        self.note(_("your Postgres: %(url)s") % {"url": shown})

    def _try_broker(self) -> None:
        url = shop.own_broker_url()
        shown = _without_password(url)
        if url.startswith(("redis://", "rediss://", "unix://")):
            try:
                redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5).ping()
            except (redis.RedisError, ValueError) as error:
                raise DemoError(
                    _("The broker %(url)s cannot be used: %(error)s")
                    % {"url": shown, "error": _scrubbed(str(error), url)}
                ) from error
        self.note(_("your broker: %(url)s") % {"url": shown})


def _without_password(url: str) -> str:
    """What may be printed of an address: neither user nor password, nor options, among which a password may be."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "…"
    _user, at, place = rest.rpartition("@")
    return f"{scheme}://{'…@' if at else ''}{place.partition('?')[0]}"


def _scrubbed(text: str, url: str) -> str:
    """A library's error without the pieces of a password that it repeats from an address that it can't read."""
    password = url.rpartition("@")[0].split("://")[-1].partition(":")[2]
    found = {password, *re.split(r"[:/?#@]", password), *re.findall(r"password=([^&]+)", url)}
    found |= {unquote(piece) for piece in found}
    for secret in sorted((piece for piece in found if len(piece) > 1), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text
