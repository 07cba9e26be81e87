"""The README's picture: photos of clothes, and what the first version finds for each.

    python -m bench.look_alike_picture --data FOLDER --cache CACHE --out docs/images/look-alikes.jpg

Only photos under CC0 are shown. The kinds are named here, the photo of each is drawn by the seed, and what is found is
shown as it is found. Photos by the same sender are left out, for they may show the same garment on the same carpet.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bench.first_versions import features_of
from shop_similarity.training.heads.calibration import fit_head, views_in_one_colour
from shop_similarity.training.heads.recipe import RECIPES

ARCHITECTURE = "mildnet-lite"
KINDS = ("dress", "shoes", "longsleeve", "jacket")
FOUND = 6
CELL, GAP, SPACE = 156, 8, 28


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "products.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["licence"] == "CC0-1.0"]


def embed(features: np.ndarray, products: np.ndarray) -> np.ndarray:
    """``(n, 4096)`` of length 1, by the head of a first version that is calibrated on these photos."""
    from shop_similarity.training.networks.architectures import full_config
    from shop_similarity.training.networks.architectures.colour import COLOUR

    recipe = RECIPES[ARCHITECTURE]
    config = full_config(ARCHITECTURE, recipe.config)
    lengths = config.tap_lengths
    hues = lengths.pop(COLOUR)
    taps = [(length, recipe.tap_trust[tap]) for tap, length in lengths.items()]
    views = views_in_one_colour(products, features[:, -hues:])
    colour = (hues, recipe.config["colour"])
    head = fit_head(features, strength=recipe.whitening, taps=taps, views=views, colour=colour)
    vectors = features @ head.kernel + head.bias
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def square(path: Path) -> Image.Image:
    """The photo's middle as a square."""
    with Image.open(path) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        return image.convert("RGB").crop((left, top, left + side, top + side)).resize((CELL, CELL), Image.LANCZOS)


def draw(rows: list[list[Path]]) -> Image.Image:
    """A row for each query: the photo that asks, a line, what is found."""
    width = CELL + SPACE + FOUND * CELL + (FOUND - 1) * GAP
    picture = Image.new("RGB", (width, len(rows) * CELL + (len(rows) - 1) * GAP), "white")
    for number, row in enumerate(rows):
        top = number * (CELL + GAP)
        for place, path in enumerate(row):
            left = 0 if place == 0 else CELL + SPACE + (place - 1) * (CELL + GAP)
            picture.paste(square(path), (left, top))
    ImageDraw.Draw(picture).line(
        [(CELL + SPACE // 2, 0), (CELL + SPACE // 2, picture.height)], fill=(120, 120, 120), width=2
    )
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with photos/products.csv")
    parser.add_argument("--cache", type=Path, required=True, help="for weights and features")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = given.data / "photos"
    photos = read(folder)
    paths = tuple(folder / row["image"] for row in photos)
    groups = {row["group_id"]: number for number, row in enumerate(photos)}
    products = np.array([groups[row["group_id"]] for row in photos])
    vectors = embed(features_of(ARCHITECTURE, paths, given.cache), products)
    generator = np.random.default_rng(given.seed)
    rows = []
    for kind in KINDS:
        asks = generator.choice([place for place, row in enumerate(photos) if row["kind"] == kind])
        same = np.array([row["sender_id"] == photos[asks]["sender_id"] for row in photos])
        order = np.argsort(np.where(same, -2, vectors @ vectors[asks]))[::-1]
        rows.append([paths[asks], *(paths[place] for place in order[:FOUND])])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    draw(rows).save(given.out, quality=82, optimize=True)
    print(f"{given.out}: {given.out.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
