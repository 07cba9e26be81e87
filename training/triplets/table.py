"""Triplets: which photo is more like the query than which other one.

The form on disk is MILDNet's: a CSV of ``query,positive,negative``, paths of photos below one root folder. Without a
header these are all columns. With a header further columns may say where a triplet comes from: ``positive_type``,
``negative_type``, and ``_group`` and ``_category`` behind ``query``, ``positive`` and ``negative``; what else stands
there is ignored.

A data set is read as a whole or not at all: whatever is wrong anywhere in the file is counted, and told in one report.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.triplets.csv_text import CsvText, FileNames
from shop_similarity.training.triplets.photo_hashes import Picture
from shop_similarity.training.triplets.sides import TABLE

COLUMNS = ("query", "positive", "negative")
LABELS = (
    "positive_type",
    "negative_type",
    *(f"{column}_group" for column in COLUMNS),
    *(f"{column}_category" for column in COLUMNS),
)
EXAMPLES = 5
"""How many examples of one kind of problem a report shows."""

_WHAT_TO_DO = {
    "columns": "Write three columns, query,positive,negative, with commas between them.",
    "header": "Name the columns query, positive and negative in the first line, or leave that line out.",
    "cell": "Name a photo in each of the three columns.",
    "quote": "Close every quotation mark on the line that opens it.",
    "same": "The three photos of a triplet must be three different files.",
    "outside": "Write paths relative to the folder of the photos, without '..'.",
    "missing": "Put the files there, name the right folder of photos, or take these rows out.",
}


class TripletError(TrainingError):
    """Triplets that can't be used; ``str()`` is a report with counts, examples and what to do.

    Attributes:
        problems: one entry per kind of problem; empty where the file as a whole can't be read.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


@dataclass
class Problem:
    """One kind of problem, counted.

    Attributes:
        what: what is wrong, put so that it can follow a count.
        advice: what to do about it.
        count: how often.
        examples: the first few, each with its line number where there is one.
    """

    what: str
    advice: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count:,} x {self.what}: {', '.join(self.examples)}{more}. {self.advice}"


# A column that is not given becomes one of empty strings.
_NOT_GIVEN: Any = None


