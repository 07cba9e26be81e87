"""manage.py load_catalog FOLDER"""

from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from catalog.importing import load_folder
from catalog.product_csv import FILE_NAME, CatalogueError

SHOWN_PROBLEMS = 20


class Command(BaseCommand):
    help = (
        "Load products and photos from a folder with a products.csv. The usual column names are understood "
        "(sku or id, name or title, category with / between its levels, price, description, stock, image, images, "
        "photo ...; several photos in one cell are separated by |). Safe to repeat: only what changed is saved."
    )

    def add_arguments(self, parser):
        parser.add_argument("folder", type=Path, metavar="FOLDER")
        parser.add_argument("--strict", action="store_true", help="Load nothing if any line has a problem.")
        parser.add_argument(
            "--clear", action="store_true", help="Remove all products that the folder does not name, with their photos."
        )

    def handle(self, *args, folder: Path, strict: bool, clear: bool, verbosity: int, **options):
        try:
            report = load_folder(folder, strict=strict, clear=clear, progress=verbosity > 0)
        except CatalogueError as error:
            raise CommandError(str(error)) from error
        if verbosity > 0:
            self.stdout.write(report.summary())
        shown = report.problems if verbosity > 1 else report.problems[:SHOWN_PROBLEMS]
        for problem in shown:
            self.stderr.write(f"{FILE_NAME} {problem}")
        if len(shown) < len(report.problems):
            hidden = len(report.problems) - len(shown)
            self.stderr.write(_("... and %(hidden)d more; --verbosity 2 shows all.") % {"hidden": hidden})
