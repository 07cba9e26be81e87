#!/usr/bin/env python
"""Django's command line for the reference shop."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalog.settings")
    try:
        from django.core.management import execute_from_command_line
        from django.db import OperationalError
    except ImportError as error:
        raise SystemExit(
            "Django is not installed for this Python. Run `make setup`, then use `.venv/bin/python manage.py`."
        ) from error
    try:
        if sys.argv[1:2] == ["runserver"]:
            # Its reloader would print the traceback of a missing database again and again.
            stop_without_database()
        execute_from_command_line(sys.argv)
    except OperationalError as error:
        if "--traceback" not in sys.argv:
            stop_without_database(error)
        raise


def stop_without_database(error: Exception | None = None) -> None:
    """End with one sentence if the shop's own Postgres is not running."""
    from catalog.services.shop import why_unreachable

    if sentence := why_unreachable():
        raise SystemExit(sentence) from error


if __name__ == "__main__":
    main()
