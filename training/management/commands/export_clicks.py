"""``manage.py export_clicks``: triplets from recorded clicks as a CSV, to train on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.training.commands.console import ProgressBars
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.triplets.clicks import MIN_CLICKS, MIN_DAYS, MIN_SHARE, shop_click_triplets
from shop_similarity.training.triplets.table import write_triplets


class Command(BaseCommand):
    help = (
        "Writes triplets of the recorded clicks as a CSV for `train_mildnet --triplets`, and their photos into a "
        "folder. Nothing in it tells one shopper from another."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="The CSV to write.")
        parser.add_argument("--images", type=Path, metavar="FOLDER", help="For the photos; by default beside the CSV.")
        parser.add_argument(
            "--min-clicks",
            type=int,
            default=MIN_CLICKS,
            metavar="N",
            help="So many clients must prefer one product to another (%(default)s).",
        )
        parser.add_argument(
            "--min-share",
            type=float,
            default=MIN_SHARE,
            metavar="X",
            help="Of all clients that chose between the two, such a share must agree (%(default)s).",
        )
        parser.add_argument(
            "--min-days", type=int, default=MIN_DAYS, metavar="N", help="On so many days at least (%(default)s)."
        )
        parser.add_argument(
            "--min-triplets", type=int, default=1, metavar="N", help="Refuse to write fewer triplets (%(default)s)."
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        file: Path = options["file"]
        images: Path = options["images"] or file.parent / "photos"
        try:
            with ProgressBars(self.stderr, options["verbosity"] == 0) as bars:
                clicks = shop_click_triplets(
                    images,
                    min_clicks=options["min_clicks"],
                    min_share=options["min_share"],
                    min_days=options["min_days"],
                    min_triplets=options["min_triplets"],
                    progress=bars.photos,
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            write_triplets(clicks.triplets, file)
        except (TrainingError, ValueError, OSError) as error:
            raise CommandError(str(error)) from error
        for name, reason in clicks.skipped[:10]:
            self.stderr.write(f"{name}: {reason}")
        self.stdout.write(
            _(
                "%(triplets)d triplets of %(products)d products, from %(choices)d choices. Train on them: "
                "`manage.py train_mildnet --triplets %(file)s --images %(images)s`."
            )
            % {
                "triplets": len(clicks.triplets),
                "products": clicks.products,
                "choices": clicks.choices,
                "file": file,
                "images": images,
            }
        )
