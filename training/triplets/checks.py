"""Everything about a set of triplets that must be known before the first step of a training.

:func:`load_triplets` opens every photo once, in threads. What can't be used is told in one report; what can be used is
counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from shop_similarity.photos.dimensions import upright_size
from shop_similarity.training.threads import ordered_map
from shop_similarity.training.triplets.photo_hashes import Picture, picture_of
from shop_similarity.training.triplets.table import (
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
        sizes: ``(n, 2)`` ``int32``, width and height in pixels, turned as it is shown.
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


@dataclass(frozen=True, slots=True)
class _Opened:
    sha256: str = ""
    picture: Picture | None = None
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


def load_triplets(
    path: Path | str,
    root: Path | str | None = None,
    progress: Progress | None = None,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    threads: int | None = None,
) -> tuple[Triplets, ImageReport]:
    """Read a CSV as :func:`shop_similarity.training.triplets.table.read_triplets` does, and decode every photo once.

    Args:
        path: the file.
        root: the folder that its paths are relative to; the file's own folder by default.
        progress: called as ``progress(done, total)``.
        limits: what a photo may be.
        threads: that decode; one for each core by default.

    Raises:
        TripletError: rows or photos are missing or can't be used: one report with counts, examples, and how many
            triplets bad photos take with them.

    Returns:
        The triplets with their pictures, and what was found.
    """
    parsed = parse_triplets(path, root)
    triplets = parsed.triplets
    opened = _open_all(triplets, progress, limits, threads)
    names = [f"line {line} “{name}”" for line, name in zip(parsed.first_lines, triplets.images, strict=True)]
    photos = _unusable(names, opened)
    if problems := [*parsed.problems, *photos]:
        headings = [*([parsed.heading] if parsed.problems else []), *([_heading(triplets, opened)] if photos else [])]
        raise TripletError(report("\n".join(headings), problems), problems)
    pictures = tuple(photo.picture for photo in opened if photo.picture)
    return replace(triplets, pictures=pictures), _image_report(triplets, opened)


def _heading(triplets: Triplets, opened: Sequence[_Opened]) -> str:
    bad = np.array([bool(photo.kind) for photo in opened])
    lost = int(bad[triplets.rows].any(axis=1).sum())
    return (
        f"{int(bad.sum()):,} of {len(opened):,} photos below {triplets.root} can't be used; {lost:,} of "
        f"{len(triplets):,} triplets need them:"
    )


def _open_all(triplets: Triplets, progress: Progress | None, limits: ImageLimits, threads: int | None) -> list[_Opened]:
    paths = triplets.paths()
    opened: list[_Opened] = []
    for photo in ordered_map(lambda path: _open(path, limits), paths, threads):
        opened.append(photo)
        if progress:
            progress(len(opened), len(paths))
    return opened


def _image_report(triplets: Triplets, opened: Sequence[_Opened]) -> ImageReport:
    digests = tuple(photo.sha256 for photo in opened)
    content = np.unique(np.array(digests), return_inverse=True)[1].reshape(-1)[triplets.rows]
    sound = (content[:, 0] != content[:, 1]) & (content[:, 0] != content[:, 2]) & (content[:, 1] != content[:, 2])
    return ImageReport(
        counts=count_triplets(triplets),
        sha256=digests,
        sizes=np.array([photo.size for photo in opened], dtype=np.int32).reshape(-1, 2),
        file_bytes=np.array([photo.file_bytes for photo in opened], dtype=np.int64),
        sound=sound,
        notices=tuple(_notices(triplets, digests, sound)),
    )


def _open(path: Path, limits: ImageLimits) -> _Opened:
    try:
        data, size, image = decoded(path, limits, _TARGET_SIZE)
        digest = content_sha256(data)
        return _Opened(digest, picture_of(digest, image), size, len(data))
    except ImageMissing:
        return _Opened(kind="missing")
    except ImageTypeNotAllowed as error:
        return _Opened(kind="type", reason=str(error))
    except ImageTooLarge as error:
        return _Opened(kind="large", reason=str(error))
    except ImageError as error:
        return _Opened(kind="damaged", reason=str(error))
    except OSError as error:
        return _Opened(kind="disk", reason=error.strerror or str(error))


def decoded(path: Path, limits: ImageLimits, target_size: int) -> tuple[bytes, tuple[int, int], Image.Image]:
    """A photo's bytes, its width and height as it is shown, and the photo at about ``target_size``.

    Raises:
        ImageError, OSError: it can't be used.
    """
    data = read_bytes(path, limits.max_bytes)
    photo = open_image(data, limits, target_size=target_size)
    return data, upright_size(data, limits) or photo.size, photo


def _unusable(names: Sequence[str], opened: Sequence[_Opened]) -> list[Problem]:
    """What is wrong with the photos, by kind; ``names`` are what the report calls them."""
    problems: dict[str, Problem] = {}
    for name, photo in zip(names, opened, strict=True):
        if photo.kind:
            problem = problems.setdefault(photo.kind, Problem(*_KINDS[photo.kind]))
            problem.add(name + (f" ({photo.reason.rstrip('.')})" if photo.reason else ""))
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
