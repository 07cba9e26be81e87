"""manage.py demo"""

import sys
from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _


class Command(BaseCommand):
    help = (
        "Start the whole shop on this machine: Postgres, Valkey, catalogue, model, Celery worker, web server. "
        "Ctrl-C stops all of it. DATABASE_URL and REDIS_URL (or CELERY_BROKER_URL) put it on servers of your own."
    )

    def add_arguments(self, parser):
        parser.add_argument("--port", type=int, default=8000, help="Port on 127.0.0.1; default: %(default)s.")
        parser.add_argument("--folder", type=Path, help="Load this catalogue (see load_catalog), not the demo's own.")
        parser.add_argument(
            "--clear", action="store_true", help="With --folder: remove the products that it does not name."
        )
        parser.add_argument(
            "--check",
            action="store_true",
            help="Do all of it without a user, fetch a product page, stop, and print a report (JSON) as the last line. "
            "The exit status is 0 if the page shows look-alikes, else 1.",
        )

        parser.add_argument(
            "--show-password",
            action="store_true",
            help="Print the password for the admin also where the output is no terminal.",
        )

    def handle(self, *args, port: int, folder: Path | None, clear: bool, check: bool, show_password: bool, **options):
        from catalog.demo.demo import Demo, Options

        if settings.SECURE_SSL_REDIRECT:
            self.stderr.write(_("The demo speaks plain HTTP: start it without SHOP_HTTPS."))
            sys.exit(1)
        if clear and folder is None:
            self.stderr.write(_("--clear goes with --folder."))
            sys.exit(1)
        status = Demo(Options(port=port, folder=folder, clear=clear, check=check, show_password=show_password)).run()
        if status:
            sys.exit(status)
