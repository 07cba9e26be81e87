"""``python load_catalogue.py FOLDER LIMIT``: a catalogue with parents and children, as Oscar's staff would make it.

FOLDER has a ``products.csv`` and photos; without one (``-``) they are drawn. Beside the products of the table there are

* ``Bare``: a product without a photo, in the first category;
* a child without a photo for each parent;
* ``Secret``: a public parent's child that is not public, for a price of 1, with a photo;
* ``Hidden``: a product that is not public; ``Sold out``: one without stock;
* ``staff@example.com`` and ``partner@example.com``, who may edit ``Bare``; both with the password ``secret-secret``.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.contrib.auth.models import Permission  # noqa: E402
from django.core.files.base import ContentFile  # noqa: E402
from oscar.apps.catalogue.categories import create_from_breadcrumbs  # noqa: E402
from oscar.core.loading import get_model  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

Product = get_model("catalogue", "Product")
ProductImage = get_model("catalogue", "ProductImage")
StockRecord = get_model("partner", "StockRecord")
PASSWORD = "secret-secret"


def drawn(number: int) -> bytes:
    """A photo in portrait format, like no other."""
    image = Image.new("RGB", (240, 320), "white")
    draw = ImageDraw.Draw(image)
    hue = f"hsl({number * 47 % 360}, 70%, {30 + number % 5 * 8}%)"
    draw.rounded_rectangle((40 + number % 7 * 5, 30, 200, 290 - number % 5 * 20), 10 + number % 9 * 6, fill=hue)
    for line in range(number % 4 + 1):
        draw.line((50, 80 + 40 * line, 190, 80 + 30 * line), "white", 2 + number % 6)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def rows_of(folder: Path, limit: int) -> Iterator[dict]:
    """Name, category, price and the photos by colour, of products of all categories in turn."""
    with (folder / "products.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    order = {}
    ranks = [
        order.setdefault(row["category"], []).append(index) or len(order[row["category"]])
        for index, row in enumerate(rows)
    ]
    for _rank, row in sorted(zip(ranks, rows, strict=True), key=lambda pair: pair[0])[:limit]:
        colours = row["colours"].split("|")
        files = [row["image"], *filter(None, row["colour_images"].split("|"))]
        photos = {colour: (folder / file).read_bytes() for colour, file in zip(colours, files, strict=False)}
        yield {"name": row["name"], "category": row["category"], "price": row["price"], "photos": photos}


def drawn_rows(limit: int) -> Iterator[dict]:
    for number in range(limit):
        colours = ("red", "blue") if number % 2 else ("white",)
        yield {
            "name": f"Thing {number}",
            "category": ("Men / Tops", "Women / Tops", "Gear / Bags")[number % 3],
            "price": str(10 + 3 * number),
            "photos": {colour: drawn(2 * number + place) for place, colour in enumerate(colours)},
        }


class Loader:
    def __init__(self) -> None:
        self.goods = get_model("catalogue", "ProductClass").objects.create(name="Goods")
        self.partner = get_model("partner", "Partner").objects.create(name="Warehouse")
        self.partner_of_one = get_model("partner", "Partner").objects.create(name="Their own")

    def product(self, title: str, *, parent=None, structure=Product.STANDALONE, category="", **values):
        product_class = None if parent else self.goods
        product = Product(title=title, parent=parent, structure=structure, product_class=product_class, **values)
        product.full_clean(exclude=["slug"])
        product.save()
        if category:
            product.categories.add(create_from_breadcrumbs(category.replace(" / ", " > ")))
        return product

    def sell(self, product, price: str, stock: int = 10, partner=None) -> None:
        StockRecord.objects.create(
            product=product,
            partner=partner or self.partner,
            partner_sku=str(product.pk),
            price=price,
            num_in_stock=stock,
        )

    def photograph(self, product, photo: bytes) -> None:
        image = ProductImage(product=product)
        image.original.save(f"{product.pk}.jpg", ContentFile(photo), save=False)
        image.save()

    def load(self, row: dict) -> None:
        photos = row["photos"]
        if len(photos) == 1:
            product = self.product(row["name"], category=row["category"])
            self.sell(product, row["price"])
            self.photograph(product, *photos.values())
            return
        parent = self.product(row["name"], structure=Product.PARENT, category=row["category"])
        for colour, photo in photos.items():
            child = self.product(f"{row['name']}, {colour}", parent=parent, structure=Product.CHILD)
            self.sell(child, row["price"])
            self.photograph(child, photo)
        self.sell(self.product(f"{row['name']}, bare", parent=parent, structure=Product.CHILD), row["price"])


def main(folder: str, limit: str) -> None:
    loader = Loader()
    rows = list(drawn_rows(int(limit)) if folder == "-" else rows_of(Path(folder), int(limit)))
    for row in rows:
        loader.load(row)
    category = rows[0]["category"]
    bare = loader.product("Bare", category=category)
    loader.sell(bare, "20", partner=loader.partner_of_one)
    secret = loader.product(
        "Secret",
        parent=Product.objects.filter(structure=Product.PARENT).first(),
        structure=Product.CHILD,
        is_public=False,
    )
    loader.sell(secret, "1")
    loader.photograph(secret, drawn(101))
    for title, public, stock in (("Hidden", False, 5), ("Sold out", True, 0)):
        product = loader.product(title, category=category, is_public=public)
        loader.sell(product, "15", stock)
        loader.photograph(product, drawn(102 + stock))
    users = get_user_model().objects
    users.create_superuser("staff", "staff@example.com", PASSWORD)
    seller = users.create_user("partner", "partner@example.com", PASSWORD)
    seller.user_permissions.add(Permission.objects.get(codename="dashboard_access"))
    loader.partner_of_one.users.add(seller)
    print(f"{Product.objects.count()} products, {ProductImage.objects.count()} photos")


if __name__ == "__main__":
    main(*sys.argv[1:])
