"""Triplets from the shop's own catalogue.

The photos are fetched once from whatever storage the shop keeps them in, into a local folder where training can read
them as often as it likes. What is made of them: :mod:`shop_similarity.training.triplets.building`.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from django.core.files.storage import Storage
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.catalogue import ImageRow, get_catalogue, setting_value
from shop_similarity.conf import get_settings
from shop_similarity.photos.decoding import ImageError, content_sha256, open_image, read_bytes
from shop_similarity.photos.file_marks import file_mark
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.photos.storage_faults import final_sentence
from shop_similarity.training.files import private_folder, write_atomically
from shop_similarity.training.threads import ordered_map
from shop_similarity.training.triplets.building import MIN_PRODUCTS, ProductPhoto, build_triplets
from shop_similarity.training.triplets.photo_hashes import Picture, picture_of
from shop_similarity.training.triplets.product_groups import group_names, keys_of_the_shop, product_name
from shop_similarity.training.triplets.scorers import SIDE, describe
from shop_similarity.training.triplets.sides import VALIDATION_SHARE
from shop_similarity.training.triplets.table import TripletError, Triplets

MAX_PHOTOS = 20_000
MAX_TRIPLETS = 20_000
PHOTOS_PER_PRODUCT = 8
ATTEMPTS = 3
"""Tries to read a photo from a storage that fails."""

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""


@dataclass(frozen=True)
class CatalogueTriplets:
    """What the catalogue gave.

    Attributes:
        triplets: their root is the folder that the photos were fetched to. None of them shows products of both sides
            of the split into training and validation.
        share: of the products that are on the side of validation.
        products: with a usable photo.
        photos: usable ones.
        without_category: products without one; they have no in-class negatives.
        of_both_sides: photos that were left out because products of both sides show them.
        skipped: (file name, why) of photos that can't be used.
    """

    triplets: Triplets
    share: float
    products: int
    photos: int
    without_category: int
    of_both_sides: int
    skipped: tuple[tuple[str, str], ...]


def catalogue_triplets(
    folder: Path,
    count: int = MAX_TRIPLETS,
    seed: int = 0,
    *,
    share: float = VALIDATION_SHARE,
    max_photos: int = MAX_PHOTOS,
    min_products: int = MIN_PRODUCTS,
    progress: Progress | None = None,
) -> CatalogueTriplets:
    """Make triplets of the shop's products.

    Args:
        folder: where the photos are kept, each under the SHA-256 of its bytes; what lies there already is not fetched
            again unless the shop replaced it. A run that was broken off goes on where it stopped.
        count: triplets at most.
        seed: of the sample and of the triplets.
        share: of the products (of the groups of variants, where the shop has them) that are set aside for validation;
            0 for none, see :func:`shop_similarity.training.triplets.building.build_triplets`.
        max_photos: of a larger catalogue a sample is taken, from all categories alike and with all photos of a product
            (the first ``PHOTOS_PER_PRODUCT`` of them).
        min_products: with a usable photo; fewer are refused.
        progress: called as ``progress(what, done, total)``.

    Raises:
        TripletError: the catalogue is too small, or its storage can't be read; the sentence says what to do.
    """
    rows, categories = _sample(max_photos, seed)
    if not rows:
        raise TripletError(
            f"The catalogue is too small to train on: it takes at least {min_products} products with a usable photo, "
            f"and no product has any. Add products with photos, or train on a CSV of triplets."
        )
    store = PhotoStore(folder, get_catalogue().storage)
    groups = group_names()
    photos: list[ProductPhoto] = []
    pictures: dict[str, Picture] = {}
    skipped: list[tuple[str, str]] = []
    what = _("Fetching the shop's photos")
    for done, (row, photo) in enumerate(store.fetch(rows), start=1):
        if isinstance(photo, str):
            skipped.append((row.file_name, photo))
        else:
            name, vector, pictures[photo[0]] = photo
            photos.append(
                ProductPhoto(
                    name,
                    product_name(row.product_id),
                    categories.get(row.product_id, ""),
                    vector,
                    groups.get(row.product_id, ""),
                )
            )
        if progress:
            progress(what, done, len(rows))
    products = {photo.product: photo.category for photo in photos}
    if not photos:
        raise TripletError(
            f"None of the {len(rows):,} photos of the catalogue can be used. The first one, {skipped[0][0]}: "
            f"{skipped[0][1]}"
        )
    what = _("Choosing triplets")
    built = build_triplets(
        photos,
        folder,
        count,
        seed,
        share=share,
        min_products=min_products,
        progress=progress and (lambda done, total: progress(what, done, total)),
    )
    triplets = built.triplets
    return CatalogueTriplets(
        replace(triplets, pictures=tuple(pictures[name] for name in triplets.images), keys=keys_of_the_shop()),
        built.share,
        products=len(products),
        photos=len(photos),
        without_category=sum(not category for category in products.values()),
        of_both_sides=built.of_both_sides,
        skipped=tuple(skipped),
    )


def _sample(max_photos: int, seed: int) -> tuple[list[ImageRow], dict[Any, str]]:
    """Photos of products drawn from all categories in turn, and the category of each product that has one."""
    catalogue = get_catalogue()
    of_product: dict[Any, list[ImageRow]] = {}
    for row in catalogue.rows(catalogue.images(), streamed=True):
        of_product.setdefault(row.product_id, []).append(row)
    categories = _categories()
    of_category: dict[str, list[Any]] = {}
    for product in of_product:
        of_category.setdefault(categories.get(product, ""), []).append(product)
    generator = random.Random(seed)  # noqa: S311
    queues = []
    for name in sorted(of_category):
        generator.shuffle(of_category[name])
        queues.append(of_category[name])
    rows: list[ImageRow] = []
    while queues and len(rows) < max_photos:
        for queue in queues:
            rows += of_product[queue.pop()][:PHOTOS_PER_PRODUCT]
        queues = [queue for queue in queues if queue]
    return rows[:max_photos], categories


def _categories() -> dict[Any, str]:
    value = setting_value("category")
    if value is None:
        return {}
    categories: dict[Any, str] = {}
    rows = value.annotate(get_catalogue().all_products().order_by("pk")).values_list("pk", value.alias)
    for product, category in database.stream(rows):
        # A product may be in several; the lowest key is as good as another, and the same in every run.
        if category is not None and (product not in categories or str(category) < categories[product]):
            categories[product] = str(category)
    return categories


class PhotoStore:
    """Local copies of photos of a storage, each under the SHA-256 of its bytes.

    Args:
        folder: where they are kept. ``index.jsonl`` there says which file of the storage, of what size and time, was
            found to be which copy.
        storage: where they come from.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        self.folder = Path(folder)
        self.storage = storage
        self.limits = catalogue_limits()
        self.threads = get_settings().decode_threads
        private_folder(self.folder)
        self.index = self.folder / "index.jsonl"
        self.known = self._read_index()

    def _read_index(self) -> dict[str, tuple[str, str]]:
        known = {}
        try:
            lines = self.index.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        for line in lines:
            try:
                entry = json.loads(line)
                known[entry["name"]] = (entry["mark"], entry["copy"])
            # The last line of a run that was killed may be half a line; that photo is fetched again.
            except (ValueError, KeyError, TypeError):
                continue
        return known

    def fetch(self, rows: Sequence[ImageRow]) -> Iterator[tuple[ImageRow, tuple[str, np.ndarray, Picture] | str]]:
        """Make sure that the photos are here.

        Yields:
            In the order of ``rows``: the row, and either the copy's path below the folder with its vector
            (:func:`shop_similarity.training.triplets.scorers.describe`) and its picture, or a sentence that says why
            the photo can't be used.

        Raises:
            TripletError: the storage fails again and again.
        """
        failures, ahead = 0, 8 * self.threads
        with self.index.open("a+", encoding="utf-8") as index:
            _end_last_line(index)
            for row, result in zip(rows, ordered_map(self._one, rows, self.threads, ahead), strict=True):
                if isinstance(result, Exception):
                    failures += 1
                    if failures >= ahead:
                        raise TripletError(
                            f"The storage of the photos fails again and again ({type(result).__name__}: {result}). "
                            f"Try again when it is back; what was fetched is kept in {self.folder}."
                        ) from result
                    yield row, f"The storage could not be read: {type(result).__name__}: {result}"
                elif isinstance(result, str):
                    yield row, result
                else:
                    failures = 0
                    name, mark, vector, picture = result
                    if self.known.get(row.file_name) != (mark, name):
                        self.known[row.file_name] = (mark, name)
                        index.write(json.dumps({"name": row.file_name, "mark": mark, "copy": name}) + "\n")
                        index.flush()
                    yield row, (name, vector, picture)

    def _one(self, row: ImageRow) -> tuple[str, str, np.ndarray, Picture] | str | Exception:
        """Copy, mark, vector and picture of a photo; or why it can't be used, in a sentence; or an exception."""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(0.2 * 4**attempt)
            try:
                mark = file_mark(self.storage, row.file_name)
                known_mark, name = self.known.get(row.file_name, ("", ""))
                data = self._copy(name) if known_mark == mark else None
                if data is None:
                    name = ""
                    with self.storage.open(row.file_name, "rb") as file:
                        data = read_bytes(file, self.limits.max_bytes)
                image = open_image(data, self.limits, target_size=SIDE)
                name = name or self._keep(data)
                return name, mark, describe(image), picture_of(Path(name).name, image)
            except ImageError as error:
                return str(error)
            except Exception as error:
                if sentence := final_sentence(error, row.file_name):
                    return sentence
                failure = error
        return failure

    def _copy(self, name: str) -> bytes | None:
        try:
            data = (self.folder / name).read_bytes()
        except OSError:
            return None
        # A disk that was full or lost power may have kept less than was written.
        return data if content_sha256(data) == Path(name).name else None

    def _keep(self, data: bytes) -> str:
        digest = content_sha256(data)
        name = f"{digest[:2]}/{digest}"
        if self._copy(name) is None:
            # It is compared with its hash whenever it is read.
            write_atomically(self.folder / name, data, mode=0o600, durable=False)
        return name


def _end_last_line(index: Any) -> None:
    """A half line that a killed run left must not swallow the next one."""
    end = index.seek(0, os.SEEK_END)
    if end:
        with Path(index.name).open("rb") as raw:
            raw.seek(-1, os.SEEK_END)
            if raw.read(1) != b"\n":
                index.write("\n")
