"""One demo at a time for one data folder."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fasteners
from django.utils.translation import gettext as _

from catalog.demo.errors import DemoError
from catalog.services.password import write_private


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the demo's lock; the system frees it when the demo dies. Raises DemoError if another demo holds it."""
    lock = fasteners.InterProcessLock(data / "demo.lock")
    if not lock.acquire(blocking=False):
        running = _read(data)
        raise DemoError(
            _("The demo runs already%(where)s (process %(pid)s). End that one first, with Ctrl-C.")
            % {
                "where": _(" at %(url)s") % {"url": running["url"]} if running.get("url") else "",
                "pid": running.get("pid", "?"),
            }
        )
    try:
        announce(data, None)
        yield
    finally:
        (data / "demo.json").unlink(missing_ok=True)
        lock.release()


def announce(data: Path, url: str | None) -> None:
    """Note for others who runs the demo and where the shop is served."""
    write_private(data / "demo.json", json.dumps({"pid": os.getpid(), "url": url}) + "\n")


def _read(data: Path) -> dict:
    try:
        return json.loads((data / "demo.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
