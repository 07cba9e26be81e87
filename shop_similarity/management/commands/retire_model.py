"""``manage.py retire_model``: stop embedding for a version, or delete it altogether."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ... import database, rollout
from ..versions import find_version


class Command(BaseCommand):
    help = (
        "Retires a candidate or the version to go back to: photos are no longer embedded for it, and the workers "
        "remove its embeddings. Its weights stay, so that `activate_model` can bring it back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="Name of the version.")
        parser.add_argument(
            "--delete",
            action="store_true",
            help="Delete a candidate or a retired version now, with its embeddings and its weights file.",
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        version = find_version(options["name"])
        try:
            if options["delete"]:
                rollout.delete(version)
            else:
                rollout.retire(version)
        except rollout.RolloutError as error:
            raise CommandError(str(error)) from error
        if options["verbosity"] > 0:
            self.stdout.write(
                f"{options['name']} is deleted, its weights too."
                if options["delete"]
                else f"{version.name} is retired. The workers remove its embeddings; its weights stay."
            )
