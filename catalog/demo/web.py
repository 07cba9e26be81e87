"""The demo's web server: a thread of the demo, on 127.0.0.1."""

import logging
import threading
from pathlib import Path

from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.utils.translation import gettext as _

from catalog.demo.errors import DemoError
from catalog.services.password import open_log
from catalog.services.ports import HOST

PORTS_TRIED = 20


class WebServer:
    """Serves the shop on `port`, or on the next free one."""

    def __init__(self, port: int, log: Path) -> None:
        self._server = _bound(port)
        from catalog.wsgi import application  # reads the static files as they are now, and sets up logging anew

        _log_requests_to(log)
        self._server.set_app(application)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="web", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    def stop(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _bound(port: int) -> ThreadedWSGIServer:
    for candidate in range(port, port + PORTS_TRIED) if port else [0]:
        try:
            return ThreadedWSGIServer((HOST, candidate), WSGIRequestHandler)
        except OSError:
            continue
    raise DemoError(
        _("No port from %(first)d to %(last)d is free. Name another one with --port.")
        % {"first": port, "last": port + PORTS_TRIED - 1}
    )


def _log_requests_to(log: Path) -> None:
    # One line a request would tear the progress bar apart.
    open_log(log).close()
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("django.server", "django.request"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
