"""Reads a folder with a products.csv and photos, whatever its columns are called. Nothing is written here.

A product that has any problem is left out whole, and every problem is told with its line.
"""

import csv
import html
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path, PurePosixPath, PureWindowsPath

from django.core.exceptions import ValidationError
from django.core.files import File
from django.utils.html import strip_tags
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from catalog.csv_files import FileNames, decoded, without_delimiter_line
from catalog.models import Category, Product, ProductPhoto
from shop_similarity.photos.validators import validate_photo

FILE_NAME = "products.csv"
LARGEST_CSV = 100 * 1024 * 1024
LARGEST_FIELD = 1024 * 1024
SEVERAL = "|"

# The names by which a column is known, in lower case, without blanks, dashes and underscores; the first that holds
# something counts.
COLUMNS = {
    "group": ("productsku", "groupid", "handle", "parentsku"),
    "sku": ("productsku", "sku", "variantsku", "articlenumber", "groupid", "id", "productid", "handle", "slug"),
    "name": ("name", "title", "productname", "producttitle"),
    "category": ("category", "categories", "productcategory", "categorypath", "producttype", "type", "kind"),
    "facets": ("facets",),
    "price": ("price", "variantprice", "unitprice", "saleprice"),
    "description": ("description", "bodyhtml", "body(html)", "body", "longdescription"),
    "stock": ("stock", "stockonhand", "quantity", "qty", "inventory", "variantinventoryqty"),
    "published": ("ispublished", "published", "active", "isactive"),
    "colours": ("colours", "colors", "variant", "colour", "color"),
    "view": ("view",),
    "option": ("optionvalues", "optionvalue", "option1value"),
}
IMAGE_COLUMNS = (
    "image", "images", "photo", "photos", "picture", "pictures", "assets", "imagepath", "imagefile", "filename", "img",
    "imagesrc", "baseimage", "additionalimages", "colourimages", "colorimages", "galleryimages", "variantassets",
)  # fmt: skip
NUMBERED_IMAGE = re.compile(r"(image|photo|picture)\d+")
# Folders that a bare file name may stand for.
PHOTO_FOLDERS = ("", "images", "photos")
NO = {"0", "false", "no", "n", "off", "draft", "hidden"}
PLAIN_VIEWS = {"", "main", "front"}


class CatalogueError(Exception):
    """The folder cannot be read as a catalogue at all; says what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one line (the first is 1, the header)."""

    line: int
    message: str

    def __str__(self):
        return _("line %(line)d: %(message)s") % {"line": self.line, "message": self.message}


@dataclass(slots=True)
class PhotoRecord:
    """A photo of a product: an existing, readable file inside the folder."""

    path: Path
    caption: str = ""


@dataclass(slots=True)
class ProductRecord:
    """A product as the file tells it. `stock` and `is_published` are None where the file does not say."""

    sku: str
    line: int
    name: str = ""
    category: tuple[str, ...] = ()
    price: Decimal | None = None
    description: str = ""
    stock: int | None = None
    is_published: bool | None = None
    photos: list[PhotoRecord] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ReadCatalogue:
    """The sound products of a folder, and what was wrong with the others."""

    products: list[ProductRecord]
    problems: list[Problem]
    left_out: int


