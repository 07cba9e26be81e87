"""A small data set that can be learned: drawn products of which those of one colour belong together."""

import csv
import itertools
import random
from pathlib import Path

from tests.shop_similarity.drawn_photos import COLOURS, KINDS, product_photo


def write_photos(
    folder: Path, colours: int = 6, kinds: int = 4, seeds: int = 2, size: int = 32
) -> dict[str, list[str]]:
    """Draw photos below ``folder``; file names by colour."""
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {}
    for colour, kind, seed in itertools.product(sorted(COLOURS)[:colours], sorted(KINDS)[:kinds], range(seeds)):
        name = f"{colour}-{kind}-{seed}.jpg"
        (folder / name).write_bytes(product_photo(kind, colour, size=(size, size), seed=seed))
        names.setdefault(colour, []).append(name)
    return names


def write_triplets(path: Path, names: dict[str, list[str]], count: int, seed: int = 0) -> Path:
    """A CSV of ``count`` different triplets: query and positive of one colour, the negative of another."""
    dice = random.Random(seed)
    rows = set()
    while len(rows) < count:
        colour, other = dice.sample(sorted(names), 2)
        rows.add((*dice.sample(names[colour], 2), dice.choice(names[other])))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(sorted(rows))
    return path
