"""``manage.py rollback_model``: back to the version that was active before."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import database, rollout
from ...models import ModelVersion

_PATIENCE_SECONDS = 10.0


class Command(BaseCommand):
    help = (
        "Goes back to the model version that was active before. Its embeddings were kept complete, so pages show its "
        "look-alikes at once. The two versions change places: a second call goes forward again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--note", default="", metavar="TEXT", help="Who wants it and why; kept with the version.")
        parser.add_argument(
            "--now",
            action="store_true",
            help=f"Do not wait up to {_PATIENCE_SECONDS:.0f} s for photos that were saved in the last moments.",
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        standby = ModelVersion.objects.standby()
        lacking = 0
        if standby is not None:
            ends = time.monotonic() + (0 if options["now"] else _PATIENCE_SECONDS)
            began = time.monotonic()
            while (lacking := rollout.coverage(standby).lacking) and time.monotonic() < ends:
                # Counting takes longer the more photos there are.
                time.sleep(min(max(0.1, 5 * (time.monotonic() - began)), max(ends - time.monotonic(), 0)))
                began = time.monotonic()
        try:
            version = rollout.roll_back(note=options["note"])
        except rollout.RolloutError as error:
            raise CommandError(str(error)) from error
        if options["verbosity"] > 0:
            self.stdout.write(f"{version.name} is the active version again.")
        if lacking:
            self.stderr.write(
                f"Photos that wait to be embedded for it: {lacking}. A running worker takes them up, or run "
                "`manage.py embed_products`."
            )
