"""``manage.py sync_engine``: fill the search engine beside Postgres, or bring it up to date."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from ... import database
from ...conf import get_settings
from ...embedding.engines import copies, get_engine, is_beside
from ...embedding.engines.copies import Progress
from ...engine_errors import EngineDown
from ...models import EngineCopy, ModelVersion


class Command(BaseCommand):
    help = (
        "Tells the search engine beside Postgres (ENGINE) of all embeddings that it has not heard of: of all where it "
        "is new or empty, else of those that changed. Interrupted, it goes on where it was; workers do the same by "
        "themselves."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", metavar="VERSION", help="Name of one model version; all live ones by default.")
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="Drop the engine's copy and make it anew; searches fall back meanwhile.",
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        live = ModelVersion.objects.live()
        versions = list(live.filter(name=options["model"]) if options["model"] else live)
        if options["model"] and not versions:
            known = ", ".join(live.values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no live model version {options['model']!r}. Known: {known}.")
        if not is_beside():
            copies.feed()
            self.stdout.write("ENGINE is pgvector: searches ask the index in Postgres, and nothing is to be synced.")
            return
        began = time.monotonic()
        try:
            engine = get_engine()
            engine.check()
            for version in versions if options["rebuild"] else ():
                if (row := copies.wanted_copy(version.pk)) is not None:
                    # What does not answer can't be filled, and its copy may be whole.
                    engine.state(copies.copy_of(row))
                    copies.give_up(version.pk)
            told = self._feed([version.pk for version in versions], options["verbosity"])
        except EngineDown as error:
            raise CommandError(f"{error} Nothing is lost: run the command again when it answers.") from error
        except KeyboardInterrupt as error:
            raise CommandError("Interrupted. Nothing is lost: run the command again to go on.") from error
        self.stdout.write(f"The engine was told of {told} photos, in {time.monotonic() - began:.1f} s.")
        rows = {row.version_id: row for row in EngineCopy.objects.filter(is_wanted=True, engine=get_settings().engine)}
        for version in versions:
            row = rows.get(version.pk)
            is_ready = row is not None and row.filled_at
            state = "ready" if is_ready else "being filled by somebody else"
            self.stdout.write(f"{version.name}: {state}{f' ({row.name})' if row else ''}")

    def _feed(self, versions: list[int], verbosity: int) -> int:
        with tqdm(unit="photo", disable=verbosity == 0) as bar:

            def show(progress: Progress) -> None:
                bar.set_description(progress.version)
                bar.total = progress.told + progress.left
                bar.update(progress.told - bar.n)

            return copies.feed(versions=versions, progress=show)
