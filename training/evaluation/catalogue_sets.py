"""A look-alike set and an instance set from the shop's own catalogue, so that every shop sees its own figures.

    FOLDER/look_alike/    queries.csv, gallery.csv: product_id, category and colour of each photo
    FOLDER/instance/      queries.csv, gallery.csv, qrels.csv
    FOLDER/photos/        the photos, each under the SHA-256 of its bytes

Look-alikes are photos of other products of the same category; exact ones have the same colour as well. Instances are
photos of the same product (exact) or of another variant of it (partial). Both search the same photos.

The sample is drawn by the hash of keys: as products come and go, those that stay are drawn again. What is read of the
catalogue is streamed, and what is kept of it does not grow with the shop.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.catalogue import ImageRow, ProductValue, get_catalogue, setting_value
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.evaluation.colour_names import NAMES, SIDE, colour_number
from shop_similarity.training.files import write_atomically
from shop_similarity.training.triplets.catalogue import PhotoStore
from shop_similarity.training.versions.embedding_files import map_files

MAX_PHOTOS = 4_000
"""Photos that are searched; of a larger catalogue a sample."""

MAX_QUERIES = 1_000
"""Photos that ask, in each of the two sets."""

MAX_CATEGORIES = 100
"""Categories of a sample. More of them would leave too few products of each to find anything among."""

PHOTOS_PER_PRODUCT = 4
_PRODUCTS_AT_ONCE = 500
LOOK_ALIKE, INSTANCE, PHOTOS = "look_alike", "instance", "photos"

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""

Asks = Callable[[str], bool]
"""Whether a product, by its name (:attr:`Product.name`), may ask; all may be found."""


class CatalogueSetError(TrainingError):
    """The catalogue gives no set; the sentence says why and what to do."""


@dataclass(frozen=True)
class Product:
    """A product of the sample.

    Attributes:
        key: its primary key.
        name: of its group of variants, or of itself where it is in none: photos of one name are never look-alikes.
        category: value of the ``CATEGORY`` path, as text; "" without one.
        colour: value of the ``COLOUR`` path, as text; "" where it is to be seen in the photos.
    """

    key: Any
    name: str
    category: str
    colour: str


@dataclass(frozen=True)
class Photo:
    """A photo of the sample: its product, its copy below the folder, and its colour."""

    product: Product
    image: str
    colour: str


@dataclass(frozen=True)
class CatalogueSets:
    """What was written.

    Attributes:
        look_alike, instance: folders of the sets; None where the catalogue has nothing of the kind to find.
        products: of the sample, with a usable photo.
        photos: that are searched.
        skipped: (file name, why) of photos that can't be used.
        notices: sentences on what is missing.
    """

    look_alike: Path | None
    instance: Path | None
    products: int
    photos: int
    skipped: tuple[tuple[str, str], ...]
    notices: tuple[str, ...]


def write_catalogue_sets(
    folder: Path,
    seed: int = 0,
    *,
    max_photos: int = MAX_PHOTOS,
    max_queries: int = MAX_QUERIES,
    drawer: Path | None = None,
    replace: bool = False,
    asks: Asks | None = None,
    progress: Progress | None = None,
) -> CatalogueSets:
    """Make both sets of products that may be shown.

    Args:
        folder: where they are written.
        seed: of the sample.
        max_photos: that are searched, from all categories alike.
        max_queries: of each set.
        drawer: the folder whose ``photos`` keep the photos, each fetched once from whatever storage the shop has; by
            default that of the sets, which can then be taken elsewhere.
        replace: sets that the folder holds already, instead of refusing to.
        asks: which products may ask, by name; by default all. With those alone that no version was trained on, figures
            are of products that none has seen.
        progress: called as ``progress(what, done, total)``.

    Raises:
        CatalogueSetError: the folder holds sets already, or the catalogue gives none.
        TripletError: the storage of the photos fails again and again.
    """
    for name in (LOOK_ALIKE, INSTANCE):
        if (folder / name / "gallery.csv").exists() and not replace:
            raise CatalogueSetError(
                f"{folder} holds sets already. Measure on them with --look-alike {folder / LOOK_ALIKE} --retrieval "
                f"{folder / INSTANCE}, or name another folder."
            )
    rows = _rows(_sample(max_photos, seed), max_photos)
    if not rows:
        raise CatalogueSetError("No product that may be shown has a photo, so there is nothing to measure on.")
    photos, skipped = _fetched((drawer or folder) / PHOTOS, rows, progress)
    if not photos:
        raise CatalogueSetError(
            f"None of the {len(rows):,} photos of the sample can be used. The first one, {skipped[0][0]}: "
            f"{skipped[0][1]}"
        )
    asking = [place for place, photo in enumerate(photos) if asks is None or asks(photo.product.name)]
    asking.sort(key=lambda place: _hash(seed, photos[place].image))
    notices: list[str] = []
    look_alike, instance = _look_alike_queries(photos, asking), _instance_queries(photos, asking)
    found: dict[str, Path | None] = {}
    for name, queries, missing in (
        (LOOK_ALIKE, look_alike, "no two products that share category and colour, one of which may ask"),
        (INSTANCE, instance, "no product that may ask has two photos"),
    ):
        found[name] = None
        if queries:
            found[name] = folder / name
            _write(folder / name, photos, _in_turn(photos, queries, max_queries))
        else:
            notices.append(f"There is no {name.replace('_', '-')} set, for the catalogue has {missing}.")
    if setting_value("category") is None:
        notices.append("Without the setting CATEGORY nobody knows which products are of one kind.")
    if not any(found.values()):
        raise CatalogueSetError(" ".join(notices))
    products = len({photo.product.key for photo in photos})
    return CatalogueSets(found[LOOK_ALIKE], found[INSTANCE], products, len(photos), tuple(skipped), tuple(notices))


def _hash(seed: int, name: object) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _sample(max_photos: int, seed: int) -> list[Product]:
    """Products of at most :data:`MAX_CATEGORIES` categories, one of each category in turn, all variants together."""
    sizes = _categories(seed)
    # Enough of each for the photos that are wanted, also where some categories have few.
    each = 2 * max_photos // max(len(sizes), 1) + 1
    # By category, the products whose names have the smallest hashes; the heap's first is the one to go.
    heaps: dict[str, list[tuple[int, int, Product]]] = {}
    seen: dict[Any, str] = {}
    numbers = count()
    for product in _products(sizes):
        # One that is in several counts in the smallest, which says most about what it is.
        rival = seen.get(product.key)
        if rival is not None and (sizes[rival], rival) <= (sizes[product.category], product.category):
            continue
        if rival is not None:
            heaps[rival] = [kept for kept in heaps[rival] if kept[2].key != product.key]
            heapq.heapify(heaps[rival])
        seen[product.key] = product.category
        heap = heaps.setdefault(product.category, [])
        heapq.heappush(heap, (-_hash(seed, product.name), next(numbers), product))
        if len(heap) > each:
            dropped = heapq.heappop(heap)[2]
            seen.pop(dropped.key)
    queues = [
        [product for _place, _number, product in sorted(heaps[name], key=lambda entry: (-entry[0], entry[1]))]
        for name in sorted(heaps)
    ]
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _visible() -> QuerySet:
    """The products that may be shown, free of whatever else the shop's queryset does."""
    visible = get_catalogue().visible_products()
    return get_catalogue().all_products().using(visible.db).filter(pk__in=visible.values("pk")).order_by()


