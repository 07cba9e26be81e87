"""A data set looked at before training: what is in it, what is wrong with it, what leaks.

Nothing here stops at a bad row or photo: it is counted and told, and the rest is looked at. What may not be wrong
before a training starts is :mod:`shop_similarity.training.triplets.checks`' business.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from shop_similarity.photos.decoding import DEFAULT_LIMITS, ImageError, ImageLimits, content_sha256
from shop_similarity.training.threads import ordered_map
from shop_similarity.training.triplets.checks import TripletCounts, count_triplets, decoded
from shop_similarity.training.triplets.csv_text import CsvText, FileNames
from shop_similarity.training.triplets.photo_hashes import DECODED_AT, Picture, picture_of, same_pictures
from shop_similarity.training.triplets.table import Problem, TripletError, Triplets, parse_triplets

_SMALL = 224
"""Photos with a shorter side below this are enlarged by most models."""

ExploreProgress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One photo of a data set.

    Attributes:
        picture: what it shows; None if it can't be read.
        size: width and height in pixels, turned as it is shown.
        file_bytes: of the file.
        trouble: why it can't be read, or "".
    """

    picture: Picture | None = None
    size: tuple[int, int] = (0, 0)
    file_bytes: int = 0
    trouble: str = ""


@dataclass(frozen=True, eq=False)
class Products:
    """What a CSV of products says of photos: ``image``, and any of ``category`` and ``group_id``.

    Attributes:
        category, group: by image path; without what the file leaves empty.
    """

    category: Mapping[str, str]
    group: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Products:
        """Read the file.

        Raises:
            TripletError: it can't be read, or has no column ``image``, or neither of the others.
        """
        try:
            reader = CsvText.of(path.read_bytes(), ("image",)).dictionaries()
            columns = set(reader.fieldnames or ())
            if "image" not in columns or not columns & {"category", "group_id"}:
                raise TripletError(
                    f"{path} must have a first line that names the columns image and category (or group_id)."
                )
            rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise TripletError(f"{path} can't be read as a CSV file in UTF-8: {error}.") from error

        def by_image(column: str) -> dict[str, str]:
            return {row["image"]: row[column] for row in rows if row.get("image") and row.get(column)}

        return cls(by_image("category"), by_image("group_id"))

    def below(self, root: Path) -> Products:
        """The same by the names that the photos have below this folder, as triplets name them."""
        files = FileNames(root)
        return Products(
            *(
                {files.find(PurePosixPath(image)).as_posix(): value for image, value in values.items()}
                for values in (self.category, self.group)
            )
        )