def read_catalogue(folder: Path) -> ReadCatalogue:
    """Read `folder`/products.csv.

    Raises CatalogueError when there is no such file, when it is not a CSV or names no products.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CatalogueError(_("%(folder)s is not a folder.") % {"folder": folder})
    path = folder / FILE_NAME
    if not path.is_file():
        raise CatalogueError(
            _("%(folder)s holds no %(file)s. Put one there, with a header line and a column for the name.")
            % {"folder": folder, "file": FILE_NAME}
        )
    products: dict[str, ProductRecord] = {}
    stray: list[Problem] = []
    finder = _PhotoFinder(folder)
    group = None
    latest: ProductRecord | None = None
    for row in _rows(_text(path), stray):
        name, sku = row.get("name"), row.get("sku")
        if _continues(row, group, latest):
            _add(latest, row, finder)
            continue
        group = row.get("group")
        key = group or sku or name
        if not key:
            stray.append(Problem(row.line, _("has neither a name nor a SKU.")))
            latest = None
            continue
        latest = products.get(key)
        if latest is None:
            latest = products[key] = ProductRecord(sku=sku or name, line=row.line)
        elif not group:
            stray.append(
                Problem(
                    row.line,
                    _("SKU %(sku)s stands in line %(first)d already; this line is left out.")
                    % {"sku": key, "first": latest.line},
                )
            )
            latest = None
            continue
        _add(latest, row, finder)
    return _sort_out(products.values(), stray)


def _sort_out(products: Iterable[ProductRecord], stray: list[Problem]) -> ReadCatalogue:
    sound: dict[str, ProductRecord] = {}
    problems = list(stray)
    left_out = 0
    for product in products:
        _check(product)
        if product.sku in sound:
            product.problems.append(
                Problem(
                    product.line,
                    _("SKU %(sku)s stands in line %(first)d already; this line is left out.")
                    % {"sku": product.sku, "first": sound[product.sku].line},
                )
            )
        if product.problems:
            problems.extend(product.problems)
            left_out += 1
        else:
            sound[product.sku] = product
    return ReadCatalogue(list(sound.values()), sorted(problems, key=lambda problem: problem.line), left_out)


class _Row:
    """One line of the file by the meaning of its columns."""

    def __init__(self, line: int, cells: dict[str, str]):
        self.line = line
        self.cells = cells

    def get(self, meaning: str) -> str:
        return next((self.cells[name] for name in COLUMNS[meaning] if self.cells.get(name)), "")

    def images(self) -> list[str]:
        names = [name for name in self.cells if name in IMAGE_COLUMNS or NUMBERED_IMAGE.fullmatch(name)]
        found = (part.strip() for name in names for part in self.cells[name].split(SEVERAL))
        return list(dict.fromkeys(part for part in found if part))


def _text(path: Path) -> str:
    if path.stat().st_size > LARGEST_CSV:
        raise CatalogueError(
            _("%(path)s is larger than %(size)d MB; split it.") % {"path": path, "size": LARGEST_CSV // 2**20}
        )
    try:
        return decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        raise CatalogueError(_("%(path)s is not a text file; save it as CSV in UTF-8.") % {"path": path}) from error


def _rows(text: str, problems: list[Problem]) -> Iterator[_Row]:
    text, delimiter, skipped = without_delimiter_line(text)
    previous_limit = csv.field_size_limit(LARGEST_FIELD)
    # Columns padded with blanks, as people align them by hand: a strict reader wants the comma right after the quote.
    text = re.sub(rf'" +(?=[{re.escape(delimiter)}\r\n]|$)', '"', text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        header = [re.sub(r"[\s_-]", "", name).lower() for name in next(reader, [])]
        if not any(name in header for name in COLUMNS["name"]):
            raise CatalogueError(
                _("%(file)s has no column for the name; its first line must name the columns (one of: %(names)s).")
                % {"file": FILE_NAME, "names": ", ".join(COLUMNS["name"])}
            )
        while True:
            line = skipped + reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            cells = [cell.strip().replace("\x00", "") for cell in cells]
            if not any(cells):
                continue
            if any(cells[len(header) :]):
                message = _("has %(found)d cells, the header only %(named)d; is a quote missing?")
                problems.append(Problem(line, message % {"found": len(cells), "named": len(header)}))
                continue
            yield _Row(line, dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise CatalogueError(
            _("%(file)s line %(line)d cannot be read as CSV: %(error)s.")
            % {"file": FILE_NAME, "line": skipped + reader.line_num, "error": error}
        ) from error
    finally:
        csv.field_size_limit(previous_limit)


def _continues(row: _Row, group: str | None, latest: ProductRecord | None) -> bool:
    """Whether a line without a name tells more (a size, a further photo) of the product in the line above."""
    if latest is None or row.get("name"):
        return False
    if row.get("group"):
        return row.get("group") == group
    return bool(row.get("option")) and not row.get("category")


def _add(product: ProductRecord, row: _Row, finder: "_PhotoFinder") -> None:
    def wrong(message: str) -> None:
        product.problems.append(Problem(row.line, message))

    product.name = product.name or row.get("name")
    product.category = product.category or _category(row)
    product.description = product.description or _plain(row.get("description"))
    try:
        price = parse_price(row.get("price"))
        stock = parse_stock(row.get("stock"))
    except ValueError as error:
        wrong(str(error))
    else:
        product.price = price if product.price is None else product.price
        if stock is not None:
            product.stock = (product.stock or 0) + stock
    if published := row.get("published"):
        product.is_published = published.lower() not in NO

    images = row.images()
    captions = _captions(row, len(images))
    known = {photo.path for photo in product.photos}
    for image, caption in zip(images, captions, strict=True):
        try:
            path = finder.find(image)
        except ValueError as error:
            wrong(str(error))
            continue
        if path not in known:
            known.add(path)
            product.photos.append(PhotoRecord(path, caption))


def _captions(row: _Row, photos: int) -> list[str]:
    colours = [colour.strip() for colour in row.get("colours").split(SEVERAL)]
    if len(colours) != photos:
        colours = [""] * photos
    view = row.get("view")
    view = "" if view.lower() in PLAIN_VIEWS else view
    most = ProductPhoto._meta.get_field("caption").max_length
    return [", ".join(filter(None, (colour, view)))[:most] for colour in colours]


def _category(row: _Row) -> tuple[str, ...]:
    if path := row.get("category"):
        return tuple(part.strip() for part in re.split(r"[/>]", path.split(SEVERAL)[0]) if part.strip())
    facets = (facet.partition(":") for facet in row.get("facets").split(SEVERAL))
    return tuple(value.strip() for kind, _colon, value in facets if kind.strip().lower() == "category" and value)


def _plain(text: str) -> str:
    return html.unescape(strip_tags(text)).strip() if re.search(r"<\w+[^>]*>", text) else text


def _check(product: ProductRecord) -> None:
    """What the database would refuse, said so that the author of the file understands it."""

    def wrong(message: str) -> None:
        product.problems.append(Problem(product.line, message))

    if not product.name:
        wrong(_("the product has no name."))
    lengths = (
        (gettext_lazy("name"), product.name, Product._meta.get_field("name").max_length),
        (gettext_lazy("SKU"), product.sku, Product._meta.get_field("sku").max_length),
        *((gettext_lazy("category"), part, Category._meta.get_field("name").max_length) for part in product.category),
    )
    for what, value, most in lengths:
        if len(value) > most:
            wrong(
                _("the %(what)s has %(length)d characters, at most %(most)d fit.")
                % {"what": what, "length": len(value), "most": most}
            )


def parse_price(text: str) -> Decimal | None:
    """A price as people write it: 34, $1,299.00, 1.299,00 €. Empty is None. Raises ValueError."""
    bad = ValueError(_("“%(text)s” is not a price.") % {"text": text[:40]})
    if re.fullmatch(r"[\W_]*", text):
        return None
    number = re.fullmatch(r"[^\d.,−-]*([−-]?[\d.,'’\s]*\d)\D*", text)
    if not number:
        raise bad
    digits = re.sub(r"['’\s]", "", number[1]).replace("−", "-")
    comma, dot = digits.rfind(","), digits.rfind(".")
    if comma >= 0 and dot >= 0:
        digits = digits.replace("," if comma < dot else ".", "").replace(",", ".")
    elif comma >= 0:
        grouped = re.fullmatch(r"\d{1,3}(,\d{3})+", digits)
        digits = digits.replace(",", "" if grouped else ".")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    try:
        price = Decimal(digits).quantize(Decimal("0.01"), ROUND_HALF_UP)
    except InvalidOperation:
        raise bad from None
    if price < 0:
        raise ValueError(_("the price %(text)s is below zero.") % {"text": text[:40]})
    column = Product._meta.get_field("price")
    if price >= Decimal(10) ** (column.max_digits - column.decimal_places):
        raise ValueError(_("the price %(text)s is too large.") % {"text": text[:40]})
    return price


def parse_stock(text: str) -> int | None:
    """A number of pieces; oversold (negative) is 0, empty is None. Raises ValueError."""
    if not text:
        return None
    try:
        pieces = int(Decimal(text))
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(_("“%(text)s” is not a number of pieces in stock.") % {"text": text[:40]}) from None
    return min(max(pieces, 0), 2**31 - 1)


class _PhotoFinder:
    """Finds photos inside one folder, and nowhere else."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.real_folder = folder.resolve()
        self.names = FileNames(folder)

    def find(self, text: str) -> Path:
        """The file that `text` names. Raises ValueError with the reason when it cannot be a photo of this folder."""
        what = {"image": text[:120]}
        if re.match(r"(?i)[a-z][a-z0-9+.-]+://", text):
            raise ValueError(_("photo %(image)s is an address; only files in the folder are loaded.") % what)
        name = text.replace("\\", "/")
        outside = ValueError(_("photo %(image)s lies outside of the folder and is refused.") % what)
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in PurePosixPath(name).parts:
            raise outside
        try:
            path = next((p for sub in PHOTO_FOLDERS if (p := self.names.find(f"{sub}/{name}".lstrip("/")))), None)
        except (OSError, ValueError):
            path = None
        if path is None:
            raise ValueError(_("photo %(image)s is not in the folder.") % what)
        real = path.resolve()
        if not real.is_relative_to(self.real_folder):
            raise outside
        try:
            with real.open("rb") as file:
                validate_photo(File(file, real.name))
        except (OSError, ValidationError) as error:
            what["reason"] = error.messages[0] if isinstance(error, ValidationError) else error
            raise ValueError(_("photo %(image)s cannot be used: %(reason)s") % what) from None
        return real
