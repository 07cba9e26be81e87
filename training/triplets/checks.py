"""Everything about a set of triplets that must be known before the first step of a training.

:func:`check_images` opens every photo once, in threads. What can't be used is told in one report; what can be used is
counted. :func:`check_leakage` looks for photos that stand in both the training and the validation set.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from shop_similarity.photos.decoding import (
    DEFAULT_LIMITS,
    ImageError,
    ImageLimits,
    ImageMissing,
    ImageTooLarge,
    ImageTypeNotAllowed,
    content_sha256,
    open_image,
    read_bytes,
)
from shop_similarity.training.triplets.table import (
    EXAMPLES,
    Problem,
    Progress,
    TripletError,
    Triplets,
    parse_triplets,
    report,
)

# Decoding for the check alone: JPEGs are read at the scale that training reads them at.
_TARGET_SIZE = 224


@dataclass(frozen=True)
class TripletCounts:
    """What a set of triplets consists of.

    Attributes:
        triplets: rows.
        images: different photos, by name.
        queries: different photos in the first column.
        positives: in the second.
        negatives: in the third.
        positive_pairs: different (query, positive).
        in_class: triplets whose negative is known to be of the query's class.
        out_of_class: whose negative is known to be of another class.
        unknown_class: whose negative is of neither kind, as far as the file says.
        positive_types: triplets by ``positive_type``, the most frequent first; empty where the file names none.
        negative_types: the same by ``negative_type``.
    """

    triplets: int
    images: int
    queries: int
    positives: int
    negatives: int
    positive_pairs: int
    in_class: int
    out_of_class: int
    unknown_class: int
    positive_types: dict[str, int]
    negative_types: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def __str__(self) -> str:
        lines = [
            f"{self.triplets:,} triplets of {self.images:,} photos: {self.queries:,} queries, {self.positives:,} "
            f"positives ({self.positive_pairs:,} pairs), {self.negatives:,} negatives."
        ]
        if self.in_class or self.out_of_class:
            unknown = f", {self.unknown_class:,} not known" if self.unknown_class else ""
            lines.append(f"Negatives: {self.in_class:,} in-class, {self.out_of_class:,} out-of-class{unknown}.")
        for what, types in (("Positives", self.positive_types), ("Negatives", self.negative_types)):
            if types:
                lines.append(f"{what} by type: {', '.join(f'{count:,} {name}' for name, count in types.items())}.")
        return "\n".join(lines)


def count_triplets(triplets: Triplets) -> TripletCounts:
    """Count a set of triplets; reads no photo."""
    in_class, out_of_class = int(triplets.in_class().sum()), int(triplets.out_of_class().sum())
    return TripletCounts(
        triplets=len(triplets),
        images=len(triplets.images),
        queries=len(np.unique(triplets.rows[:, 0])),
        positives=len(np.unique(triplets.rows[:, 1])),
        negatives=len(np.unique(triplets.rows[:, 2])),
        positive_pairs=len(triplets.positive_pairs()),
        in_class=in_class,
        out_of_class=out_of_class,
        unknown_class=len(triplets) - in_class - out_of_class,
        positive_types=_by_type(triplets.positive_type),
        negative_types=_by_type(triplets.negative_type),
    )


def _by_type(types: np.ndarray) -> dict[str, int]:
    counted = Counter(types.tolist())
    if set(counted) <= {""}:
        return {}
    return {name or "(none)": count for name, count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))}


@dataclass(frozen=True, eq=False)
class ImageReport:
    """What was found when every photo was opened.

    Attributes:
        counts: of the triplets.
        sha256: of each photo's bytes, in the order of ``triplets.images``.
        sizes: ``(n, 2)`` ``int32``, width and height in pixels as stored.
        file_bytes: ``(n,)`` ``int64``.
        sound: ``(len(triplets),)`` bool: False where two of a triplet's three photos are the same bytes under two
            names. Such a triplet teaches nothing (query and positive) or something wrong (the negative).
        notices: what deserves a look but stops nothing, as sentences.
    """

    counts: TripletCounts
    sha256: tuple[str, ...]
    sizes: np.ndarray
    file_bytes: np.ndarray
    sound: np.ndarray
    notices: tuple[str, ...] = ()

    @property
    def duplicates(self) -> int:
        """Photos whose bytes another photo before them has."""
        return len(self.sha256) - len(set(self.sha256))

    def to_dict(self) -> dict[str, Any]:
        """Counts as plain JSON values."""
        sides = self.sizes.max(axis=1)
        return self.counts.to_dict() | {
            "duplicate_images": self.duplicates,
            "unsound_triplets": int((~self.sound).sum()),
            "longest_side": {
                "smallest": int(sides.min()),
                "median": int(np.median(sides)),
                "largest": int(sides.max()),
            },
        }

    def __str__(self) -> str:
        sides = self.sizes.max(axis=1)
        return "\n".join(
            [
                str(self.counts),
                f"All photos can be read; longest sides from {sides.min():,} to {sides.max():,} pixels, "
                f"{self.file_bytes.sum() / 2**20:,.1f} MiB in all.",
                *self.notices,
            ]
        )


@dataclass(slots=True)
class _Opened:
    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    file_bytes: int = 0
    kind: str = ""
    reason: str = ""


_KINDS = {
    "missing": (
        "photo that is not there",
        "Put the files there, name the right folder of photos, or take their rows out.",
    ),
    "type": ("file that is no photo of an allowed type", "Save these as JPEG or PNG, or take their rows out."),
    "large": ("photo that is too large", "Save these smaller, or take their rows out."),
    "damaged": ("photo that can't be decoded", "Put undamaged files in their place, or take their rows out."),
    "disk": ("photo that can't be read", "Look at the files' permissions and the disk, then try again."),
}


def check_images(
    triplets: Triplets,
    progress: Progress | None = None,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    threads: int | None = None,
) -> ImageReport:
    """Open and decode every photo once.

    Args:
        triplets: what will be trained or evaluated on.
        progress: called as ``progress(done, total)``.
        limits: what a photo may be.
        threads: that decode; one for each core by default.

    Raises:
        TripletError: there is no triplet, or photos are missing or can't be used: one report with counts, examples,
            and how many triplets they take with them.
    """
    if not len(triplets):
        raise TripletError("There is no triplet to train on.")
    opened = _open_all(triplets, progress, limits, threads)
    if problems := _unusable([f"“{name}”" for name in triplets.images], opened):
        raise TripletError(report(_heading(triplets, opened), problems), problems)
    return _image_report(triplets, opened)


def load_triplets(
    path: Path | str,
    root: Path | str | None = None,
    progress: Progress | None = None,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    threads: int | None = None,
) -> tuple[Triplets, ImageReport]:
    """Read a CSV as :func:`shop_similarity.training.triplets.table.read_triplets` does and open its photos as
    :func:`check_images` does.

    Raises:
        TripletError: rows or photos can't be used: all of them in one report.
    """
    parsed = parse_triplets(path, root)
    triplets = parsed.triplets
    opened = _open_all(triplets, progress, limits, threads)
    names = [f"line {line} “{name}”" for line, name in zip(parsed.first_lines, triplets.images, strict=True)]
    photos = _unusable(names, opened)
    if problems := [*parsed.problems, *photos]:
        headings = [*([parsed.heading] if parsed.problems else []), *([_heading(triplets, opened)] if photos else [])]
        raise TripletError(report("\n".join(headings), problems), problems)
    return triplets, _image_report(triplets, opened)


def _heading(triplets: Triplets, opened: Sequence[_Opened]) -> str:
    bad = np.array([bool(found.kind) for found in opened])
    lost = int(bad[triplets.rows].any(axis=1).sum())
    return (
        f"{int(bad.sum()):,} of {len(opened):,} photos below {triplets.root} can't be used; {lost:,} of "
        f"{len(triplets):,} triplets need them:"
    )


def _open_all(triplets: Triplets, progress: Progress | None, limits: ImageLimits, threads: int | None) -> list[_Opened]:
    paths = triplets.paths()

    def look(path: Path) -> _Opened:
        return _open(path, limits)

    opened: list[_Opened] = []
    pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="training-check")
    try:
        for found in pool.map(look, paths):
            opened.append(found)
            if progress:
                progress(len(opened), len(paths))
    finally:
        # Without this, Ctrl-C would wait until the last photo has been opened.
        pool.shutdown(cancel_futures=True)
    return opened


def _image_report(triplets: Triplets, opened: Sequence[_Opened]) -> ImageReport:
    digests = tuple(found.sha256 for found in opened)
    content = np.unique(np.array(digests), return_inverse=True)[1].reshape(-1)[triplets.rows]
    sound = (content[:, 0] != content[:, 1]) & (content[:, 0] != content[:, 2]) & (content[:, 1] != content[:, 2])
    return ImageReport(
        counts=count_triplets(triplets),
        sha256=digests,
        sizes=np.array([found.size for found in opened], dtype=np.int32).reshape(-1, 2),
        file_bytes=np.array([found.file_bytes for found in opened], dtype=np.int64),
        sound=sound,
        notices=tuple(_notices(triplets, digests, sound)),
    )


def _open(path: Path, limits: ImageLimits) -> _Opened:
    found = _Opened()
    try:
        data = read_bytes(path, limits.max_bytes)
        open_image(data, limits, target_size=_TARGET_SIZE)
        found.sha256, found.file_bytes = content_sha256(data), len(data)
        with Image.open(io.BytesIO(data), formats=[name for name in limits.formats if name in Image.OPEN]) as image:
            found.size = image.size
    except ImageMissing:
        found.kind = "missing"
    except ImageTypeNotAllowed as error:
        found.kind, found.reason = "type", str(error)
    except ImageTooLarge as error:
        found.kind, found.reason = "large", str(error)
    except ImageError as error:
        found.kind, found.reason = "damaged", str(error)
    except OSError as error:
        found.kind, found.reason = "disk", error.strerror or str(error)
    return found


def _unusable(names: Sequence[str], opened: Sequence[_Opened]) -> list[Problem]:
    """What is wrong with the photos, by kind; ``names`` are what the report calls them."""
    problems: dict[str, Problem] = {}
    for name, found in zip(names, opened, strict=True):
        if found.kind:
            problem = problems.setdefault(found.kind, Problem(*_KINDS[found.kind]))
            problem.add(name + (f" ({found.reason.rstrip('.')})" if found.reason else ""))
    return list(problems.values())


def _notices(triplets: Triplets, digests: Sequence[str], sound: np.ndarray) -> list[str]:
    notices = list(triplets.notices)
    first: dict[str, str] = {}
    twins = Problem("photo", "")
    for name, digest in zip(triplets.images, digests, strict=True):
        if digest in first:
            twins.add(f"“{name}” = “{first[digest]}”")
        else:
            first[digest] = name
    if twins.count:
        notices.append(
            f"{twins.count:,} {'photo has' if twins.count == 1 else 'photos have'} the same bytes as another: "
            f"{_examples(twins)}."
        )
    if not sound.all():
        row = triplets.rows[np.flatnonzero(~sound)[0]]
        notices.append(
            f"In {int((~sound).sum()):,} triplets two of the three photos are the same bytes under two names, such as "
            f"{', '.join(f'“{triplets.images[place]}”' for place in row)}: they teach nothing or something wrong."
        )
    pairs = {tuple(pair) for pair in triplets.positive_pairs().tolist()}
    against = [
        (one, other) for one, _, other in triplets.rows.tolist() if (one, other) in pairs or (other, one) in pairs
    ]
    if against:
        one, other = against[0]
        notices.append(
            f"In {len(against):,} triplets the negative is a positive of the same query elsewhere, such as "
            f"“{triplets.images[one]}” and “{triplets.images[other]}”: the two statements work against each other."
        )
    known = (triplets.query_group != "") & (triplets.query_group == triplets.negative_group)
    if known.any():
        name = triplets.query_group[np.flatnonzero(known)[0]]
        notices.append(
            f"In {int(known.sum()):,} triplets query and negative are of the same group, such as “{name}”: is the "
            f"negative meant to be one?"
        )
    return notices


def _examples(problem: Problem) -> str:
    return ", ".join(problem.examples) + (", ..." if problem.count > len(problem.examples) else "")


@dataclass(frozen=True)
class Leakage:
    """Photos that stand on both sides; false where there are none.

    Attributes:
        same_file: (train, validation) names of one file.
        same_bytes: (train, validation) names of two files with the same bytes.
        same_group: names of groups that stand on both sides.
        validation_triplets: triplets of the validation set that one of these photos is in.
    """

    same_file: tuple[tuple[str, str], ...] = ()
    same_bytes: tuple[tuple[str, str], ...] = ()
    same_group: tuple[str, ...] = ()
    validation_triplets: int = 0
    _total: int = field(default=0, repr=False)

    def __bool__(self) -> bool:
        return bool(self.same_file or self.same_bytes or self.same_group)

    def to_dict(self) -> dict[str, int]:
        return {
            "same_file": len(self.same_file),
            "same_bytes": len(self.same_bytes),
            "same_group": len(self.same_group),
            "validation_triplets": self.validation_triplets,
        }

    def __str__(self) -> str:
        if not self:
            return "No photo stands in both the training and the validation set."
        lines = [
            f"The validation set is not independent of the training set: its figures will be too good. Photos that "
            f"are in both are in {self.validation_triplets:,} of {self._total:,} validation triplets."
        ]
        for what, pairs in (("the same file", self.same_file), ("the same bytes under two names", self.same_bytes)):
            if pairs:
                shown = ", ".join(
                    f"“{one}”" if one == other else f"“{one}” = “{other}”" for one, other in pairs[:EXAMPLES]
                )
                lines.append(f"- {len(pairs):,} x {what}: {shown}{', ...' if len(pairs) > EXAMPLES else ''}.")
        if self.same_group:
            shown = ", ".join(f"“{name}”" for name in self.same_group[:EXAMPLES])
            more = ", ..." if len(self.same_group) > EXAMPLES else ""
            lines.append(f"- {len(self.same_group):,} x the same group: {shown}{more}.")
        lines.append("Take these photos out of one of the two files.")
        return "\n".join(lines)


def check_leakage(
    train: Triplets, validation: Triplets, train_report: ImageReport, validation_report: ImageReport
) -> Leakage:
    """Look for photos and groups that stand in both sets: by path, by bytes, and by group where the files name them."""
    files = {os.path.realpath(path): name for path, name in zip(train.paths(), train.images, strict=True)}
    contents = dict(zip(train_report.sha256, train.images, strict=True))
    same_file, same_bytes = [], []
    leaked = np.zeros(len(validation.images), dtype=bool)
    found = zip(validation.paths(), validation.images, validation_report.sha256, strict=True)
    for place, (path, name, digest) in enumerate(found):
        real = os.path.realpath(path)
        if real in files:
            same_file.append((files[real], name))
        elif digest in contents:
            same_bytes.append((contents[digest], name))
        else:
            continue
        leaked[place] = True
    groups = (set(train.query_group) | set(train.negative_group)) & (
        set(validation.query_group) | set(validation.negative_group)
    )
    same_group = tuple(sorted(str(name) for name in groups - {""}))
    in_rows = leaked[validation.rows].any(axis=1)
    in_rows |= np.isin(validation.query_group, same_group) | np.isin(validation.negative_group, same_group)
    return Leakage(tuple(same_file), tuple(same_bytes), same_group, int(in_rows.sum()), len(validation))
