"""``manage.py model_versions``: all model versions, their state and how far they are."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ... import database, rollout
from ...models import ModelVersion


class Command(BaseCommand):
    help = "Lists the model versions: which is active, which one to go back to, how far the others are."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print one JSON array.")

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        versions = sorted(ModelVersion.objects.all(), key=lambda version: version.rank)
        active = next((version for version in versions if version.state == ModelVersion.State.ACTIVE), None)
        rows = [self._row(version, active) for version in versions]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        if not rows:
            self.stdout.write("There is no model version yet: run `manage.py calibrate_mildnet --activate`.")
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            self.stdout.write(
                f"{row['name']:{width}}  {row['state']:9}  {row['architecture']}, made {row['created_at'][:10]}, "
                f"{row['embedded'].told} of {row['photos'].told} photos embedded, "
                f"{row['waiting'].told} waiting, {row['failed'].told} failed"
            )
            indent = " " * (width + 2)
            if row["activation_requested_at"]:
                self.stdout.write(f"{indent}becomes active when it is complete. {' '.join(row['obstacles'])}".rstrip())
            if row["activation_note"]:
                self.stdout.write(f"{indent}{row['activation_note']}")
            if row["comparison"]:
                self.stdout.write(f"{indent}{row['comparison']}")

    def _row(self, version: ModelVersion, active: ModelVersion | None) -> dict[str, Any]:
        found = rollout.coverage(version)
        is_candidate = version.state == ModelVersion.State.CANDIDATE
        requested = version.activation_requested_at
        return {
            "name": version.name,
            "state": version.state,
            "architecture": version.architecture,
            "created_at": version.created_at.isoformat(),
            "activated_at": version.activated_at and version.activated_at.isoformat(),
            "photos": found.photos,
            "embedded": found.embedded,
            "waiting": found.waiting,
            "failed": found.failed,
            "activation_requested_at": requested and requested.isoformat(),
            "activation_note": version.activation_note,
            "obstacles": found.obstacles() if is_candidate else [],
            "comparison": str(rollout.judge(version, active)) if is_candidate and active is not None else None,
        }
