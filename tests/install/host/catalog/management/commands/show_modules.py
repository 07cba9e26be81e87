"""Where the modules come from that the shop and the plugin both have, and all folders that can be imported from."""

import importlib
import sys

from django.core.management.base import BaseCommand

NAMES = (
    "catalog",
    "tests",
    "training",
    "workers",
    "shop_similarity",
    "shop_similarity.training",
    "shop_similarity.workers",
)


class Command(BaseCommand):
    def handle(self, **options):
        for name in NAMES:
            self.stdout.write(f"{name}: {importlib.import_module(name).__file__}")
        for folder in sys.path:
            self.stdout.write(f"path: {folder}")
