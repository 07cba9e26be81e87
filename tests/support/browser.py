"""Finding and starting the system's Chromium."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The shell without windows does the same pages for half to two thirds of the processor time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Playwright's loop in the main thread makes Django refuse the ORM there, though nothing runs concurrently.
UNSAFE = "DJANGO_ALLOW_ASYNC_UNSAFE"


def find_browser() -> str | None:
    """The path of a Chromium: CHROMIUM, or one on the PATH; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def open_browser(path: str) -> Iterator["Browser"]:
    """A headless browser, closed at the end."""
    from playwright.sync_api import sync_playwright

    before = os.environ.get(UNSAFE)
    os.environ[UNSAFE] = "true"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            try:
                yield browser
            finally:
                browser.close()
    finally:
        os.environ.pop(UNSAFE)
        if before is not None:
            os.environ[UNSAFE] = before