@dataclass(frozen=True, eq=False)
class Exploration:
    """What was found in one set of triplets.

    Attributes:
        name: of the set.
        triplets: the rows that can be read.
        photos: in the order of ``triplets.images``.
        problems: rows that can't be used, and photos that are missing or can't be read.
        counts: of the triplets.
        categories: photos by category, the most frequent first; empty where no products are given.
        query_categories: triplets by the category of their query.
        groups: photos by group.
        same_bytes: places of photos with equal bytes, one tuple for each picture.
        near: ``(p, 2)`` places of photos that show the same picture in different bytes.
    """

    name: str
    triplets: Triplets
    photos: tuple[Photo, ...]
    problems: tuple[Problem, ...]
    counts: TripletCounts
    categories: Mapping[str, int] = field(default_factory=dict)
    query_categories: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    same_bytes: tuple[tuple[int, ...], ...] = ()
    near: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.intp))

    def readable(self) -> np.ndarray:
        """``(len(photos),)`` bool."""
        return np.array([not photo.trouble for photo in self.photos], dtype=bool)

    def sizes(self) -> np.ndarray:
        """``(r, 2)`` width and height of the readable photos."""
        return np.array([photo.size for photo in self.photos if not photo.trouble], dtype=np.int64).reshape(-1, 2)

    def per_query(self) -> dict[str, np.ndarray]:
        """For each query photo how many triplets, different positives and different negatives it has."""
        rows = self.triplets.rows
        queries = np.unique(rows[:, 0])
        counts = {"triplets": np.bincount(rows[:, 0])[queries]}
        for name, column in (("positives", 1), ("negatives", 2)):
            pairs = np.unique(rows[:, [0, column]], axis=0)
            counts[name] = np.bincount(pairs[:, 0])[queries]
        return counts

    def contradictions(self) -> int:
        """Triplets whose positive or negative is, by bytes or by hash, the same picture as the query or each other."""
        pairs = {tuple(sorted(pair)) for pair in self.near.tolist()}
        for places in self.same_bytes:
            pairs |= {(one, other) for one in places for other in places if one < other}
        return sum(
            any(tuple(sorted(pair)) in pairs for pair in ((query, positive), (query, negative), (positive, negative)))
            for query, positive, negative in self.triplets.rows.tolist()
        )

    def to_dict(self) -> dict[str, Any]:
        """Counts as plain JSON values."""
        sizes = self.sizes()
        return self.counts.to_dict() | {
            "problems": {problem.what: problem.count for problem in self.problems},
            "unreadable_photos": int((~self.readable()).sum()),
            "categories": dict(self.categories),
            "query_categories": dict(self.query_categories),
            "groups": len(self.groups),
            "per_query": {name: _spread(values) for name, values in self.per_query().items()},
            "shorter_side": _spread(sizes.min(axis=1)) if len(sizes) else None,
            "aspect_ratios": _aspects(sizes),
            "small_photos": int((sizes.min(axis=1) < _SMALL).sum()) if len(sizes) else 0,
            "megabytes": round(sum(photo.file_bytes for photo in self.photos) / 1e6, 1),
            "duplicates": {
                "same_bytes": sum(len(places) - 1 for places in self.same_bytes),
                "near": len(self.near),
                "triplets_with_one_picture_twice": self.contradictions(),
            },
        }

    def lines(self) -> list[str]:
        """The same in sentences."""
        lines = str(self.counts).splitlines()
        lines += [f"- {problem}" for problem in self.problems]
        lines += self.triplets.notices
        for name, values in self.per_query().items():
            spread = _spread(values)
            lines.append(
                f"{name.capitalize()} of a query: {spread['median']:g} in the middle, from {spread['smallest']} to "
                f"{spread['largest']}."
            )
        sizes = self.sizes()
        if len(sizes):
            shorter = sizes.min(axis=1)
            small = int((shorter < _SMALL).sum())
            lines.append(
                f"Shorter sides from {shorter.min():,} to {shorter.max():,} pixels, {np.median(shorter):,.0f} in the "
                f"middle; {small:,} photos below {_SMALL}."
            )
            lines.append(
                "Shapes: " + ", ".join(f"{count:,} {shape}" for shape, count in _aspects(sizes).items() if count) + "."
            )
        for what, counted in (
            ("Photos by category", self.categories),
            ("Queries' categories", self.query_categories),
        ):
            if counted:
                lines.append(f"{what}: {_most(counted)}.")
        if self.groups:
            spread = _spread(np.array(list(self.groups.values())))
            lines.append(
                f"{len(self.groups):,} groups; photos of a group: {spread['median']:g} in the middle, from "
                f"{spread['smallest']} to {spread['largest']}."
            )
        lines.append(self._duplicates())
        return lines

    def _duplicates(self) -> str:
        copies = sum(len(places) - 1 for places in self.same_bytes)
        if not copies and not len(self.near):
            return "No photo stands there twice, as far as bytes and hashes tell."
        images = self.triplets.images
        examples = [f"“{images[places[0]]}” = “{images[places[1]]}”" for places in self.same_bytes[:2]]
        examples += [f"“{images[one]}” ~ “{images[other]}”" for one, other in self.near[:2].tolist()]
        triplets = self.contradictions()
        return (
            f"{copies:,} copies of the same bytes, {len(self.near):,} pairs that show nearly the same picture, such as "
            f"{', '.join(examples)}; {triplets:,} triplets have one picture twice."
        )


