"""A retrieval set: queries, a gallery, and how relevant each gallery photo is to each query.

A folder holds CSV files with a header:

    queries.csv   query_id, image
    gallery.csv   gallery_id, image
    qrels.csv     query_id, gallery_id, relevance      2 exact, 1 partial; what is not listed is 0

Image paths are relative to the folder, to the folder that holds it, or to a root that is named. A query may stand in
the gallery too, and is then no result of its own.

A *look-alike set* asks for other products that look like the query's. Both files have a column ``product_id`` as well:
photos of the query's product are left out, neither hit nor miss. Without ``qrels.csv`` the columns ``category`` and
``colour`` say what is alike: photos of the same category and colour are exact hits, of the same category alone partial
ones. An empty cell is not known, and no photo's like.

In either, ``group`` in ``queries.csv`` may name queries that are not independent of each other, for intervals; without
it they are found out (:meth:`RetrievalSet.groups`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.evaluation.fingerprints import fingerprint
from shop_similarity.training.files import file_sha256
from shop_similarity.training.triplets.csv_text import CsvText, FileNames
from shop_similarity.training.triplets.table import components

PARTIAL, EXACT = 1, 2
LABELS = ("product_id", "category", "colour", "group")
"""Columns that a set may have besides."""

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
        left_out: ``(q, g)`` boolean: where a gallery row is no result, for it is the query, by its id or by its photo,
            or shows the query's product.
        labels: those of :data:`LABELS` that count: strings of the queries, then of the gallery rows, "" where unknown.
    """

    folder: Path
    paths: tuple[Path, ...]
    queries: np.ndarray
    gallery: np.ndarray
    query_ids: tuple[str, ...]
    gallery_ids: tuple[str, ...]
    relevance: np.ndarray
    left_out: np.ndarray
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path, images: str | Path | None = None, *, look_alike: bool = False) -> RetrievalSet:
        """Read a folder.

        Args:
            folder: holds ``queries.csv``, ``gallery.csv`` and, unless their categories say it, ``qrels.csv``.
            images: the folder that image paths are relative to. Where it, or ``None``, does not have all of them,
                ``folder`` and its parent are tried as well.
            look_alike: whether it is a look-alike set.

        Raises:
            RetrievalSetError: for a missing file, column or photo, an unknown or repeated id, a relevance other than
                0, 1 and 2, an empty file, or a set in which there is nothing to find.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise RetrievalSetError(f"There is no folder {folder}.")
        product = ("product_id",) if look_alike else ()
        query_rows, query_labels = _read(folder / "queries.csv", ("query_id", "image"), product)
        gallery_rows, gallery_labels = _read(folder / "gallery.csv", ("gallery_id", "image"), product)
        labels = {name: query_labels[name] + gallery_labels[name] for name in LABELS if any(query_labels[name])}
        by_category = look_alike and "category" in labels and not (folder / "qrels.csv").exists()
        counts = {"group": True, "product_id": look_alike, "category": by_category, "colour": by_category}
        labels = {name: values for name, values in labels.items() if counts[name]}
        query_ids = _unique(folder / "queries.csv", [row[0] for row in query_rows])
        gallery_ids = _unique(folder / "gallery.csv", [row[0] for row in gallery_rows])
        names = [row[1] for row in query_rows + gallery_rows]
        places, paths = _number(_find(names, [*([Path(images)] if images else []), folder, folder.parent], folder))
        count = len(query_rows)
        left_out = _same(query_ids + gallery_ids, count) | _same(places, count)
        if "product_id" in labels:
            left_out |= _same(labels["product_id"], count)
        if by_category:
            relevance = _same(labels["category"], count).astype(np.int8)
            relevance += relevance * _same(labels.get("colour", [""] * len(names)), count)
        else:
            qrel_rows, _labels = _read(folder / "qrels.csv", ("query_id", "gallery_id", "relevance"))
            relevance = _relevance(folder / "qrels.csv", qrel_rows, query_ids, gallery_ids)
        judge = folder if by_category else folder / "qrels.csv"
        if not (relevance * ~left_out).any():
            besides = "those of its own product" if look_alike else "itself"
            raise RetrievalSetError(f"{judge} leaves nothing to find: no query has a relevant photo besides {besides}.")
        if look_alike and not ((relevance == EXACT) & ~left_out).any():
            raise RetrievalSetError(
                f"{judge} leaves no exact hit to find: no query has a photo of another product of its category and "
                "colour. Add photos, or see whether the columns category and colour say what they should."
            )
        return cls(folder, paths, places[:count], places[count:], query_ids, gallery_ids, relevance, left_out, labels)

    @cached_property
    def sha256(self) -> str:
        """Names the set by its ids, its relevance and the bytes of its photos, wherever the folder lies.

        Raises:
            OSError: if a photo cannot be read.
        """
        photos = [file_sha256(path) for path in self.paths]
        # What is judged by category may be millions of pairs.
        judged = () if "category" in self.labels else np.argwhere(self.relevance)
        return fingerprint(
            [
                *(("query", name, photos[place]) for name, place in zip(self.query_ids, self.queries, strict=True)),
                *(("gallery", name, photos[place]) for name, place in zip(self.gallery_ids, self.gallery, strict=True)),
                *(("relevance", query, photo, self.relevance[query, photo]) for query, photo in judged),
                *((name, *values) for name, values in sorted(self.labels.items())),
            ]
        )

    def judged(self) -> np.ndarray:
        """Places in ``paths`` of what a model must not know: the queries, and what they should find."""
        return np.union1d(self.queries, self.gallery[(self.relevance > 0).any(axis=0)])

    def answerable(self, min_relevance: int = PARTIAL) -> int:
        """How many queries have something of that relevance to find, besides what is left out."""
        return int(((self.relevance >= min_relevance) & ~self.left_out).any(axis=1).sum())

    def groups(self, min_relevance: int = PARTIAL) -> np.ndarray:
        """Which queries are not independent of each other.

        Args:
            min_relevance: from which relevance on a photo is a hit.

        Returns:
            ``(q,)`` numbers from 0: the groups that ``queries.csv`` names, or else the connected components of queries
            and their hits. Queries that share a hit, or are hits of each other, stand and fall together.
        """
        if "group" in self.labels:
            named = self.labels["group"][: len(self.queries)]
            # The name of a row without a group can't be another row's group.
            names = [
                ("group", name) if name else ("query", query) for name, query in zip(named, self.query_ids, strict=True)
            ]
            numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
            return np.array([numbers[name] for name in names])
        query, photo = np.nonzero((self.relevance >= min_relevance) & ~self.left_out)
        pairs = np.unique(np.stack([self.queries[query], self.gallery[photo]], axis=1), axis=0)
        return np.unique(components(len(self.paths), pairs)[self.queries], return_inverse=True)[1]


def _read(
    path: Path, columns: Sequence[str], labelled: Sequence[str] = ()
) -> tuple[list[tuple[str, ...]], dict[str, list[str]]]:
    """The cells of the columns in each row, and those of :data:`LABELS`, "" where there is none.

    Args:
        columns: none of their cells may be empty.
        labelled: further columns that must be there.
    """
    labels: dict[str, list[str]] = {name: [] for name in LABELS}
    try:
        text = CsvText.of(path.read_bytes(), (*columns, *labelled))
        reader = text.dictionaries()
        wanted = [*columns, *labelled]
        missing = [column for column in wanted if column not in (reader.fieldnames or ())]
        if missing:
            raise RetrievalSetError(
                f"{path} lacks the column {' and '.join(missing)}: its first line must be {','.join(wanted)}."
            )
        rows: list[tuple[str, ...]] = []
        bad: list[int] = []
        for row in reader:
            values = tuple((row[column] or "").strip() for column in columns)
            if all(values):
                rows.append(values)
            else:
                bad.append(text.skipped + reader.line_num)
            for name, found in labels.items():
                found.append((row.get(name) or "").strip())
    except FileNotFoundError:
        raise RetrievalSetError(
            f"There is no {path.name} in {path.parent}. A retrieval set is a folder with queries.csv, gallery.csv and "
            "qrels.csv. A look-alike set may have the columns category and colour instead of qrels.csv."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RetrievalSetError(f"{path} cannot be read as a CSV file in UTF-8: {error}.") from error
    if bad:
        raise RetrievalSetError(f"{path} has rows without {' or '.join(columns)}: line {_some(bad)}.")
    if not rows:
        raise RetrievalSetError(f"{path} has no rows below its header.")
    return rows, labels


def _unique(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    seen: set[str] = set()
    twice: list[str] = []
    for name in ids:
        if name in seen:
            twice.append(name)
        seen.add(name)
    if twice:
        raise RetrievalSetError(f"{path} has ids more than once: {_some(twice)}.")
    return tuple(ids)


def _find(names: Sequence[str], roots: Sequence[Path], folder: Path) -> list[Path]:
    """The file of each name below the root that has most of them."""
    files = {root: FileNames(root) for root in roots}
    # Under the name that the file has there, which may be written otherwise.
    found = {
        root: {name: root / files[root].find(PurePosixPath(name)) for name in dict.fromkeys(names)} for root in roots
    }
    missing_below = {root: [name for name, path in found[root].items() if not path.is_file()] for root in roots}
    root = min(roots, key=lambda root: len(missing_below[root]))
    if missing := missing_below[root]:
        raise RetrievalSetError(
            f"{len(missing)} of the {len(set(names))} photos of {folder} are not below {root}: {_some(missing)}. "
            "Put them there, or name the folder that the paths are relative to (--images FOLDER)."
        )
    return [found[root][name] for name in names]


def _number(paths: Iterable[Path]) -> tuple[np.ndarray, tuple[Path, ...]]:
    # Two rows may spell one photo differently.
    places: dict[Path, int] = {}
    numbers = [places.setdefault(path.resolve(), len(places)) for path in paths]
    return np.array(numbers, dtype=np.intp), tuple(places)


def _same(labels: Sequence[object] | np.ndarray, count: int) -> np.ndarray:
    """``(count, others)`` boolean: where one of the first ``count`` labels is one of the others; "" is none."""
    values = np.asarray(labels)
    numbers = np.unique(values, return_inverse=True)[1]
    known = values != "" if values.dtype.kind == "U" else np.ones(len(values), dtype=bool)
    same = numbers[:count, None] == numbers[None, count:]
    return same & known[:count, None]


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
