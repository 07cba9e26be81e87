"""CSV files as spreadsheets write them: their encoding, their delimiter, and the names of files in them."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

DELIMITERS = ",;\t"
# Excel's first line where it names the delimiter.
_NAMED = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


@dataclass(frozen=True)
class CsvText:
    """The text of a CSV file.

    Attributes:
        text: without a byte order mark and the line that names the delimiter.
        delimiter: a comma, semicolon or tab, or what the file's first line names.
        skipped: lines of the file that stand before the text.
    """

    text: str
    delimiter: str
    skipped: int = 0

    @classmethod
    def of(cls, data: bytes, columns: Collection[str]) -> CsvText:
        """The text of a file's bytes: UTF-8, UTF-16 with its mark, or else Windows-1252, which holds Latin-1.

        Args:
            data: the whole file.
            columns: names that its header is likely to have; without a header, as many columns as these.

        Raises:
            UnicodeDecodeError: it is none of these; the error is that of UTF-8.
        """
        text = _decoded(data)
        if named := _NAMED.match(text):
            return cls(text[named.end() :], named[1], 1)
        first = next((line for line in text.splitlines() if line.strip()), "")
        cells = {mark: [cell.strip(' "').lower() for cell in first.split(mark)] for mark in DELIMITERS}
        for mark, found in cells.items():
            if set(columns) <= set(found):
                return cls(text, mark)
        fitting = [mark for mark, found in cells.items() if len(found) == len(columns)]
        return cls(text, fitting[0] if fitting else max(DELIMITERS, key=first.count))

    def reader(self, **options: Any) -> Any:
        """A ``csv.reader``; its line numbers are those of the text, see ``skipped``."""
        return csv.reader(io.StringIO(self.text, newline=""), delimiter=self.delimiter, **options)

    def dictionaries(self) -> csv.DictReader:
        """A ``csv.DictReader`` of what has a header."""
        return csv.DictReader(io.StringIO(self.text, newline=""), delimiter=self.delimiter)


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            raise error from None


@dataclass
class FileNames:
    """Files below a folder by names that may be written otherwise: in composed accents, in another case.

    A Mac's archive holds accents taken apart where the CSV has whole letters, and a Windows shop's files answer to any
    case.

    Attributes:
        root: the folder.
    """

    root: Path
    _folders: dict[PurePosixPath, dict[str, list[str]]] = field(default_factory=dict)

    def find(self, name: PurePosixPath) -> PurePosixPath:
        """The name under which the file is there; ``name`` itself where it is, or where no single other one fits."""
        try:
            if (self.root / name).exists():
                return name
        # A name that is too long, or holds a null byte, is no file.
        except (OSError, ValueError):
            return name
        found = PurePosixPath()
        for part in name.parts:
            fitting = self._entries(found).get(_plain(part), [])
            exact = [entry for entry in fitting if entry == part]
            composed = [entry for entry in fitting if _composed(entry) == _composed(part)]
            choice = exact or composed or fitting
            if len(choice) != 1:
                return name
            found /= choice[0]
        return found

    def _entries(self, folder: PurePosixPath) -> dict[str, list[str]]:
        if folder not in self._folders:
            entries: dict[str, list[str]] = {}
            for entry in _listed(self.root / folder):
                entries.setdefault(_plain(entry), []).append(entry)
            self._folders[folder] = entries
        return self._folders[folder]


def _listed(folder: Path) -> Iterator[str]:
    try:
        yield from (path.name for path in folder.iterdir())
    except OSError:
        return


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return _composed(_composed(name).casefold())
