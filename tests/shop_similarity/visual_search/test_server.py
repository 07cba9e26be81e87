"""Uploads as a real server takes them: what is refused is not read, and the answer arrives all the same."""

from __future__ import annotations

import os
import time

import pytest
from django.db import connection

from tests.conftest import RUN_FOLDER
from tests.shop_similarity.factories import make_version

pytest.importorskip("gunicorn", reason="gunicorn is not installed: pip install -r requirements-dev.txt")

from tests.support.web_server import WebServer

MIB = 2**20
PATHS = ["/similarity/search/", "/api/similarity/v1/search/image/"]


@pytest.fixture(params=["sync", "gthread"])
def server(transactional_db, servers, settings, request):
    make_version()
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": servers.url_of(connection.settings_dict["NAME"]),
        "REDIS_URL": servers.broker_url,
    }
    log = RUN_FOLDER / f"web-{os.getpid()}-{request.param}.log"
    running = WebServer(settings.BASE_DIR, environment, log, request.param)
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()


def _head(path: str, length: int | None) -> bytes:
    says = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    accepts = "application/json" if "/api/" in path else "text/html"
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accepts}\r\n{says}\r\n"
        "Content-Type: multipart/form-data; boundary=edge\r\n\r\n"
    ).encode()


@pytest.mark.slow
def test_far_too_large_uploads_are_left_unread_and_answered(server):
    for path in PATHS:
        began = time.monotonic()
        answer, taken = server.send_counted(_head(path, 200 * MIB), 200 * MIB)
        assert b" 413 " in answer[:40], answer[:300]
        # What the system's buffers hold of a connection, not what a program reads.
        assert taken < 40 * MIB
        assert time.monotonic() - began < 10
    assert b"choose a smaller one" in server.send(_head(PATHS[0], 200 * MIB), 200 * MIB)


@pytest.mark.slow
def test_what_is_a_little_too_large_is_taken_and_answered(server):
    answer, taken = server.send_counted(_head(PATHS[0], 12 * MIB), 12 * MIB)
    assert taken == 12 * MIB
    assert b" 413 " in answer[:40]
    assert b"choose a smaller one" in answer


@pytest.mark.slow
def test_a_body_in_chunks_has_no_length_and_is_not_read(server):
    for path in PATHS:
        answer = server.send(_head(path, None) + b"400000\r\n", 4 * MIB)
        assert answer[9:12] in (b"400", b"403", b"422"), answer[:300]
