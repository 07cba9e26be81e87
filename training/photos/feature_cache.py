"""What the frozen half of a network says of each photo, computed once and kept on disk.

A cache belongs to one frozen half: its key is the sha256 of that half's layers and weights and of the preprocessing.
In it a photo is known by the sha256 of its file, and an augmented view of it by the augmentation besides. So a photo
that has changed is computed anew, and one that stands in two data sets is computed once. Pooled numbers are kept as
``float32``, feature maps as ``float16``.

On disk a cache is a row of segments, one for each call that had something to compute: a list of its photos, one
memory-mapped ``.npy`` file for each boundary tensor, and the count of rows that are finished. The count is written
after the rows have reached the disk; a process that is killed loses what it was just computing, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.files import file_sha256, private_folder, write_atomically
from shop_similarity.training.networks.runner import FixedShape, stacked
from shop_similarity.training.threads import ordered_map

if TYPE_CHECKING:
    from shop_similarity.training.networks.splitting import Split

# Vectors of so many bytes in all are read into memory; maps stay on disk, where the system keeps what is used.
_IN_MEMORY = 1 << 30
_ROOM_TO_SPARE = 256 << 20
_PHOTOS_BETWEEN_SAVES = 64

# Called as photos([(place, view), ...]); gives (size, size, 3) uint8 in that order.
Photos = Callable[[Sequence[tuple[int, int]]], Iterable[np.ndarray]]
Progress = Callable[[int, int], None]


class CacheError(TrainingError):
    """The cache can't be used; the sentence says what to do."""


def content_digests(paths: Sequence[Path], progress: Progress | None = None) -> list[str]:
    """sha256 of each file, as 64 hexadecimal digits.

    Raises:
        CacheError: if a file can't be read.
    """
    digests = []
    for digest in ordered_map(_digest, paths):
        digests.append(digest)
        if progress:
            progress(len(digests), len(paths))
    return digests


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise CacheError(f"The photo {path} can't be read: {error.strerror or error}.") from error


