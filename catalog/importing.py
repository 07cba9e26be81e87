"""Brings a catalogue that was read from a folder into the shop, and is safe to repeat.

Products are saved one by one through the ORM, each with its photos in a transaction of its own: whoever listens to
saves hears of every change, and an interrupted load leaves whole products behind.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from django.core.files import File
from django.db import transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _
from tqdm import tqdm

from catalog.models import Category, LoadedCatalogue, Product, ProductPhoto
from catalog.product_csv import CatalogueError, PhotoRecord, Problem, ProductRecord, read_catalogue
from catalog.thumbnails import forget, thumbnail

CHUNK = 200


@dataclass(slots=True)
class LoadReport:
    """What a load did. `problems` name the lines of the products that were left out."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    photos_added: int = 0
    photos_removed: int = 0
    left_out: int = 0
    problems: list[Problem] = field(default_factory=list)

    def summary(self) -> str:
        """One sentence with all counts."""
        parts = [
            _("%d products new") % self.created,
            _("%d changed") % self.updated,
            _("%d as they were") % self.unchanged,
            _("%d removed") % self.removed if self.removed else "",
            _("%d left out") % self.left_out if self.left_out else "",
        ]
        photos = _("photos: %(added)d stored, %(removed)d removed") % {
            "added": self.photos_added,
            "removed": self.photos_removed,
        }
        return ", ".join(filter(None, parts)) + "; " + photos + "."


def load_folder(
    folder: Path,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool = False,
    clear: bool = False,
    progress: bool = True,
) -> LoadReport:
    """Make the shop's products those of `folder`/products.csv.

    A product of the file gets exactly the fields and photos that the file tells; photos with unchanged bytes are not
    stored again. With `clear`, products that the file does not name are removed, otherwise they stay. `name` and
    `description` (a sentence for visitors) say where the products come from. With `strict` any problem stops the load
    before anything is written. The progress bar appears on a terminal only.

    Raises CatalogueError when the folder is no catalogue, or holds no sound product, or (strict) any problem.
    """
    folder = Path(folder)
    read = read_catalogue(folder)
    if not read.products or (strict and read.problems):
        reason = _("No product of %(folder)s can be loaded.") if not read.products else _("Nothing was loaded.")
        lines = "\n".join(str(problem) for problem in read.problems)
        raise CatalogueError(f"{reason % {'folder': folder}}\n{lines}".rstrip())
    report = LoadReport(left_out=read.left_out, problems=read.problems)
    categories = _Categories()
    slugs = _Slugs()
    with tqdm(total=len(read.products), desc=_("Loading products"), unit="", disable=None if progress else True) as bar:
        for start in range(0, len(read.products), CHUNK):
            chunk = read.products[start : start + CHUNK]
            known = {
                product.sku: product
                for product in Product.objects.filter(sku__in=[record.sku for record in chunk]).prefetch_related(
                    "photos"
                )
            }
            for record in chunk:
                _save(record, known.get(record.sku), categories, slugs, report)
                bar.update()
    _prepare_pictures([record.sku for record in read.products], progress)
    if clear:
        _clear({record.sku for record in read.products}, report, progress)
    name = name or folder.resolve().name
    LoadedCatalogue.objects.update_or_create(
        name=name,
        defaults={"description": description or _("Products loaded from the folder “%(name)s”.") % {"name": name}},
    )
    return report


def _save(
    record: ProductRecord, product: Product | None, categories: "_Categories", slugs: "_Slugs", report: LoadReport
) -> None:
    stored: list[tuple] = []
    try:
        with transaction.atomic():
            is_new = product is None
            if is_new:
                product = Product(sku=record.sku, slug=slugs.free(record.name, record.sku))
            changed = _fill(product, record, categories)
            if is_new:
                product.save()
            elif changed:
                product.save(update_fields=changed)
            touched = _save_photos(product, record.photos, is_new, stored, report)
    except BaseException:
        for storage, name in stored:
            storage.delete(name)
        raise
    if is_new:
        report.created += 1
    elif changed or touched:
        report.updated += 1
    else:
        report.unchanged += 1


def _prepare_pictures(skus: list[str], progress: bool) -> None:
    """Make the pictures of the product lists now, so that the first visitor does not wait for them."""
    photos = ProductPhoto.objects.filter(product__sku__in=skus).order_by("product_id", "position", "pk")
    firsts = list(photos.distinct("product_id"))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        made = pool.map(lambda photo: thumbnail(photo, "card"), firsts)
        for _made in tqdm(
            made, total=len(firsts), desc=_("Preparing pictures"), unit="", disable=None if progress else True
        ):
            pass