def _categories(seed: int) -> dict[str, int]:
    """Numbers of products by category, for a sample of the categories of two products or more."""
    category = setting_value("category")
    if category is None:
        return {"": 0}
    counted = category.values(_visible()).annotate(number=Count("pk", distinct=category.many))
    many = counted.values_list(category.alias, "number").filter(number__gt=1)
    values = ((str(value), number) for value, number in database.stream(many) if str(value))
    chosen = heapq.nsmallest(MAX_CATEGORIES, values, key=lambda entry: _hash(seed, entry[0]))
    # Instances can be looked for without categories.
    return dict(chosen) or {"": 0}


def _products(categories: dict[str, int]) -> Iterator[Product]:
    """Products of these categories, as often as they have different values; streamed."""
    names = ("category", "variant_group", "colour")
    given = {name: value for name in names if (value := setting_value(name))}
    if "" in categories:
        given.pop("category", None)
    products = _visible()
    for name, value in given.items():
        products = value.annotate(products, f"shop_similarity_{name}")
    if "category" in given:
        products = products.filter(shop_similarity_category__in=given["category"].parsed(categories))
    columns = [f"shop_similarity_{name}" for name in given]
    for key, *values in database.stream(products.values_list("pk", *columns)):
        known = {name: value for name, value in zip(given, values, strict=True) if value not in (None, "")}
        category = str(known.get("category", ""))
        if category in categories:
            # A product that shows several colours has no colour of its own.
            colour = "" if "colour" not in given or given["colour"].many else str(known.get("colour", ""))
            yield Product(key, _name(key, known.get("variant_group"), given.get("variant_group")), category, colour)


def _name(key: Any, group: Any, value: ProductValue | None) -> str:
    """Of a group of variants, or of a product in none; where the path ends at a product, it is that product's."""
    if value is None or group is None:
        return str(key)
    return str(group) if value.is_product else f"{value.name}={group}"


