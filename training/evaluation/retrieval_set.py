"""A retrieval set: queries, a gallery, and how relevant each gallery photo is to each query.

A folder holds three CSV files with a header:

    queries.csv   query_id, image
    gallery.csv   gallery_id, image
    qrels.csv     query_id, gallery_id, relevance      2 exact, 1 partial; what is not listed is 0

Image paths are relative to the folder, to the folder that holds it, or to a root that is named. A query may stand in
the gallery too, and is then no result of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.evaluation.fingerprints import fingerprint
from shop_similarity.training.files import file_sha256

PARTIAL, EXACT = 1, 2
_EXAMPLES = 5


class RetrievalSetError(TrainingError):
    """The folder is no usable retrieval set; the text says what is wrong with which rows."""


@dataclass(frozen=True, eq=False)
class RetrievalSet:
    """What to search with, what to search in, and what should be found.

    Attributes:
        folder: where it was read from.
        paths: the photos, each once, however many rows name it.
        queries: ``(q,)``, the photo of each query as an index into the paths.
        gallery: ``(g,)``, the photo of each gallery row as an index into the paths.
        query_ids: of the queries.
        gallery_ids: of the gallery rows.
        relevance: ``(q, g)`` ``int8``: 2 exact, 1 partial, 0 not relevant.
        itself: ``(q, g)`` boolean: where a gallery row is the query, by its id or by its photo.
    """

    folder: Path
    paths: tuple[Path, ...]
    queries: np.ndarray
    gallery: np.ndarray
    query_ids: tuple[str, ...]
    gallery_ids: tuple[str, ...]
    relevance: np.ndarray
    itself: np.ndarray

    @classmethod
    def read(cls, folder: str | Path, images: str | Path | None = None) -> RetrievalSet:
        """Read a folder.

        Args:
            folder: holds ``queries.csv``, ``gallery.csv`` and ``qrels.csv``.
            images: the folder that image paths are relative to. Where it, or ``None``, does not have all of them,
                ``folder`` and its parent are tried as well.

        Raises:
            RetrievalSetError: for a missing file, column or photo, an unknown or repeated id, a relevance other than
                0, 1 and 2, an empty file, or a set in which there is nothing to find.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise RetrievalSetError(f"There is no folder {folder}.")
        query_rows = _read(folder / "queries.csv", ("query_id", "image"))
        gallery_rows = _read(folder / "gallery.csv", ("gallery_id", "image"))
        qrel_rows = _read(folder / "qrels.csv", ("query_id", "gallery_id", "relevance"))
        query_ids = _unique(folder / "queries.csv", [row[0] for row in query_rows])
        gallery_ids = _unique(folder / "gallery.csv", [row[0] for row in gallery_rows])
        names = [row[1] for row in query_rows + gallery_rows]
        places, paths = _number(_find(names, [*([Path(images)] if images else []), folder, folder.parent], folder))
        queries, gallery = places[: len(query_rows)], places[len(query_rows) :]
        relevance = _relevance(folder / "qrels.csv", qrel_rows, query_ids, gallery_ids)
        itself = np.array(query_ids)[:, None] == np.array(gallery_ids)[None, :]
        itself |= queries[:, None] == gallery[None, :]
        if not (relevance * ~itself).any():
            raise RetrievalSetError(
                f"{folder / 'qrels.csv'} leaves nothing to find: no query has a relevant photo besides itself."
            )
        return cls(folder, paths, queries, gallery, query_ids, gallery_ids, relevance, itself)

    @cached_property
    def sha256(self) -> str:
        """Names the set by its ids, its relevance and the bytes of its photos, wherever the folder lies.

        Raises:
            OSError: if a photo cannot be read.
        """
        photos = [file_sha256(path) for path in self.paths]
        judged = np.argwhere(self.relevance)
        return fingerprint(
            [
                *(("query", name, photos[place]) for name, place in zip(self.query_ids, self.queries, strict=True)),
                *(("gallery", name, photos[place]) for name, place in zip(self.gallery_ids, self.gallery, strict=True)),
                *(("relevance", query, photo, self.relevance[query, photo]) for query, photo in judged),
            ]
        )

    def answerable(self, min_relevance: int = PARTIAL) -> int:
        """How many queries have something of that relevance to find, besides themselves."""
        return int(((self.relevance >= min_relevance) & ~self.itself).any(axis=1).sum())


