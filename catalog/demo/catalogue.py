"""Filling the demo's shop."""

from collections.abc import Callable
from pathlib import Path

from django.utils.translation import gettext as _

from catalog.demo.errors import DemoError
from catalog.importing import load_folder
from catalog.models import LoadedCatalogue, Product
from catalog.product_csv import CatalogueError
from catalog.sources.choosing import choose_source

SHOWN_PROBLEMS = 5


def fill_shop(folder: Path | None, *, clear: bool, note: Callable[[str], None]) -> str:
    """Load the catalogue of `folder`, or the demo's own if the shop has none yet; returns the catalogue's name.

    clear: remove products that the folder does not name.
    """
    loaded = LoadedCatalogue.objects.first()
    if folder is None and loaded is not None and Product.objects.exists():
        note(_("%(name)s, loaded before: %(description)s") % {"name": loaded.name, "description": loaded.description})
        return loaded.name
    try:
        source = choose_source(folder, say=note)
        report = load_folder(source.folder, name=source.name, description=source.description, clear=clear)
    except CatalogueError as error:
        raise DemoError(str(error)) from error
    note(f"{source.name}: {source.description}")
    note(report.summary())
    for problem in report.problems[:SHOWN_PROBLEMS]:
        note(str(problem))
    if len(report.problems) > SHOWN_PROBLEMS:
        note(_("... and %(count)d more problems.") % {"count": len(report.problems) - SHOWN_PROBLEMS})
    return source.name
