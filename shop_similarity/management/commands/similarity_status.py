"""``manage.py similarity_status``: what is embedded, what waits, what failed."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ... import database
from ...embedding.magnitudes import Number
from ...embedding.vectors import fault_of
from ...models import ModelVersion
from ...rollout.status import failures, status


class Command(BaseCommand):
    help = "Shows products, photos, coverage, failures and index of every model version."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")
        parser.add_argument("--failures", type=int, default=5, metavar="N", help="Show at most N failed photos (5).")

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        found = status(asking=True)
        for row in found["versions"]:
            version = ModelVersion.objects.only("pk", "name").get(name=row["name"])
            row["failures"] = failures(version.pk, options["failures"]) if row["failed"] else []
            row["fault"] = fault_of(version)
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        products, with_photos = found["products"], found["products_with_images"]
        self.stdout.write(f"{products.told} products, {with_photos.told} of them with {found['images'].told} photos")
        if (without := products - with_photos) > 0:
            self.stdout.write(
                f"{Number(without, is_about=with_photos.is_about).told} of the products have no photo, so they are "
                "never shown as look-alikes"
            )
        if not found["versions"]:
            self.stdout.write("There is no model version yet: run `manage.py calibrate_mildnet --activate`.")
        for row in found["versions"]:
            self.stdout.write(
                f"{row['name']} ({row['architecture']}, {row['state']}): {row['embedded'].told} embedded "
                f"({row['coverage']:.1%} of the photos, "
                f"{_share(row['products_embedded'], products):.1%} of the products), "
                f"{row['pending'].told} pending, {row['failed'].told} failed, "
                f"index {row['index']['state']}"
            )
            if row["activation_requested_at"]:
                self.stdout.write("  becomes active when it is complete, see `manage.py model_versions`")
            if row["code_recall"] and row["code_recall"]["warning"]:
                self.stdout.write(f"  {row['code_recall']['warning']}")
            if row["fault"]:
                self.stdout.write(f"  {row['fault']}")
            for failure in row["failures"]:
                self.stdout.write(f"  photo {failure['image']} of product {failure['product']}: {failure['error']}")
        for sentence in found["engine_trouble"]:
            self.stdout.write(sentence)
        seen = found["worker_seen_at"]
        self.stdout.write(f"A worker was last running {seen}" if seen else "No worker has run in the last two weeks")
        sweep = found["last_sweep"]
        if sweep:
            self.stdout.write(f"Last sweep ended {sweep['finished_at']}, queued {sweep['enqueued']} photos")
        for run in found["sweeps"]:
            kind = "files" if run["with_files"] else "rows"
            self.stdout.write(
                f"A sweep of the {kind} is under way since {run['started_at']}: {run['examined']} of "
                f"{found['images'].told} photos"
            )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
