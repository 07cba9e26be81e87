"""``manage.py similarity_status``: what is embedded, what waits, what failed."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ... import database
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
        found = status()
        for row in found["versions"]:
            version = ModelVersion.objects.only("pk", "name").get(name=row["name"])
            row["failures"] = failures(version.pk, options["failures"]) if row["failed"] else []
            row["fault"] = fault_of(version)
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        self.stdout.write(f"{found['products']} products with {found['images']} photos")
        if not found["versions"]:
            self.stdout.write("There is no model version yet: run `manage.py calibrate_mildnet --activate`.")
        for row in found["versions"]:
            self.stdout.write(
                f"{row['name']} ({row['architecture']}, {row['state']}): {row['embedded']} embedded "
                f"({row['coverage']:.1%}), {row['pending']} pending, {row['failed']} failed, "
                f"index {row['index']['state']}"
            )
            if row["activation_requested_at"]:
                self.stdout.write("  becomes active when it is complete, see `manage.py model_versions`")
            if row["fault"]:
                self.stdout.write(f"  {row['fault']}")
            for failure in row["failures"]:
                self.stdout.write(f"  photo {failure['image']} of product {failure['product']}: {failure['error']}")
        sweep = found["last_sweep"]
        if sweep:
            self.stdout.write(f"Last sweep ended {sweep['finished_at']}, queued {sweep['enqueued']} photos")
