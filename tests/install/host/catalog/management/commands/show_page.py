"""``show_page /products/1/``: what a browser is sent, and that nothing of TensorFlow was needed for it."""

import sys

from django.core.management.base import BaseCommand
from django.test import Client


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("address")

    def handle(self, *, address, **options):
        response = Client().get(address)
        assert response.status_code == 200, response
        assert "tensorflow" not in sys.modules
        self.stdout.write(response.content.decode())
