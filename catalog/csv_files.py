"""CSV files and archives as other computers write them: encoding, delimiter, and the names of files."""

import re
import unicodedata
from pathlib import Path, PurePosixPath

DELIMITERS = ",;\t"
# Excel's first line where it names the delimiter.
NAMED_DELIMITER = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, or else Windows-1252. Raises UnicodeDecodeError."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


def without_delimiter_line(text: str) -> tuple[str, str, int]:
    """The text, its delimiter, and how many lines were taken off that only named it."""
    if named := NAMED_DELIMITER.match(text):
        return text[named.end() :], named[1], 1
    first_line = text.split("\n", 1)[0]
    return text, max(DELIMITERS, key=first_line.count), 0


class FileNames:
    """Files below a folder by names that may be written otherwise: accents in one piece or two, another case.

    A Mac's archive holds accents taken apart where the CSV has whole letters, and files of a Windows shop answer to any
    case.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str) -> Path | None:
        """The file that `name` names, exactly or as the only one that fits."""
        if (self.folder / name).is_file():
            return self.folder / name
        found = self.folder
        for part in PurePosixPath(name).parts:
            fitting = self._entries(found).get(_plain(part), [])
            exact = [path for path in fitting if path.name == part]
            composed = [path for path in fitting if _composed(path.name) == _composed(part)]
            choice = exact or composed or fitting
            if len(choice) != 1:
                return None
            found = choice[0]
        return found if found.is_file() else None

    def _entries(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._listed:
            entries: dict[str, list[Path]] = {}
            for path in folder.iterdir() if folder.is_dir() else ():
                entries.setdefault(_plain(path.name), []).append(path)
            self._listed[folder] = entries
        return self._listed[folder]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return _composed(_composed(name).casefold())
