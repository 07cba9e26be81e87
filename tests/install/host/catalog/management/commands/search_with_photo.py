"""``search_with_photo NAME``: what a shopper is shown who has the photo of that product."""

import io
import time

from django.core.management.base import BaseCommand

from catalog.management.commands.add_product import jpeg
from shop_similarity.visual_search import results, submit, wait


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("name")

    def handle(self, *, name, **options):
        started = time.monotonic()
        query = wait(submit(io.BytesIO(jpeg(name))), 60)
        self.stdout.write(f"Answered in {time.monotonic() - started:.2f} s: {results(query)[0]}")