def explore(
    path: Path,
    root: Path | None = None,
    products: Products | None = None,
    progress: ExploreProgress | None = None,
    name: str = "train",
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Exploration:
    """Look at a set of triplets and open all its photos.

    Args:
        path: CSV of triplets.
        root: the folder that its paths are relative to; the file's own by default.
        products: categories and groups of the photos.
        progress: see :data:`ExploreProgress`.
        name: of the set.
        limits: what a photo may be.

    Raises:
        TripletError: the file as a whole can't be read, or no row of it can be used.
    """
    parsed = parse_triplets(path, root)
    triplets = parsed.triplets
    if not len(triplets):
        raise TripletError("\n".join([parsed.heading, *(f"- {problem}" for problem in parsed.problems)]))
    photos = _look_at(triplets.paths(), name, progress, limits)
    unreadable: dict[str, Problem] = {}
    for image, photo in zip(triplets.images, photos, strict=True):
        if photo.trouble:
            problem = Problem("photo that can't be used", "Replace these files, or take their rows out.")
            unreadable.setdefault("photo", problem).add(f"“{image}” ({photo.trouble.rstrip('.')})")
    products = (products or Products({}, {})).below(parsed.triplets.root)
    by_bytes: dict[str, list[int]] = {}
    for place, photo in enumerate(photos):
        if photo.picture:
            by_bytes.setdefault(photo.picture.sha256, []).append(place)
    # Copies would be told again as near duplicates of each other and of everything that is near to one of them.
    first = np.array(sorted(places[0] for places in by_bytes.values()), dtype=np.intp)
    near = first[same_pictures([photos[place].picture for place in first.tolist()])].reshape(-1, 2)
    category = products.category.get
    return Exploration(
        name=name,
        triplets=triplets,
        photos=tuple(photos),
        problems=(*parsed.problems, *unreadable.values()),
        counts=count_triplets(triplets),
        categories=_counted(category(image, "") for image in triplets.images) if products.category else {},
        query_categories=(
            _counted(category(triplets.images[place], "") for place in triplets.rows[:, 0].tolist())
            if products.category
            else {}
        ),
        groups=_counted(_groups(triplets, products)),
        same_bytes=tuple(tuple(places) for places in by_bytes.values() if len(places) > 1),
        near=near,
    )


def _look_at(paths: Sequence[Path], name: str, progress: ExploreProgress | None, limits: ImageLimits) -> list[Photo]:
    photos: list[Photo] = []
    for photo in ordered_map(lambda path: _look(path, limits), paths):
        photos.append(photo)
        if progress:
            progress(name, len(photos), len(paths))
    return photos


def _look(path: Path, limits: ImageLimits) -> Photo:
    try:
        data, size, small = decoded(path, limits, DECODED_AT)
    except ImageError as error:
        return Photo(trouble=str(error))
    except (OSError, ValueError) as error:
        return Photo(trouble=getattr(error, "strerror", None) or str(error))
    return Photo(picture_of(content_sha256(data), small), size, len(data))


def _groups(triplets: Triplets, products: Products) -> list[str]:
    """The group of each photo that has one, by the products' file or else by the triplets' own columns."""
    if products.group:
        return [products.group[image] for image in triplets.images if image in products.group]
    known: dict[int, str] = {}
    for row, query, negative in zip(
        triplets.rows.tolist(), triplets.query_group.tolist(), triplets.negative_group.tolist(), strict=True
    ):
        for place, name in ((row[0], query), (row[2], negative)):
            if name:
                known[place] = name
    return list(known.values())


def _counted(names: Any) -> dict[str, int]:
    counted = Counter(name or "(none)" for name in names)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _most(counted: Mapping[str, int], shown: int = 12) -> str:
    total = sum(counted.values())
    parts = [f"{count:,} {name} ({count / total:.0%})" for name, count in list(counted.items())[:shown]]
    rest = list(counted.values())[shown:]
    return ", ".join(parts) + (f", {sum(rest):,} in {len(rest)} more" if rest else "")


def _spread(values: np.ndarray) -> dict[str, float]:
    return {"smallest": int(values.min()), "median": float(np.median(values)), "largest": int(values.max())}


def _aspects(sizes: np.ndarray) -> dict[str, int]:
    ratio = sizes[:, 0] / np.maximum(sizes[:, 1], 1)
    return {
        "upright": int((ratio < 0.8).sum()),
        "about square": int(((ratio >= 0.8) & (ratio <= 1.25)).sum()),
        "wide": int((ratio > 1.25).sum()),
        "very narrow or wide": int(((ratio < 0.4) | (ratio > 2.5)).sum()),
    }
