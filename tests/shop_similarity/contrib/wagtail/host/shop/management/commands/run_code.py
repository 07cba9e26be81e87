"""``run_code CODE``: what a test wants done in the shop; what it leaves in ``result`` is printed as JSON."""

import json

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("code")

    def handle(self, *, code, **options):
        names = {}
        exec(code, names)
        self.stdout.write("\n" + json.dumps(names.get("result"), default=str))