def _fill(product: Product, record: ProductRecord, categories: "_Categories") -> list[str]:
    """Set the fields that the file tells; the names of those that changed."""
    wanted = {
        "name": record.name,
        "category_id": categories.of(record.category).pk,
        "price": record.price,
        "description": record.description,
    }
    if record.stock is not None:
        wanted["stock"] = record.stock
    elif product.pk is None:
        wanted["stock"] = believable_stock(record.sku)
    if record.is_published is not None:
        wanted["is_published"] = record.is_published
    changed = [name for name, value in wanted.items() if getattr(product, name) != value]
    for name in changed:
        setattr(product, name, wanted[name])
    return ["category" if name == "category_id" else name for name in changed]


def _save_photos(
    product: Product, wanted: list[PhotoRecord], is_new: bool, stored: list[tuple], report: LoadReport
) -> bool:
    """Give the product exactly these photos, in this order; whether anything changed."""
    held: dict[str, ProductPhoto] = {}
    surplus: list[ProductPhoto] = []
    for photo in [] if is_new else product.photos.all():
        digest = _digest_stored(photo)
        if digest is None or digest in held:
            surplus.append(photo)
        else:
            held[digest] = photo
    touched = False
    for position, record in enumerate(wanted):
        photo = held.pop(_digest(record.path), None)
        if photo is None:
            with record.path.open("rb") as file:
                photo = ProductPhoto(product=product, position=position, caption=record.caption)
                photo.file.save(record.path.name, File(file), save=False)
                stored.append((photo.file.storage, photo.file.name))
                photo.save()
            report.photos_added += 1
            touched = True
        elif (photo.position, photo.caption) != (position, record.caption):
            photo.position, photo.caption = position, record.caption
            photo.save(update_fields=["position", "caption"])
            touched = True
    surplus.extend(held.values())
    for photo in surplus:
        _remove_photo(photo)
        report.photos_removed += 1
        touched = True
    return touched


def _remove_photo(photo: ProductPhoto) -> None:
    gone = copy(photo)  # with the key that delete() takes away
    photo.delete()
    if gone.file:
        transaction.on_commit(lambda: _delete_files(gone))


def _delete_files(photo: ProductPhoto) -> None:
    forget(photo)
    photo.file.storage.delete(photo.file.name)


def _clear(named: set[str], report: LoadReport, progress: bool) -> None:
    surplus = Product.objects.exclude(sku__in=named).prefetch_related("photos")
    for product in tqdm(surplus, desc=_("Removing products"), unit="", disable=None if progress else True):
        with transaction.atomic():
            for photo in product.photos.all():
                _remove_photo(photo)
                report.photos_removed += 1
            product.delete()
        report.removed += 1
    while Category.objects.filter(products=None, children=None).delete()[0]:
        pass
    LoadedCatalogue.objects.all().delete()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_stored(photo: ProductPhoto) -> str | None:
    try:
        with photo.file.storage.open(photo.file.name, "rb") as file:
            digest = hashlib.sha256()
            for chunk in file.chunks():
                digest.update(chunk)
            return digest.hexdigest()
    except (OSError, ValueError):
        return None


def believable_stock(sku: str) -> int:
    """A stock for a demo whose file tells none: always the same for one SKU, now and then low or sold out."""
    number = int.from_bytes(hashlib.sha256(sku.encode()).digest()[:4])
    kind, pieces = number % 12, number // 12
    if kind == 0:
        return 0
    return pieces % 4 + 1 if kind <= 2 else pieces % 55 + 6


class _Categories:
    """Finds or makes the category of a path such as ("Women", "Tops")."""

    def __init__(self) -> None:
        everything = list(Category.objects.all())
        self.slugs = {category.slug for category in everything}
        self.by_place = {(category.parent_id, category.name): category for category in everything}

    def of(self, path: tuple[str, ...]) -> Category:
        parent: Category | None = None
        steps: list[str] = []
        for name in path or (_("Other"),):
            steps.append(name)
            place = (parent.pk if parent else None, name)
            if place not in self.by_place:
                slug = _free_slug(" ".join(steps), "category", self.slugs, Category)
                self.by_place[place] = Category.objects.create(name=name, slug=slug, parent=parent)
            parent = self.by_place[place]
        return parent


class _Slugs:
    """Gives each new product a readable slug that no other product has."""

    def __init__(self) -> None:
        self.taken = set(Product.objects.values_list("slug", flat=True))

    def free(self, name: str, sku: str) -> str:
        most = Product._meta.get_field("slug").max_length
        plain = slugify(name)[:most]
        if plain and plain not in self.taken:
            self.taken.add(plain)
            return plain
        return _free_slug(f"{name} {sku}", sku, self.taken, Product)


def _free_slug(text: str, fallback: str, taken: set[str], model: type) -> str:
    most = model._meta.get_field("slug").max_length
    base = slugify(text)[: most - 9]
    slug = base
    if not base or base in taken:
        mark = hashlib.sha256(f"{text} {fallback}".encode()).hexdigest()[:8]
        slug = f"{base}-{mark}".strip("-")
    taken.add(slug)
    return slug
