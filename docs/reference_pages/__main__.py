"""Write the pages below docs/reference anew: ``make reference``."""

from __future__ import annotations

import os

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalog.settings")
    django.setup()
    from .pages import FOLDER, written

    FOLDER.mkdir(exist_ok=True)
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
