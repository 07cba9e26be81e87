"""``manage.py explore_triplets``: what is in a set of triplets, before it is trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.training.commands.console import ProgressBars
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.extras import require
from shop_similarity.training.triplets.exploration import Exploration, Products, explore
from shop_similarity.training.triplets.leakage import Overlap, overlap, usable


class Command(BaseCommand):
    help = (
        "Reports on triplets before training: counts, class balance, sizes of photos, duplicates, and photos that "
        "stand in both the training and the validation set. Every photo is opened; nothing is changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--triplets",
            type=Path,
            metavar="CSV",
            required=True,
            help="Triplets: query,positive,negative, with or without a header.",
        )
        parser.add_argument("--validation", type=Path, metavar="CSV", help="The validation set's triplets.")
        parser.add_argument(
            "--images",
            type=Path,
            metavar="FOLDER",
            help="The folder that image paths are relative to; by default the one that holds the CSV file.",
        )
        parser.add_argument(
            "--products",
            type=Path,
            metavar="CSV",
            help="A file with the columns image and category, group_id or both, for the balance of classes.",
        )
        parser.add_argument("--html", type=Path, metavar="FILE", help="Write a page with plots and contact sheets.")
        parser.add_argument(
            "--json", action="store_true", help="Print the figures as one JSON object, on the last line of the output."
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["html"]:
                # Only the page needs what draws plots.
                require("matplotlib")
            products = Products.read(options["products"]) if options["products"] else None
            files = {"train": options["triplets"], "validation": options["validation"]}
            sets = [self._explore(name, path, products, options) for name, path in files.items() if path is not None]
        except TrainingError as error:
            raise CommandError(str(error)) from error
        shared = overlap(usable(sets[0]), usable(sets[1]), products) if len(sets) == 2 else None
        if options["verbosity"] > 0:
            self._tell(sets, shared)
        if options["html"]:
            from shop_similarity.training.report.exploration_page import write_exploration

            try:
                write_exploration(options["html"], sets, shared)
            except OSError as error:
                raise CommandError(
                    _("The page could not be written to %(path)s: %(reason)s.")
                    % {"path": options["html"], "reason": error.strerror or error}
                ) from error
            self.stdout.write(_("The page is at %(path)s.") % {"path": options["html"]})
        if options["json"]:
            figures = {exploration.name: exploration.to_dict() for exploration in sets}
            self.stdout.write(json.dumps(figures | ({"overlap": shared.to_dict()} if shared is not None else {})))

    def _explore(self, name: str, path: Path, products: Products | None, options: dict[str, Any]) -> Exploration:
        with ProgressBars(self.stderr, options["verbosity"] == 0) as bars:
            return explore(path, options["images"], products, bars.photos, name)

    def _tell(self, sets: list[Exploration], shared: Overlap | None) -> None:
        for exploration in sets:
            self.stdout.write(self.style.MIGRATE_HEADING(exploration.name.capitalize()))
            for line in exploration.lines():
                self.stdout.write(line)
        if shared is not None:
            self.stdout.write(self.style.MIGRATE_HEADING(_("Between the two")))
            for line in shared.lines():
                self.stdout.write(line)