def fingerprint(split: Split, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about the numbers in a cache, besides the photos.

    Args:
        split: whose frozen half it is; its weights, its layers and their precision count.
        preprocessing: plain values.
    """
    weights = hashlib.sha256()
    for variable in split.frozen.weights:
        weights.update(f"{variable.path} {variable.shape}\n".encode())
        weights.update(np.ascontiguousarray(variable.numpy()).tobytes())
    layers = hashlib.sha256(split.frozen.to_json().encode())
    return {
        "weights": weights.hexdigest(),
        "layers": layers.hexdigest(),
        "boundary": list(split.boundary),
        "preprocessing": dict(preprocessing),
    }


class FeatureCache:
    """Boundary tensors of photos.

    Args:
        folder: of all caches; made if missing.
        split: whose frozen half is computed.
        key: see :func:`fingerprint`.
        augmentation: plain values that say how augmented views are made, their seed among them.
    """

    def __init__(
        self, folder: Path, split: Split, key: Mapping[str, Any], augmentation: Mapping[str, Any] | None = None
    ) -> None:
        self._split = split
        self._shapes = split.shapes
        self._dtypes = [np.dtype(np.float32 if len(shape) == 1 else np.float16) for shape in self._shapes]
        text = json.dumps(key, sort_keys=True)
        self.folder = folder / hashlib.sha256(text.encode()).hexdigest()[:32]
        made_by = json.dumps(augmentation, sort_keys=True)
        self._made_by = hashlib.sha256(made_by.encode()).hexdigest()[:16]
        self._about = json.dumps(key, indent=1, sort_keys=True)
        self._segments: list[list[np.ndarray]] = []
        self._row_of: dict[str, tuple[int, int]] = {}
        self._read()

    @property
    def bytes_per_photo(self) -> int:
        """Bytes on disk of one view of one photo."""
        return sum(math.prod(shape) * dtype.itemsize for shape, dtype in zip(self._shapes, self._dtypes, strict=True))

    def missing(self, digests: Sequence[str], views: Sequence[int]) -> list[tuple[int, int]]:
        """``(place, view)`` of what is not there yet; a file that stands there twice is named once.

        Args:
            digests: sha256 of each photo's file.
            views: of each photo, how many augmented views are wanted besides the photo as it is.
        """
        seen = set()
        missing = []
        for place, (digest, count) in enumerate(zip(digests, views, strict=True)):
            for view in range(count + 1):
                photo = self._name(digest, view)
                if photo not in self._row_of and photo not in seen:
                    seen.add(photo)
                    missing.append((place, view))
        return missing

    def fill(
        self,
        digests: Sequence[str],
        views: Sequence[int],
        photos: Photos,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> int:
        """Compute what is missing.

        Args:
            digests: sha256 of each photo's file.
            views: of each photo, how many augmented views are wanted besides the photo as it is (view 0).
            photos: gives the pixels of places and views.
            batch_size: photos of one forward pass.
            progress: called as ``progress(done, total)``.

        Returns:
            How many views of photos were computed.

        Raises:
            CacheError: if the disk has no room, or a number does not fit into the file.
        """
        missing = self.missing(digests, views)
        if not missing:
            return 0
        self._check_room(len(missing))
        plan = [self._name(digests[place], view) for place, view in missing]
        try:
            stem, tensors = self._new_segment(plan)
        except OSError as error:
            raise CacheError(
                f"The cache {self.folder} can't be written: {error.strerror or error}. Name another folder with "
                "--cache, or train without one (--no-cache)."
            ) from error
        step = FixedShape(self._split.features, batch_size)
        done = finished = 0
        for batch in stacked(photos(missing), batch_size):
            _store(step(batch), tensors, done)
            done += len(batch)
            if done - finished >= _PHOTOS_BETWEEN_SAVES or done == len(missing):
                for tensor in tensors:
                    tensor.flush()
                write_atomically(stem.with_suffix(".done"), str(done))
                finished = done
            if progress:
                progress(done, len(missing))
        if done != len(missing):
            raise CacheError(f"Only {done} of {len(missing)} photos could be read for the cache.")
        self._read()
        return done

    def select(self, digests: Sequence[str], views: Sequence[int]) -> CachedFeatures:
        """The cache as a source of batches, by places in ``digests``.

        Raises:
            CacheError: if something is missing: :meth:`fill` it before.
        """
        if self.missing(digests, views):
            raise CacheError("Some photos are not in the cache: it was emptied while it was in use. Start again.")
        where = np.full((len(digests), max(views, default=0) + 1, 2), -1, dtype=np.int64)
        for place, (digest, count) in enumerate(zip(digests, views, strict=True)):
            for view in range(count + 1):
                where[place, view] = self._row_of[self._name(digest, view)]
        return CachedFeatures(self._segments, where, self._shapes, self._dtypes)

    def _name(self, digest: str, view: int) -> str:
        return f"{digest}-{self._made_by}-{view}" if view else digest

    def _check_room(self, count: int) -> None:
        folder = self.folder
        while not folder.exists():
            folder = folder.parent
        needed = count * self.bytes_per_photo
        free = shutil.disk_usage(folder).free
        if needed + _ROOM_TO_SPARE > free:
            raise CacheError(
                f"The cache needs {readable_size(needed)} for {count:,} photos, and {folder} has "
                f"{readable_size(free)} left. Make room, name a folder on another disk with --cache, freeze more "
                "layers, or train without a cache (--no-cache)."
            )

    def _new_segment(self, plan: list[str]) -> tuple[Path, list[np.memmap]]:
        private_folder(self.folder)
        if not (self.folder / "about.json").exists():
            write_atomically(self.folder / "about.json", self._about)
        number = len(list(self.folder.glob("*.photos.json")))
        while True:
            stem = self.folder / f"{number:05d}"
            try:
                # Another process that fills the same cache takes another number.
                with stem.with_suffix(".photos.json").open("x", encoding="utf-8") as file:
                    json.dump(plan, file)
                break
            except FileExistsError:
                number += 1
        tensors = [
            np.lib.format.open_memmap(_tensor_path(stem, index), mode="w+", dtype=dtype, shape=(len(plan), *shape))
            for index, (shape, dtype) in enumerate(zip(self._shapes, self._dtypes, strict=True))
        ]
        return stem, tensors

    def _read(self) -> None:
        self._segments, self._row_of = [], {}
        for plan in sorted(self.folder.glob("*.photos.json")):
            stem = plan.with_name(plan.name.removesuffix(".photos.json"))
            try:
                photos = json.loads(plan.read_text(encoding="utf-8"))
                finished = min(len(photos), int(stem.with_suffix(".done").read_text(encoding="utf-8")))
                tensors = [np.load(_tensor_path(stem, index), mmap_mode="r") for index in range(len(self._shapes))]
            # A segment that was only begun, or is damaged, holds nothing.
            except (OSError, ValueError):
                continue
            expected = [(len(photos), *shape) for shape in self._shapes]
            if [tensor.shape for tensor in tensors] != expected:
                continue
            for row, photo in enumerate(photos[:finished]):
                self._row_of.setdefault(photo, (len(self._segments), row))
            self._segments.append(tensors)


class CachedFeatures:
    """Boundary tensors out of a cache, by places and views of photos; see :meth:`FeatureCache.select`."""

    def __init__(
        self,
        segments: list[list[np.ndarray]],
        where: np.ndarray,
        shapes: list[tuple[int, ...]],
        dtypes: list[np.dtype],
    ) -> None:
        self._segments = segments
        self._where = where
        self._shapes, self._dtypes = shapes, dtypes
        known = where[where[..., 0] >= 0]
        # Place of each view among those that are there.
        self._flat = np.full(where.shape[:2], -1, dtype=np.int64)
        self._flat[where[..., 0] >= 0] = np.arange(len(known))
        self._memory: list[np.ndarray | None] = []
        for index, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
            small = len(shape) == 1 and len(known) * math.prod(shape) * dtype.itemsize <= _IN_MEMORY
            self._memory.append(self._gather(index, known) if small else None)

    def batch(self, photos: np.ndarray, views: np.ndarray | None = None) -> list[np.ndarray]:
        """Boundary tensors ``(N, ...)`` of the photos at some places, in some views (0, as they are, by default)."""
        columns = np.zeros(len(photos), dtype=np.int64) if views is None else views
        flat, where = self._flat[photos, columns], self._where[photos, columns]
        if (flat < 0).any():
            raise CacheError("A view of a photo was asked for that is not in the cache.")
        return [
            self._gather(index, where) if memory is None else memory[flat] for index, memory in enumerate(self._memory)
        ]

    def _gather(self, index: int, where: np.ndarray) -> np.ndarray:
        result = np.empty((len(where), *self._shapes[index]), dtype=self._dtypes[index])
        for segment in np.unique(where[:, 0]):
            places = where[:, 0] == segment
            result[places] = self._segments[segment][index][where[places, 1]]
        return result


def _store(batch: list[np.ndarray], tensors: list[np.memmap], start: int) -> None:
    for tensor, values in zip(tensors, batch, strict=True):
        if not np.isfinite(values).all() or np.abs(values).max(initial=0) > np.finfo(tensor.dtype).max:
            raise CacheError(
                "The frozen layers give numbers that are not finite or do not fit into the cache: the weights are "
                "damaged or the photos are fed in another range than they expect. Train with --no-cache to look."
            )
        tensor[start : start + len(values)] = values


def _tensor_path(stem: Path, index: int) -> Path:
    return stem.with_name(f"{stem.name}-{index}.npy")


def readable_size(count: int) -> str:
    """Bytes in words: ``1.3 GB``."""
    value, unit = float(count), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:,.0f} {unit}" if value >= 10 or unit == "bytes" else f"{value:,.1f} {unit}"
