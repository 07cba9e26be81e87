"""``manage.py similarity_health``: the health checks, for systemd, containers and whoever has no URL to ask."""

from __future__ import annotations

import json
import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ...monitoring import health, state


class Command(BaseCommand):
    help = "Asks the health checks and exits with 1 where one fails."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "checks", nargs="*", metavar="CHECK", help=f"Of {', '.join(health.NAMES)}; all but weights by default."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object.")
        parser.add_argument(
            "--this-host",
            action="store_true",
            help="Ask instead whether a worker of this host (or container) is alive.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        names = options["checks"] or health.DEFAULT
        if unknown := [name for name in names if name not in health.NAMES]:
            raise CommandError(f"There is no check {unknown[0]!r}. There are: {', '.join(health.NAMES)}.")
        results = [self._host()] if options["this_host"] else health.examine(names)
        if options["json"]:
            found = {r.name: {"is_healthy": r.is_healthy, "detail": r.sentence} for r in results}
            self.stdout.write(json.dumps(found))
        else:
            for result in results:
                self.stdout.write(f"{'ok' if result.is_healthy else 'FAILING':8}{result.name:10}{result.sentence}")
        if not all(result.is_healthy for result in results):
            raise CommandError("Not all is well.", returncode=1)

    def _host(self) -> health.Result:
        name = socket.gethostname()
        alive = state.workers(name).alive
        sentence = f"{alive} workers on {name} were alive within {state.ALIVE_SECONDS} s."
        return health.Result("worker", alive > 0, sentence)