def _read(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    try:
        # Spreadsheets write a byte order mark, which would else become part of the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise RetrievalSetError(
                    f"{path} lacks the column {' and '.join(missing)}: its first line must be {','.join(columns)}."
                )
            rows, bad = [], []
            for row in reader:
                values = tuple((row[column] or "").strip() for column in columns)
                (rows if all(values) else bad).append(values if all(values) else reader.line_num)
    except FileNotFoundError:
        raise RetrievalSetError(
            f"There is no {path.name} in {path.parent}. A retrieval set is a folder with queries.csv, gallery.csv and "
            "qrels.csv."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RetrievalSetError(f"{path} cannot be read as a CSV file in UTF-8: {error}.") from error
    if bad:
        raise RetrievalSetError(f"{path} has rows without {' or '.join(columns)}: line {_some(bad)}.")
    if not rows:
        raise RetrievalSetError(f"{path} has no rows below its header.")
    return rows


def _unique(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    seen: set[str] = set()
    twice = [name for name in ids if name in seen or seen.add(name)]
    if twice:
        raise RetrievalSetError(f"{path} has ids more than once: {_some(twice)}.")
    return tuple(ids)


def _find(names: Sequence[str], roots: Sequence[Path], folder: Path) -> list[Path]:
    """The file of each name below the root that has most of them."""
    missing_below = {root: [name for name in dict.fromkeys(names) if not (root / name).is_file()] for root in roots}
    root = min(roots, key=lambda root: len(missing_below[root]))
    if missing := missing_below[root]:
        raise RetrievalSetError(
            f"{len(missing)} of the {len(set(names))} photos of {folder} are not below {root}: {_some(missing)}. "
            "Put them there, or name the folder that the paths are relative to (--images FOLDER)."
        )
    return [root / name for name in names]


def _number(paths: Iterable[Path]) -> tuple[np.ndarray, tuple[Path, ...]]:
    # Two rows may spell one photo differently.
    places: dict[Path, int] = {}
    numbers = [places.setdefault(path.resolve(), len(places)) for path in paths]
    return np.array(numbers, dtype=np.intp), tuple(places)


def _relevance(
    path: Path, rows: Sequence[tuple[str, ...]], query_ids: Sequence[str], gallery_ids: Sequence[str]
) -> np.ndarray:
    query_place = {name: place for place, name in enumerate(query_ids)}
    gallery_place = {name: place for place, name in enumerate(gallery_ids)}
    unknown = [row[0] for row in rows if row[0] not in query_place]
    if unknown:
        raise RetrievalSetError(f"{path} names queries that queries.csv lacks: {_some(unknown)}.")
    unknown = [row[1] for row in rows if row[1] not in gallery_place]
    if unknown:
        raise RetrievalSetError(f"{path} names gallery ids that gallery.csv lacks: {_some(unknown)}.")
    wrong = [row[2] for row in rows if row[2] not in ("0", "1", "2")]
    if wrong:
        raise RetrievalSetError(f"{path}: relevance must be 2 (exact), 1 (partial) or 0, not {_some(wrong)}.")
    relevance = np.full((len(query_ids), len(gallery_ids)), -1, dtype=np.int8)
    contradictions = []
    for query, photo, value in rows:
        cell = query_place[query], gallery_place[photo]
        if relevance[cell] not in (-1, int(value)):
            contradictions.append(f"{query} and {photo}")
        relevance[cell] = int(value)
    if contradictions:
        raise RetrievalSetError(f"{path} judges pairs twice and differently: {_some(contradictions)}.")
    return np.maximum(relevance, 0)


def _some(values: Sequence[object]) -> str:
    shown = list(dict.fromkeys(str(value) for value in values))
    more = len(shown) - _EXAMPLES
    return ", ".join(shown[:_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
