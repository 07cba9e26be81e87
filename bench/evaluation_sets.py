"""Writes look-alike and instance sets of the shared photos, which evaluate_mildnet and train_mildnet read.

    python -m bench.evaluation_sets --data FOLDER --out FOLDER
    manage.py evaluate_mildnet --look-alike OUT/look_alike_shop --images FOLDER ...

FOLDER of --data holds photos/products.csv, photos/retrieval_val and shops/luma/products.csv; what it lacks is left out.
Paths in the sets are relative to it.

    look_alike_shop          the sports shop: each photo asks for other products of its category path and colour name
    look_alike_shop_unseen   the same gallery; only products ask that are in no training photo
    look_alike_clothing      clothing that people photographed: the same kind, and the colour of the photo's middle
    look_alike_unseen        the same of the validation photos, which training does not see
    instance_hard            retrieval_val among all photos of its kinds: the studio's other styles, people's own photos
    instance_style           the shop's training photos: the same style (2: in the same colour)
    instance_colours         the sports shop: the same product in another colour
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from shop_similarity.training.evaluation.colour_names import colour_name

CLOTHING = 1200
# The shop's file names are older than its colours' names.
SHORT = {"bk": "black", "br": "brown", "gr": "gray"}


@dataclass(frozen=True)
class Photo:
    """One row of a gallery."""

    id: str
    image: str
    product: str
    category: str = ""
    colour: str = ""


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(folder: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def look_alike(folder: Path, queries: Sequence[Photo], gallery: Sequence[Photo]) -> None:
    for kind, photos in (("query", queries), ("gallery", gallery)):
        rows = ((photo.id, photo.image, photo.product, photo.category, photo.colour) for photo in photos)
        name = {"query": "queries", "gallery": "gallery"}[kind]
        write(folder / f"{name}.csv", (f"{kind}_id", "image", "product_id", "category", "colour"), rows)
    print(f"{folder.name}: {len(queries)} queries, {len(gallery)} photos")


def instance(
    folder: Path, queries: Sequence[Photo], gallery: Sequence[Photo], relevance: Iterable[Sequence[str]]
) -> None:
    write(folder / "queries.csv", ("query_id", "image"), ((photo.id, photo.image) for photo in queries))
    write(folder / "gallery.csv", ("gallery_id", "image"), ((photo.id, photo.image) for photo in gallery))
    write(folder / "qrels.csv", ("query_id", "gallery_id", "relevance"), relevance)
    print(f"{folder.name}: {len(queries)} queries, {len(gallery)} photos")


def same_product(photos: Sequence[Photo]) -> list[tuple[str, str, str]]:
    """Relevance of a set whose photos all ask: 2 for the same product and colour, 1 for the same product."""
    of_product: dict[str, list[Photo]] = {}
    for photo in photos:
        of_product.setdefault(photo.product, []).append(photo)
    return [
        (query.id, photo.id, "2" if query.colour == photo.colour else "1")
        for query in photos
        for photo in of_product[query.product]
        if photo != query
    ]


def sports_shop(data: Path) -> list[Photo]:
    photos = []
    for row in read(data / "shops" / "luma" / "products.csv"):
        images = [row["image"], *filter(None, row["colour_images"].split("|"))]
        for image, colour in zip(images, row["colours"].split("|"), strict=True):
            name = SHORT.get(colour, colour)
            photos.append(Photo(Path(image).stem, f"shops/luma/{image}", row["sku"].lower(), row["category"], name))
    return photos


def clothing(data: Path, rows: Sequence[dict[str, str]]) -> list[Photo]:
    photos = []
    for row in tqdm(rows, unit=" photos", desc="colours"):
        with Image.open(data / "photos" / row["image"]) as image:
            colour = colour_name(image.convert("RGB"))
        photos.append(Photo(row["id"], f"photos/{row['image']}", row["group_id"], row["kind"], colour))
    return photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    data, out = options.data, options.out
    rows = read(data / "photos" / "products.csv") if (data / "photos" / "products.csv").is_file() else []
    trained = {row["product_sku"].lower() for row in rows if row["split"] == "train"}
    if (data / "shops" / "luma" / "products.csv").is_file():
        shop = sports_shop(data)
        look_alike(out / "look_alike_shop", shop, shop)
        unseen = [photo for photo in shop if photo.product not in trained]
        look_alike(out / "look_alike_shop_unseen", unseen, shop)
        instance(out / "instance_colours", shop, shop, same_product(shop))
    if not rows:
        print("There are no photos/products.csv: the other sets are left out.")
        return
    # The same sample as in bench/calibration_recipes.py.
    people = [row for row in rows if row["split"] == "train" and row["sender_id"]]
    random.Random(0).shuffle(people)
    sample = clothing(data, people[:CLOTHING])
    look_alike(out / "look_alike_clothing", sample, sample)
    unseen = clothing(data, [row for row in rows if row["split"] == "val" and row["sender_id"]])
    look_alike(out / "look_alike_unseen", unseen, unseen)
    style = [
        Photo(row["id"], f"photos/{row['image']}", row["group_id"], row["kind"], row["variant"])
        for row in rows
        if row["split"] == "train" and not row["sender_id"]
    ]
    instance(out / "instance_style", style, style, same_product(style))
    folder = data / "photos" / "retrieval_val"
    if not folder.is_dir():
        return
    kinds = {row["id"]: row["kind"] for row in rows}
    queries = [Photo(row["query_id"], f"photos/{row['image']}", "") for row in read(folder / "queries.csv")]
    gallery = [Photo(row["gallery_id"], f"photos/{row['image']}", "") for row in read(folder / "gallery.csv")]
    asked = {kinds[photo.id] for photo in queries}
    inside = {photo.id for photo in gallery}
    gallery += [
        Photo(row["id"], f"photos/{row['image']}", "")
        for row in rows
        if row["kind"] in asked and row["id"] not in inside
    ]
    relevance = [(row["query_id"], row["gallery_id"], row["relevance"]) for row in read(folder / "qrels.csv")]
    instance(out / "instance_hard", queries, gallery, relevance)


if __name__ == "__main__":
    main()