def _rows(products: list[Product], max_photos: int) -> list[tuple[Product, ImageRow]]:
    """The first photos of each product, in the products' order, ``max_photos`` at most."""
    catalogue = get_catalogue()
    found: list[tuple[Product, ImageRow]] = []
    for start in range(0, len(products), _PRODUCTS_AT_ONCE):
        chunk = products[start : start + _PRODUCTS_AT_ONCE]
        of_product: dict[Any, list[ImageRow]] = {product.key: [] for product in chunk}
        for row in catalogue.rows(catalogue.images_of(list(of_product))):
            # A child that is shown itself has its photos with its parent.
            if row.product_id in of_product and len(of_product[row.product_id]) < PHOTOS_PER_PRODUCT:
                of_product[row.product_id].append(row)
        found += [(product, row) for product in chunk for row in of_product[product.key]]
        if len(found) >= max_photos:
            break
    return found[:max_photos]


def _fetched(
    drawer: Path, rows: list[tuple[Product, ImageRow]], progress: Progress | None
) -> tuple[list[Photo], list[tuple[str, str]]]:
    store = PhotoStore(drawer, get_catalogue().storage)
    images: list[tuple[Product, str]] = []
    skipped: list[tuple[str, str]] = []
    what = _("Fetching the shop's photos")
    fetched = store.fetch([row for _product, row in rows])
    for done, ((product, row), (_row, photo)) in enumerate(zip(rows, fetched, strict=True), start=1):
        if isinstance(photo, str):
            skipped.append((row.file_name, photo))
        else:
            images.append((product, photo[0]))
        if progress:
            progress(what, done, len(rows))
    what = _("Looking at their colours")
    # The same bytes twice are one photo of one colour.
    unknown = list(dict.fromkeys(image for product, image in images if not product.colour))
    numbers = map_files(
        colour_number,
        [drawer / image for image in unknown],
        catalogue_limits(),
        SIDE,
        progress and (lambda done: progress(what, done, len(unknown))),
    )
    colours = {image: NAMES[number] for image, number in zip(unknown, numbers, strict=True)}
    return [Photo(product, image, product.colour or colours[image]) for product, image in images], skipped


def _look_alike_queries(photos: list[Photo], asking: list[int]) -> list[int]:
    """Those that have an exact hit to find; and none of them if there is not even one."""
    names: dict[tuple[str, str], set[str]] = {}
    in_category: dict[str, set[str]] = {}
    for photo in photos:
        if photo.product.category:
            names.setdefault((photo.product.category, photo.colour), set()).add(photo.product.name)
            in_category.setdefault(photo.product.category, set()).add(photo.product.name)
    exact = any(len(names.get((photos[place].product.category, photos[place].colour), ())) > 1 for place in asking)
    return [place for place in asking if exact and len(in_category.get(photos[place].product.category, ())) > 1]


def _instance_queries(photos: list[Photo], asking: list[int]) -> list[int]:
    images: dict[str, set[str]] = {}
    for photo in photos:
        images.setdefault(photo.product.name, set()).add(photo.image)
    return [place for place in asking if len(images[photos[place].product.name]) > 1]


def _in_turn(photos: list[Photo], queries: list[int], most: int) -> list[int]:
    """So many of the queries at most: one of each product, then a second one of each, and so on."""
    of_product: dict[str, list[int]] = {}
    for place in queries:
        of_product.setdefault(photos[place].product.name, []).append(place)
    turns = (
        place
        for turn in range(max(map(len, of_product.values())))
        for places in of_product.values()
        for place in places[turn : turn + 1]
    )
    return sorted(islice(turns, most))


def _write(folder: Path, photos: list[Photo], queries: list[int]) -> None:
    """One set, its paths relative to the folder above it."""
    is_look_alike = folder.name == LOOK_ALIKE

    def row(place: int) -> tuple[str, ...]:
        photo = photos[place]
        named = (photo.product.name, photo.product.category, photo.colour) if is_look_alike else ()
        return (f"{place:06d}", f"{PHOTOS}/{photo.image}", *named)

    further = ("product_id", "category", "colour") if is_look_alike else ()
    _write_csv(folder / "queries.csv", ("query_id", "image", *further), map(row, queries))
    if not is_look_alike:
        of_name: dict[str, list[int]] = {}
        for place, photo in enumerate(photos):
            of_name.setdefault(photo.product.name, []).append(place)
        relevance = (
            (f"{query:06d}", f"{place:06d}", "2" if photos[query].product.key == photos[place].product.key else "1")
            for query in queries
            for place in of_name[photos[query].product.name]
        )
        _write_csv(folder / "qrels.csv", ("query_id", "gallery_id", "relevance"), relevance)
    # The last file: a folder that has it is whole.
    _write_csv(folder / "gallery.csv", ("gallery_id", "image", *further), map(row, range(len(photos))))


def _write_csv(path: Path, head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
