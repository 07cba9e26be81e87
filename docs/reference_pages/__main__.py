"""Write the pages below docs/reference anew: ``make reference``. ``--check`` only says whether they are right."""

from __future__ import annotations

import os
import sys

import django


def main(arguments: list[str]) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "catalog.settings")
    django.setup()
    from .pages import FOLDER, written

    pages = written()
    if arguments == ["--check"]:
        stale = [file.name for file, text in pages.items() if not file.is_file() or file.read_text("utf-8") != text]
        if stale:
            print(f"Not what the code has: {', '.join(stale)}. Run `make reference`.", file=sys.stderr)  # noqa: T201
        return len(stale)
    FOLDER.mkdir(exist_ok=True)
    for file, text in pages.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
