"""`make audit` tells a package that is vulnerable from a list of vulnerabilities that nobody could ask."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.conf import settings

FAULT = {
    "id": "PYSEC-2026-1",
    "summary": "It lets everybody in.",
    "affected": [
        {
            "package": {"name": "leaky", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


@pytest.fixture
def osv() -> Iterator[Callable[[dict, int], str]]:
    """Starts a list of vulnerabilities that gives one answer to all questions; returns its address."""
    servers = []

    def start(answer: dict, status: int = 200) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1/query"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def audit(folder: Path, address: str, *more: str) -> subprocess.CompletedProcess:
    requirements = folder / "requirements.txt"
    requirements.write_text("leaky==1.0\n")
    asked = ["--vulnerability-service", "osv", "--osv-url", address, "--timeout", "5", "--cache-dir", str(folder)]
    about = ["--requirement", str(requirements), "--no-deps", "--disable-pip"]
    return subprocess.run(
        [sys.executable, ".ci/audit.py", *asked, *about, *more],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_known_vulnerability_fails(tmp_path, osv):
    done = audit(tmp_path, osv({"vulns": [FAULT]}))
    assert done.returncode == 1
    assert "leaky 1.0: PYSEC-2026-1; mended in 1.1" in done.stdout


def test_none_passes(tmp_path, osv):
    done = audit(tmp_path, osv({}))
    assert (done.returncode, done.stdout.strip()) == (0, "No known vulnerability in 1 packages.")


def test_a_list_that_cannot_be_reached_fails_nothing_and_is_said(tmp_path):
    done = audit(tmp_path, "http://127.0.0.1:9/v1/query")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT AUDITED: the list of known vulnerabilities can't be reached")


def test_nor_does_one_that_is_broken(tmp_path, osv):
    done = audit(tmp_path, osv({}, 503))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT AUDITED")


def test_a_wrong_call_fails(tmp_path, osv):
    assert audit(tmp_path, osv({}), "--no-such-option").returncode == 1
