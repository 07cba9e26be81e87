"""How many of the first results for people's snapshots are of the snapshot's kind, in a shop with studio photos.

    python -m bench.snapshots --data FOLDER --cache CACHE [--most 300] [--run RUN]

FOLDER holds photos/products.csv and shops/luma/products.csv. The shop's first version is calibrated on the shop's
photos alone; with --run it is a version that train_mildnet left in the folder RUN. A snapshot is searched with as a
whole or by its largest object (U2-Net-p), less the mean of other snapshots, and drawn to the nearest products, each in
the same way as workers do it but for the index. Figures are means over six kinds; intervals (95 %) are drawn over the
people who sent the photos. The last table leaves out the snapshots that were looked at while the form was chosen.
ImageNet's weights, U2-Net-p's and all that was computed are kept in CACHE.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from shop_similarity.training.heads.calibration import fit_head, views_in_one_colour
from shop_similarity.training.heads.recipe import DEFAULT, RECIPES, SEED
from shop_similarity.training.networks.saliency.objects import boxes_of
from shop_similarity.training.networks.saliency.weights import SIZE

# The category of a snapshot and those of the shop that are of its kind.
KINDS = {
    "Hoodie": {"Hoodies & Sweatshirts"},
    "T-Shirt": {"Tees"},
    "Pants": {"Pants"},
    "Shorts": {"Shorts"},
    "Undershirt": {"Tanks", "Bras & Tanks"},
    "Outwear": {"Jackets"},
}
# As in visual_search/uploads.py, common_part.py and expansion.py, which want a shop's database.
SIDE = 512
VOTES, HALF, LEAST = 100, 5, 0.7
PRODUCTS, LIKE = 30, 0.3
DRAWS = 1000
# In the order in which read_snapshots gives them, the form was chosen while so many were looked at.
LOOKED_AT = 700
BEFORE, NOW = "whole photo, less the mean of 100", "largest object, less the mean of 100, drawn"


@dataclass(frozen=True)
class Photo:
    path: Path
    product: str
    kind: str
    group: str = ""

    def open(self) -> Image.Image:
        """The catalogue's photos as they are; a snapshot as small as the form hands it to a worker."""
        with Image.open(self.path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        if not self.product:
            image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
        return image


def read_shop(data: Path) -> list[Photo]:
    photos = []
    with (data / "shops" / "luma" / "products.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for image in [row["image"], *filter(None, row["colour_images"].split("|"))]:
                kind = row["category"].split("/")[-1].strip()
                photos.append(Photo(data / "shops" / "luma" / image, row["sku"], kind))
    return photos


def read_snapshots(data: Path, most: int) -> list[Photo]:
    with (data / "photos" / "products.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train" and row["category"] in KINDS]
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    return [
        Photo(data / "photos" / rows[place]["image"], "", rows[place]["category"], rows[place]["sender_id"])
        for place in order
    ]


def kept(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, compute())
    return np.load(path)


def boxes(photos: list[Photo], cache: Path) -> np.ndarray:
    """``(n, 4)`` per cent: the largest object of each photo, or all of it."""
    from shop_similarity.training.networks.runner import inference
    from shop_similarity.training.networks.saliency.source import store_weights
    from shop_similarity.training.networks.saliency.weights import load

    step = inference(load(store_weights(cache, lambda *_: None).read_bytes()), 1)
    found = []
    for photo in tqdm(photos, desc="objects", unit=" photos"):
        pixels = np.asarray(photo.open().resize((SIZE, SIZE), Image.Resampling.BICUBIC, reducing_gap=3.0))
        (mask,) = step(pixels[np.newaxis])
        found.append((boxes_of(mask[0]) or [(0, 0, 100, 100)])[0])
    return np.array(found)


def features(photos: list[Photo], parts: np.ndarray | None, cache: Path) -> np.ndarray:
    from dataclasses import replace

    from shop_similarity.training.networks.architectures import backbone_of, build, feature_model, full_config
    from shop_similarity.training.networks.backbones import find_trunk_weights
    from shop_similarity.training.networks.runner import extract

    recipe = RECIPES[DEFAULT]
    weights = find_trunk_weights(backbone_of(DEFAULT, recipe.config), cache)
    preprocessing = replace(recipe.preprocessing, mean=weights.mean, std=weights.std)
    model = build(DEFAULT, full_config(DEFAULT, recipe.config).to_dict(), preprocessing)
    weights.apply(model)

    def prepare(place: int) -> np.ndarray:
        image = photos[place].open()
        if parts is not None:
            width, height = image.size
            left, top, right, bottom = (int(edge) for edge in parts[place])
            edges = (left * width // 100, top * height // 100, -(-right * width // 100), -(-bottom * height // 100))
            image = image.crop(edges)
        return preprocessing.prepare(image)

    with tqdm(total=len(photos), desc="features", unit=" photos") as bar:
        prepared = (prepare(place) for place in range(len(photos)))
        return extract(feature_model(model), prepared, progress=lambda done: bar.update(done - bar.n))


def head(rows: np.ndarray, photos: list[Photo]) -> Callable[[np.ndarray], np.ndarray]:
    from shop_similarity.training.networks.architectures import full_config
    from shop_similarity.training.networks.architectures.colour import COLOUR

    recipe = RECIPES[DEFAULT]
    config = full_config(DEFAULT, recipe.config)
    lengths = config.tap_lengths
    hues = lengths.pop(COLOUR)
    views = views_in_one_colour(np.unique([photo.product for photo in photos], return_inverse=True)[1], rows[:, -hues:])
    fitted = fit_head(
        rows,
        strength=recipe.whitening,
        seed=SEED,
        taps=[(length, recipe.tap_trust[tap]) for tap, length in lengths.items()],
        views=views,
        colour=(hues, config.colour),
    )
    return lambda given: unit(given @ fitted.kernel + fitted.bias)


def trained(run: Path) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """What embeds features as the last epoch of a run does, and what asks for a photo's product."""
    import keras

    from shop_similarity.training.learning import epoch_weights
    from shop_similarity.training.learning.folder import read_run
    from shop_similarity.training.learning.setup import Setup
    from shop_similarity.training.networks.architectures import FEATURES, build
    from shop_similarity.training.networks.questions import Questions

    setup = Setup.from_dict(read_run(run)["setup"])
    model = build(setup.architecture, setup.config, setup.preprocessing)
    epoch_weights.load(model, run, epoch_weights.kept_epochs(run)[-1])
    network = keras.Model(model.get_layer(FEATURES).output, model.output)
    questions = Questions.of(setup.config)
    return (
        lambda rows: network.predict(rows, batch_size=256, verbose=0),
        questions.asked_by_photo if questions else lambda vectors: vectors,
    )


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def less_the_mean(vectors: np.ndarray, votes: int = VOTES) -> np.ndarray:
    random, searched = np.random.default_rng(0), []
    for place, vector in enumerate(vectors):
        others = random.choice(np.delete(np.arange(len(vectors)), place), min(votes, len(vectors) - 1), replace=False)
        mean, weight = vectors[others].mean(axis=0), votes / (votes + HALF)
        while (rest := vector - weight * mean) @ vector <= LEAST * np.linalg.norm(rest):
            weight *= 0.9
        searched.append(unit(rest))
    return np.stack(searched)


@dataclass(frozen=True)
class Shop:
    """Vectors of a shop's photos, the product of each by its number, and the kind of each product."""

    vectors: np.ndarray
    products: np.ndarray
    kinds: np.ndarray

    def nearest(self, query: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest photo of each of the nearest products, and their cosines."""
        cosines = self.vectors @ query
        order = np.argsort(-cosines, kind="stable")
        first = np.sort(np.unique(self.products[order], return_index=True)[1])[:count]
        return order[first], cosines[order[first]]

    def drawn(self, query: np.ndarray) -> np.ndarray:
        photos, cosines = self.nearest(query, PRODUCTS)
        if cosines[0] >= LIKE:
            return query
        return unit(query + unit(cosines.clip(0) @ self.vectors[photos]))

    def all_drawn(self, queries: np.ndarray) -> np.ndarray:
        return np.stack([self.drawn(query) for query in queries])

    def hits(self, queries: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """``(n, 5)``: whether each of the first five results is of the snapshot's kind."""
        return np.array(
            [
                [self.kinds[self.products[photo]] in KINDS[kind] for photo in self.nearest(query, 5)[0]]
                for query, kind in zip(queries, kinds, strict=True)
            ]
        )


def over_kinds(values: np.ndarray, kinds: np.ndarray, weights: np.ndarray) -> float:
    means = [np.average(values[kinds == kind], weights=weights[kinds == kind]) for kind in np.unique(kinds)]
    return float(np.mean(means))


def estimate(values: np.ndarray, kinds: np.ndarray, groups: np.ndarray) -> str:
    """The mean over kinds with its interval, drawn over groups."""
    random, numbers = np.random.default_rng(0), np.unique(groups, return_inverse=True)[1]
    count, drawn = numbers.max() + 1, []
    while len(drawn) < DRAWS:
        weights = np.bincount(random.integers(0, count, count), minlength=count)[numbers]
        if all(weights[kinds == kind].any() for kind in np.unique(kinds)):
            drawn.append(over_kinds(values, kinds, weights))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{over_kinds(values, kinds, np.ones(len(values))):.3f} ({low:.3f} to {high:.3f})"


@dataclass(frozen=True)
class Snapshots:
    """Of each snapshot its kind, who sent it, and by way of searching whether its first five results are right."""

    kinds: np.ndarray
    groups: np.ndarray
    hits: dict[str, np.ndarray]

    def report(self, title: str, chosen: np.ndarray) -> None:
        kinds, groups = self.kinds[chosen], self.groups[chosen]
        print(f"\n{title}: {len(kinds)} snapshots of {len(set(groups))} people\n")
        print("| | first result | first five |\n|---|---|---|")
        for way, hits in self.hits.items():
            first, five = (estimate(values, kinds, groups) for values in (hits[chosen, 0], hits[chosen].mean(axis=1)))
            print(f"| {way} | {first} | {five} |", flush=True)
        before, now = self.hits[BEFORE][chosen, 0], self.hits[NOW][chosen, 0]
        print(f"| {NOW}, against {BEFORE} | {estimate(now - before.astype(float), kinds, groups)} | |\n")
        print("| first result by kind | snapshots | before | now |\n|---|---|---|---|")
        for kind in KINDS:
            of = kinds == kind
            if of.any():
                figures = [estimate(values[of], kinds[of], groups[of]) for values in (before, now)]
                print(f"| {kind} | {of.sum()} | {' | '.join(figures)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--run", type=Path, help="folder of a run of train_mildnet")
    parser.add_argument("--most", type=int, default=1_000_000, help="snapshots, drawn at random")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    cache, shop, snapshots = options.cache, read_shop(options.data), read_snapshots(options.data, options.most)
    name = f"snapshots-{len(snapshots)}"
    parts = kept(cache / f"{name}-boxes.npy", lambda: boxes(snapshots, cache))
    rows = kept(cache / f"{name}-shop.npy", lambda: features(shop, None, cache))
    embed, asked = trained(options.run) if options.run else (head(rows, shop), lambda vectors: vectors)
    products = np.unique([photo.product for photo in shop], return_inverse=True)[1]
    kind_of = {number: photo.kind for number, photo in zip(products, shop, strict=True)}
    gallery = Shop(embed(rows), products, np.array([kind_of[number] for number in range(len(kind_of))]))
    kinds = np.array([photo.kind for photo in snapshots])
    hits = {}
    for title, boxed in (("whole photo", None), ("largest object", parts)):
        path = cache / f"{name}-{'whole' if boxed is None else 'object'}.npy"
        vectors = embed(kept(path, lambda boxed=boxed: features(snapshots, boxed, cache)))
        few, many = less_the_mean(vectors, 5), less_the_mean(vectors)
        ways = {
            "as it is": vectors,
            "less the mean of 5": few,
            "less the mean of 5, drawn": gallery.all_drawn(few),
            "less the mean of 100": many,
            "less the mean of 100, drawn": gallery.all_drawn(many),
        }
        hits |= {f"{title}, {way}": gallery.hits(asked(queries), kinds) for way, queries in ways.items()}
    found = Snapshots(kinds, np.array([photo.group for photo in snapshots]), hits)
    places = np.arange(len(snapshots))
    found.report("All", places >= 0)
    if len(snapshots) > LOOKED_AT:
        found.report("Not looked at while the form was chosen", places >= LOOKED_AT)


if __name__ == "__main__":
    main()
