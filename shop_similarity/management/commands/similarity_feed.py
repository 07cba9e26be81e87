"""``manage.py similarity_feed``: look-alikes of all products as JSON lines or CSV."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from ...catalogue import NotAKeyError, get_catalogue, product_key
from ...embedding.magnitudes import count
from ...engine_errors import EngineDown
from ...models import ModelVersion
from ...search import searched_version
from ...search.options import SearchOptions, names_of_attributes
from ...storefront.feed import FORMATS, PAGE, FeedOptions, Line, feed_keys, feed_lines, written

_SECONDS_BETWEEN_SIGNS = 5


class Command(BaseCommand):
    help = "Writes every product with its look-alikes, one JSON object or some rows of CSV each."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=list(FORMATS), default="jsonl", help="jsonl or csv (jsonl).")
        parser.add_argument("--output", type=Path, metavar="FILE", help="Write here; with --after, at its end.")
        parser.add_argument("--limit", type=int, default=8, metavar="N", help="Look-alikes of each product (8).")
        parser.add_argument("--products", type=int, metavar="N", help="Stop after so many products.")
        parser.add_argument("--after", metavar="KEY", help="Go on behind this product, where a run has ended.")
        parser.add_argument(
            "--since", type=_moment, metavar="TIME", help="Only what may have changed since: 2027-01-31T04:00:00Z."
        )
        parser.add_argument("--alternatives", action="store_true", help="Only products that are sold out.")
        parser.add_argument("--same", default="", metavar="NAMES", help="Only look-alikes of the same brand, say.")
        parser.add_argument("--other", default="", metavar="NAMES", help="Only look-alikes of other brands, say.")
        parser.add_argument("--details", action="store_true", help="With name, address and picture of look-alikes.")
        parser.add_argument("--base-url", metavar="URL", help="Where the shop is, for --details: https://shop.example")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["details"] and not options["base_url"]:
            raise CommandError("--details needs --base-url, for addresses in an e-mail have to be whole.")
        version = searched_version()
        if version is None:
            raise CommandError("No model version is active yet: run `manage.py calibrate_mildnet --activate`.")
        try:
            search = SearchOptions(
                limit=options["limit"],
                same=names_of_attributes(options["same"]),
                other=names_of_attributes(options["other"]),
            )
            self._after = None if options["after"] is None else product_key(options["after"])
        except (ValueError, NotAKeyError) as error:
            raise CommandError(str(error)) from error
        base = options["base_url"] or ""
        feed = FeedOptions(
            search, options["since"], options["alternatives"], options["details"], lambda url: urljoin(base, url)
        )
        try:
            self._write(feed, version, options)
        except (KeyboardInterrupt, EngineDown, DatabaseError, OSError) as error:
            last = "" if self._after is None else f" Go on with --after {self._after}"
            raise CommandError(f"{' '.join(str(error).split()) or 'Interrupted.'}{last}") from error

    def _write(self, feed: FeedOptions, version: ModelVersion, options: dict[str, Any]) -> None:
        goes_on = self._after is not None
        with ExitStack() as stack:
            output: Any = self.stdout
            write: Any = partial(output.write, ending="")
            if options["output"]:
                mode = "a" if goes_on else "w"
                output = stack.enter_context(options["output"].open(mode, encoding="utf-8", newline=""))
                write = output.write
            lines = self._lines(feed, version, options["products"])
            for piece in written(lines, options["format"], details=options["details"], with_header=not goes_on):
                write(piece)
                # A process that is killed leaves whole lines behind, and no fewer than it said.
                output.flush()

    def _lines(self, feed: FeedOptions, version: ModelVersion, most: int | None) -> Iterator[Line]:
        """Line after line; ``_after`` is the key of the last one that was written."""
        about = count(get_catalogue().visible_products()).told
        begun = told_at = time.monotonic()
        done, after = 0, self._after
        while keys := feed_keys(feed, version, after, PAGE):
            # A run takes hours in a large shop, and another version may have become active meanwhile.
            version = searched_version() or version
            for line in feed_lines(feed, version, keys):
                if most is not None and done >= most:
                    return
                yield line
                done, self._after = done + 1, line.product
                if time.monotonic() - told_at >= _SECONDS_BETWEEN_SIGNS:
                    told_at = time.monotonic()
                    rate = done / (told_at - begun)
                    self.stderr.write(
                        f"{done} of {about} products, {rate:.0f} a second; --after {self._after} goes on from here"
                    )
            after = self._after = keys[-1]
        self.stderr.write(f"{done} products in {time.monotonic() - begun:.0f} seconds")


def _moment(text: str) -> datetime:
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise ArgumentTypeError(f"{text!r} is no time: write 2027-01-31T04:00:00Z.")
    return moment if timezone.is_aware(moment) else timezone.make_aware(moment)
