"""``manage.py activate_model``: roll a model version out."""

from __future__ import annotations

import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from ... import database, rollout
from ...models import ModelVersion
from ..versions import find_version

_LOOK_SECONDS = 0.5
# It rests for so many times as long as counting what is missing took.
_REST = 20
_SILENCE_SECONDS = 60


class Command(BaseCommand):
    help = (
        "Has a model version take the place of the active one. It must be better on the same photos, and the workers "
        "switch to it as soon as it has embeddings of all that the active version shows."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="Name of a candidate or of a retired version.")
        parser.add_argument(
            "--force", action="store_true", help="Whatever the comparison with the active version says."
        )
        parser.add_argument("--note", default="", metavar="TEXT", help="Who wants it and why; kept with the version.")
        when = parser.add_mutually_exclusive_group()
        when.add_argument("--wait", action="store_true", help="Show the progress until the workers have switched.")
        when.add_argument("--now", action="store_true", help="Switch in this command, or say what is missing.")
        parser.add_argument(
            "--incomplete",
            action="store_true",
            help="With --now: although pages lose look-alikes until everything is embedded.",
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        if options["incomplete"] and not options["now"]:
            raise CommandError("--incomplete goes with --now: without it, the workers wait until nothing is missing.")
        version = find_version(options["name"])
        if version.state == ModelVersion.State.ACTIVE:
            self._say(options, f"{version.name} is the active version already.")
            return
        values = {"force": options["force"], "note": options["note"]}
        try:
            if options["now"]:
                rollout.activate(version, incomplete=options["incomplete"], **values)
                done = True
            else:
                done = rollout.request_activation(version, **values)
        except rollout.RolloutError as error:
            raise CommandError(str(error)) from error
        if done:
            self._say(options, f"{version.name} is the active version now.")
            return
        if options["force"]:
            self._say(options, version.activation_note)
        if options["wait"]:
            self._wait(version, options)
            return
        lacking = rollout.coverage(version).lacking
        self._say(
            options,
            f"{version.name} becomes the active version when its embeddings are complete; photos to go: {lacking}. "
            "A running worker embeds them and switches; `manage.py model_versions` shows how far it is.",
        )

    def _wait(self, version: ModelVersion, options: dict[str, Any]) -> None:
        coverage = rollout.coverage(version)
        shown, last = coverage.shown, coverage.lacking
        moved, next_count = time.monotonic(), 0.0
        with tqdm(
            total=shown,
            initial=shown - last,
            unit=" photos",
            disable=options["verbosity"] == 0,
            file=self.stderr,
            mininterval=0.2 if sys.stderr.isatty() else 10,
        ) as bar:
            while True:
                now = ModelVersion.objects.filter(pk=version.pk).first()
                if now is None:
                    raise CommandError(f"{version.name} was deleted meanwhile.")
                if now.state == ModelVersion.State.ACTIVE:
                    break
                if now.activation_requested_at is None:
                    raise CommandError(f"{version.name} is not activated. {now.activation_note}")
                if time.monotonic() < next_count:
                    time.sleep(_LOOK_SECONDS)
                    continue
                began = time.monotonic()
                gap = rollout.coverage(version)
                next_count = time.monotonic() + _REST * (time.monotonic() - began)
                bar.update(shown - gap.lacking - bar.n)
                if gap.lacking != last:
                    moved, last = time.monotonic(), gap.lacking
                if gap.loses_too_much and not gap.lacking:
                    raise CommandError(
                        " ".join(rollout.coverage(version).obstacles())
                        + " The wish stays: the workers switch when they have succeeded."
                    )
                if time.monotonic() - moved > _SILENCE_SECONDS:
                    moved = time.monotonic()
                    bar.write(
                        f"Nothing has happened for {_SILENCE_SECONDS} s. Does a worker run? "
                        f"`manage.py embed_products --model {version.name}` embeds and switches, too.",
                        file=self.stderr,
                    )
                time.sleep(_LOOK_SECONDS)
        self._say(options, f"{version.name} is the active version now.")

    def _say(self, options: dict[str, Any], text: str) -> None:
        if options["verbosity"] > 0:
            self.stdout.write(text)