@dataclass(frozen=True, eq=False)
class Triplets:
    """A set of triplets over photos below one folder.

    Attributes:
        images: paths of the photos relative to ``root``, ``/`` between folders, each once.
        rows: ``(n, 3)`` ``int32``: query, positive, negative as places in ``images``. No row stands there twice.
        positive_type: ``(n,)`` strings, where a positive comes from, such as ``instance_view``; "" where not known.
        negative_type: ``(n,)`` strings, such as ``in_class``, ``in_class_hard``, ``out_of_class``; "" where not known.
        root: the folder.
        query_group: ``(n,)`` strings, the product or style that the query shows; "" where not known.
        positive_group: ``(n,)`` strings, the same of the positive; likewise
        negative_group: of the negative.
        query_category: ``(n,)`` strings, the shop's category of what the query shows; "" where not known.
        positive_category: ``(n,)`` strings, the same of the positive; likewise
        negative_category: of the negative.
        notices: what the reader found and put right, as sentences.
        pictures: of the photos, in the order of ``images``; empty where nobody has opened them.
        keys: what groups are named by, see :class:`shop_similarity.training.triplets.sides.Sides`.
    """

    images: tuple[str, ...]
    rows: np.ndarray
    positive_type: np.ndarray
    negative_type: np.ndarray
    root: Path
    query_group: np.ndarray = _NOT_GIVEN
    positive_group: np.ndarray = _NOT_GIVEN
    negative_group: np.ndarray = _NOT_GIVEN
    query_category: np.ndarray = _NOT_GIVEN
    positive_category: np.ndarray = _NOT_GIVEN
    negative_category: np.ndarray = _NOT_GIVEN
    notices: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    keys: str = TABLE

    def __post_init__(self) -> None:
        count = len(self.rows)
        object.__setattr__(self, "rows", np.ascontiguousarray(self.rows, dtype=np.int32).reshape(count, 3))
        for name in LABELS:
            values = getattr(self, name)
            labels = np.full(count, "", dtype=np.str_) if values is None else np.asarray(values, dtype=np.str_)
            if labels.shape != (count,):
                raise ValueError(f"{name} must hold one string for each of the {count} triplets.")
            object.__setattr__(self, name, labels)
        if count and not (self.rows.min() >= 0 and self.rows.max() < len(self.images)):
            raise ValueError(f"rows must hold places in images (0 to {len(self.images) - 1}).")
        if self.pictures and len(self.pictures) != len(self.images):
            raise ValueError(f"There must be one picture for each of the {len(self.images)} photos.")

    def __len__(self) -> int:
        return len(self.rows)

    def paths(self) -> list[Path]:
        """Where the photos lie, in the order of ``images``."""
        return [self.root / name for name in self.images]

    def in_class(self) -> np.ndarray:
        """``(n,)`` bool: triplets whose negative is known to be of the query's class."""
        return np.char.startswith(self.negative_type, "in_class")

    def out_of_class(self) -> np.ndarray:
        """``(n,)`` bool: triplets whose negative is known to be of another class."""
        return np.char.startswith(self.negative_type, "out_of_class")

    def positive_pairs(self) -> np.ndarray:
        """``(m, 2)`` ``int32``: every (query, positive) once, in the order in which they first appear."""
        pairs, first = np.unique(self.rows[:, :2], axis=0, return_index=True)
        return pairs[np.argsort(first)].astype(np.int32)

    def groups(self) -> np.ndarray:
        """Which photos are linked by positives.

        Returns:
            ``(len(images),)`` ``int32``: number of the connected component of (query, positive) that a photo belongs
            to, counted from 0 in the order of ``images``.
        """
        return components(len(self.images), self.positive_pairs())

    def of_one_product(self) -> np.ndarray:
        """Which photos are known to show one product.

        Returns:
            ``(len(images),)`` ``int32``: as :meth:`groups`, but linked by positives of the type ``instance_view`` only.
        """
        return components(len(self.images), self.rows[self.positive_type == "instance_view"][:, :2])

    @cached_property
    def memberships(self) -> tuple[np.ndarray, list[str]]:
        """Which photo is of which group, as far as the columns of groups say.

        ``(m, 2)`` ``int64``, each pair once: a place in ``images`` and one in the second list, the groups' names. A
        photo may be of several groups. The positive of an instance is of its query's group where the file does not name
        its own.
        """
        own = np.char.startswith(self.positive_type, "instance") & (self.positive_group == "")
        names = [self.query_group, np.where(own, self.query_group, self.positive_group), self.negative_group]
        return self._named(names)

    @cached_property
    def categories(self) -> tuple[np.ndarray, list[str]]:
        """Which photo is of which category, as far as the columns of categories say, as :attr:`memberships`."""
        return self._named([self.query_category, self.positive_category, self.negative_category])

    def _named(self, columns: Sequence[np.ndarray]) -> tuple[np.ndarray, list[str]]:
        unique, numbers = np.unique(np.concatenate(columns), return_inverse=True)
        pairs = np.stack([self.rows.T.reshape(-1), numbers.reshape(-1)], axis=1).astype(np.int64)
        pairs = np.unique(pairs[unique[pairs[:, 1]] != ""], axis=0) if len(unique) else pairs
        return pairs, unique.tolist()

    def first_names(self, names: tuple[np.ndarray, list[str]]) -> np.ndarray:
        """``(len(images),)``: the first name of each photo in :attr:`memberships` or :attr:`categories`, or ""."""
        pairs, known = names
        first = np.full(len(self.images), "", dtype=np.object_)
        for place, number in pairs[::-1].tolist():
            first[place] = known[number]
        return first.astype(np.str_)

    def group_names(self) -> set[str]:
        """All groups that the file names."""
        return set(self.memberships[1]) - {""}

    def as_written(self) -> Triplets:
        """The same as :func:`read_triplets` gives it after :func:`write_triplets`: photos in the order of the rows."""
        used, first = np.unique(self.rows, return_index=True)
        order = used[np.argsort(first)]
        place = np.zeros(len(self.images), dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        images, pictures = (
            tuple(each[index] for index in order) for each in (self.images, self.pictures or self.images)
        )
        return replace(self, images=images, pictures=pictures if self.pictures else (), rows=place[self.rows])

    def select(self, keep: np.ndarray) -> Triplets:
        """Some of the triplets, over those photos only that they name.

        Args:
            keep: ``(n,)`` bool, or places of triplets in the wanted order.
        """
        rows = self.rows[keep]
        used = np.unique(rows)
        place = np.zeros(len(self.images), dtype=np.int32)
        place[used] = np.arange(len(used), dtype=np.int32)
        return replace(
            self,
            images=tuple(self.images[index] for index in used),
            rows=place[rows],
            pictures=tuple(self.pictures[index] for index in used) if self.pictures else (),
            **{name: getattr(self, name)[keep] for name in LABELS},
        )


def without_copies(triplets: Triplets) -> Triplets:
    """The same with one name for all photos of equal bytes, the first of them.

    Under two names a photo could be a positive and a negative of one query, or stand on both sides of a split. A
    triplet in which a photo stands twice then is left out, as is one that says what another says; so is one whose
    negative shows the very product that its query or its positive does
    (:meth:`Triplets.of_one_product`).

    Args:
        triplets: with their pictures.
    """
    first: dict[str, int] = {}
    place = np.array(
        [first.setdefault(picture.sha256, number) for number, picture in enumerate(triplets.pictures)], dtype=np.int32
    )
    merged = replace(triplets, rows=place[triplets.rows])
    once = np.zeros(len(merged), dtype=bool)
    once[np.unique(merged.rows, axis=0, return_index=True)[1]] = True
    query, positive, negative = merged.rows.T
    different = (query != positive) & (query != negative) & (positive != negative)
    product = merged.of_one_product()
    apart = (product[query] != product[negative]) & (product[positive] != product[negative])
    notices = list(triplets.notices)
    if count := int((different & ~apart).sum()):
        notices.append(
            f"{count:,} {'triplet was' if count == 1 else 'triplets were'} left out: the negative is a photo of the "
            f"product that the query or the positive shows."
        )
    return replace(merged.select(once & different & apart), notices=tuple(notices))


def components(count: int, pairs: np.ndarray) -> np.ndarray:
    """Connected components of an undirected graph.

    Args:
        count: number of nodes.
        pairs: ``(m, 2)`` edges.

    Returns:
        ``(count,)`` ``int32``: component of each node, numbered from 0 in the order of their first nodes.
    """
    parent = list(range(count))

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for one, other in np.asarray(pairs).tolist():
        low, high = sorted((find(one), find(other)))
        parent[high] = low
    # The smallest node of a component is its root, so roots in ascending order are components in order.
    roots = np.fromiter((find(node) for node in range(count)), dtype=np.int64, count=count)
    return np.unique(roots, return_inverse=True)[1].astype(np.int32).reshape(count)


def read_triplets(path: Path | str, root: Path | str | None = None) -> Triplets:
    """Read a CSV of triplets with or without a header.

    The first line is a header if it names the columns ``query``, ``positive`` and ``negative`` (in any order and case)
    and these are not names of files. Blank lines are skipped, a byte order mark too, and spaces around names. Commas,
    semicolons and tabs may stand between the columns. A photo that the folder has in another case, or with its accents
    taken apart, is found. A row that stands there again is dropped and mentioned in ``notices``.

    Args:
        path: the file.
        root: the folder that its paths are relative to; the file's own folder by default.

    Raises:
        TripletError: something in the file can't be used.
    """
    parsed = parse_triplets(path, root)
    triplets = parsed.triplets
    missing = Problem(f"no such file below {triplets.root}", _WHAT_TO_DO["missing"])
    for name, line in zip(triplets.images, parsed.first_lines, strict=True):
        if not _is_file(triplets.root / name):
            missing.add(f"line {line} “{name}”")
    if problems := [*parsed.problems, *([missing] if missing.count else [])]:
        raise TripletError(report(parsed.heading, problems), problems)
    return triplets


@dataclass(frozen=True)
class Parsed:
    """A file of triplets before anybody has looked for its photos.

    Attributes:
        triplets: the rows that can be used.
        problems: what is wrong with the others.
        first_lines: line that first names each photo, in the order of ``triplets.images``.
        heading: first line of a report on the file.
    """

    triplets: Triplets
    problems: tuple[Problem, ...]
    first_lines: tuple[int, ...]
    heading: str


def parse_triplets(path: Path | str, root: Path | str | None = None) -> Parsed:
    """The first half of :func:`read_triplets`: everything but the look for the photos.

    Raises:
        TripletError: the file as a whole can't be read, or holds nothing.
    """
    path = Path(path)
    root = path.parent if root is None else Path(root)
    if not root.is_dir():
        raise TripletError(f"There is no folder {root} with the photos of {path.name}. Name the folder they are in.")
    reader = _Reader(root)
    reader.read(_text(path), path)
    return reader.parsed(path)


class _Reader:
    """The rows of one file on their way into :class:`Triplets`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = FileNames(root)
        # Of each name in the file, the one that its photo has in the folder.
        self.names: dict[str, str] = {}
        self.images: dict[str, int] = {}
        self.rows: dict[tuple[int, int, int], tuple[str, ...]] = {}
        self.problems: dict[str, Problem] = {}
        self.first_lines: list[int] = []
        self.width = len(COLUMNS)
        self.lines = 0
        self.repeated = 0
        self.repeated_lines: list[int] = []

    def problem(self, kind: str, what: str, example: str) -> None:
        self.problems.setdefault(what, Problem(what, _WHAT_TO_DO[kind])).add(example)

    def read(self, text: CsvText, path: Path) -> None:
        reader = text.reader(skipinitialspace=True, strict=True)
        columns: Mapping[str, int] | None = None
        last = text.skipped
        try:
            for cells in reader:
                line, last = last + 1, text.skipped + reader.line_num
                cells = [cell.strip() for cell in cells]
                if not any(cells):
                    continue
                if columns is None:
                    columns = self._header(cells)
                    if columns is not None:
                        continue
                    columns = {name: index for index, name in enumerate(COLUMNS)}
                self._row(line, cells, columns)
        except csv.Error as error:
            self.problem("quote", f"a cell that can't be read ({error})", f"line {last + 1}")
            self.lines += 1
        if not self.lines:
            raise TripletError(
                f"{path} is empty: it holds no triplet. Each line must name three photos: query,positive,negative."
            )

    def _header(self, cells: list[str]) -> Mapping[str, int] | None:
        names = [cell.lower() for cell in cells]
        if not set(COLUMNS) <= set(names):
            return None
        if all((self.root / cells[names.index(name)]).is_file() for name in COLUMNS):
            return None
        self.width = len(cells)
        return {name: names.index(name) for name in (*COLUMNS, *LABELS) if name in names}

    def _row(self, line: int, cells: list[str], columns: Mapping[str, int]) -> None:
        self.lines += 1
        if len(cells) != self.width:
            count = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
            kind = "header" if line == 1 and "query" in (cell.lower() for cell in cells) else "columns"
            self.problem(kind, f"{count} instead of {self.width}", f"line {line} “{','.join(cells)[:120]}”")
            return
        names = [cells[columns[name]] for name in COLUMNS]
        clean = [self._name(line, column, name) for column, name in zip(COLUMNS, names, strict=True)]
        query, positive, negative = clean
        if query is None or positive is None or negative is None:
            return
        for one, other, what in (
            (query, positive, "the query is its own positive"),
            (query, negative, "the query is its own negative"),
            (positive, negative, "the positive is the negative too"),
        ):
            if one == other:
                self.problem("same", what, f"line {line} “{one}”")
                return
        row = self._place(query, line), self._place(positive, line), self._place(negative, line)
        if row in self.rows:
            self.repeated += 1
            if len(self.repeated_lines) < EXAMPLES:
                self.repeated_lines.append(line)
        else:
            self.rows[row] = tuple(cells[columns[name]] if name in columns else "" for name in LABELS)

    def _place(self, name: str, line: int) -> int:
        place = self.images.setdefault(name, len(self.images))
        if place == len(self.first_lines):
            self.first_lines.append(line)
        return place

    def _name(self, line: int, column: str, name: str) -> str | None:
        if not name:
            self.problem("cell", "an empty cell", f"line {line} ({column})")
            return None
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or re.match(r"[A-Za-z]:[\\/]", name):
            self.problem("outside", "a path that leaves the folder of the photos", f"line {line} “{name}”")
            return None
        if "\n" in name or "\r" in name:
            self.problem("quote", "a cell that spans several lines", f"line {line} ({column})")
            return None
        if name not in self.names:
            self.names[name] = self.files.find(pure).as_posix()
        return self.names[name]

    def parsed(self, path: Path) -> Parsed:
        notices = []
        if self.repeated:
            lines = ", ".join(map(str, self.repeated_lines)) + (", ..." if self.repeated > EXAMPLES else "")
            one = self.repeated == 1
            notices.append(
                f"{self.repeated:,} {'row' if one else 'rows'} of {path.name} repeated an earlier one and "
                f"{'was' if one else 'were'} dropped ({'line' if one else 'lines'} {lines})."
            )
        labels = np.array(list(self.rows.values()), dtype=np.str_).reshape(len(self.rows), len(LABELS))
        columns: dict[str, Any] = {name: labels[:, index] for index, name in enumerate(LABELS)}
        triplets = Triplets(
            images=tuple(self.images),
            rows=np.array(list(self.rows), dtype=np.int32).reshape(-1, 3),
            root=self.root,
            notices=tuple(notices),
            **columns,
        )
        read = "1 triplet was" if self.lines == 1 else f"{self.lines:,} triplets were"
        return Parsed(
            triplets, tuple(self.problems.values()), tuple(self.first_lines), f"{path} can't be used ({read} read):"
        )


def report(heading: str, problems: Iterable[Problem]) -> str:
    """A heading and one line for each kind of problem."""
    return "\n".join([heading, *(f"- {problem}" for problem in problems)])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    # A name that is too long, or holds a null byte, is no file either.
    except (OSError, ValueError):
        return False


def _text(path: Path) -> CsvText:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise TripletError(f"There is no file {path}. Name a CSV of query,positive,negative.") from error
    except OSError as error:
        raise TripletError(f"{path} can't be read: {error.strerror or error}.") from error
    if not data.strip():
        raise TripletError(f"{path} is empty. Each line must name three photos: query,positive,negative.")
    try:
        return CsvText.of(data, COLUMNS)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TripletError(
            f"{path} is not UTF-8 nor another text: line {line} holds the byte 0x{data[error.start]:02x}. Save it as "
            "CSV in UTF-8."
        ) from error


def write_triplets(triplets: Triplets, path: Path | str) -> None:
    """Write a CSV with a header that :func:`read_triplets` reads back; columns that are all empty are left out."""
    path = Path(path)
    labels = [name for name in LABELS if np.any(getattr(triplets, name) != "")]
    values = [getattr(triplets, name).tolist() for name in labels]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *labels])
        for number, row in enumerate(triplets.rows.tolist()):
            writer.writerow([*(triplets.images[index] for index in row), *(column[number] for column in values)])


Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``."""
