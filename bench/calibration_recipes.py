"""Measures recipes of the first model, without any training, on several retrieval tasks.

    python -m bench.calibration_recipes --photos FOLDER --shop FOLDER --cache FOLDER

FOLDER of --photos holds products.csv and retrieval_val/{queries,gallery,qrels}.csv; that of --shop holds a products.csv
with image and colour_images. Pooled activations are computed once per way of resizing and kept in --cache.

Tasks (a photo is never its own result):

    retrieval  retrieval_val: the same style, any colour
    style      the train photos that come from a shop: the same style, any colour and view
    colours    the shop: the same product in another colour
    kind       clothing train photos that people sent in: the same kind of garment
    kind+hue   the same photos: the same kind and the same dominant colour

Each recipe is calibrated without labels, in five ways: "own" on the photos that are searched, "train" on all photos of
the train split, "shop" on the shop's photos, "other" on photos of another source, "few" on 54 photos of another source.
The named peer is plain VGG16: block5 pooled, nothing else.
"""

from __future__ import annotations

import argparse
import collections
import csv
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from shop_similarity.intervals import estimate_mean
from shop_similarity.training.evaluation.metrics import rank
from shop_similarity.training.heads.calibration import fit_head, ledoit_wolf_intensity
from shop_similarity.training.heads.recipe import RECIPES
from shop_similarity.training.networks.preprocessing import Preprocessing

CLOTHING = 1200
FEW = 54
WAYS = ["own", "train", "shop", "other", "few"]
PEER = "plain VGG16 block5"
SHIPPED = RECIPES["mildnet"]
TAPS = (1, 2, 3, 4, 5)
WIDTHS = (64, 128, 256, 512, 512)


@dataclass(frozen=True)
class Recipe:
    """One way to embed without training; ``strength`` None means no calibration at all."""

    name: str
    resize: str = "squash"
    pooling: str = "avg"
    taps: tuple[int, ...] = TAPS
    power: float = 1.0
    unit_taps: bool = True
    strength: float | None = 0.5
    # None for what the product does, "ledoit-wolf" for their estimate alone.
    shrinkage: float | str | None = None
    # Trust in each tap where photos are few.
    trust: tuple[float, ...] = (1.0,) * len(TAPS)


@dataclass
class Task:
    name: str
    gallery: np.ndarray
    queries: np.ndarray
    relevant: np.ndarray
    other: str


def recipes() -> list[Recipe]:
    """The peer, the chosen recipe, and what differs from it in one thing each."""
    resize, power = SHIPPED.preprocessing.resize, SHIPPED.config["tap_power"]
    trust = tuple(SHIPPED.tap_trust[f"block{tap}_pool"] for tap in TAPS)
    chosen = Recipe("CHOSEN", resize, SHIPPED.config["pooling"], power=power, strength=SHIPPED.whitening, trust=trust)
    plain = Recipe(PEER, resize, taps=(5,), unit_taps=False, strength=None)
    listed = [
        plain,
        replace(plain, name="taps joined raw", taps=TAPS),
        replace(plain, name="unit taps", taps=TAPS, unit_taps=True),
        replace(chosen, name="not calibrated", strength=None),
        replace(chosen, name="centred only", strength=0.0),
        chosen,
    ]
    listed += [replace(chosen, name="all taps trusted", trust=(1.0,) * len(TAPS))]
    listed += [replace(chosen, name="shrunk by Ledoit and Wolf alone", shrinkage="ledoit-wolf")]
    listed += [replace(chosen, name=f"whitened {s}", strength=s) for s in (0.25, 0.6, 0.75, 1.0)]
    listed += [replace(chosen, name=f"shrinkage fixed at {s}", shrinkage=s) for s in (0.0, 0.1, 0.3)]
    listed += [replace(chosen, name=f"tap power {p}", power=p) for p in (0.5, 0.7, 1.0)]
    listed += [replace(chosen, name=f"{p} pooling", pooling=p) for p in ("max", "gem")]
    listed += [replace(chosen, name=f"blocks {t[0]} to 5", taps=t) for t in ((5,), (4, 5), (3, 4, 5), (2, 3, 4, 5))]
    for other in ("squash", "pad"):
        if other != resize:
            listed += [replace(plain, name=f"{PEER}, {other}", resize=other)]
            listed += [replace(chosen, name=f"chosen, {other}", resize=other)]
    return listed


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def hue(path: Path) -> str:
    """Coarse name of the median colour of a photo's middle."""
    with Image.open(path) as image:
        width, height = image.size
        middle = image.convert("RGB").crop((width * 0.35, height * 0.35, width * 0.65, height * 0.65))
    h, s, v = np.median(np.asarray(middle.resize((24, 24)).convert("HSV")).reshape(-1, 3).astype(int), axis=0)
    if v < 60:
        return "black"
    if s < 45:
        return "white" if v > 190 else "grey"
    return f"hue {((int(h) + 10) % 256) // 32}"


def collect(photos: Path, shop: Path) -> tuple[list[Path], list[Task], dict[str, np.ndarray]]:
    """All photos, the tasks on them, and the sets that recipes are calibrated on (by index into the photos)."""
    rows = read(photos / "products.csv")
    # Photos of the clothing set tell who sent them; the others are a shop's own.
    style = [row for row in rows if row["split"] == "train" and not row["sender_id"]]
    clothing = [row for row in rows if row["split"] == "train" and row["sender_id"]]
    random.Random(0).shuffle(clothing)
    clothing, unasked = clothing[:CLOTHING], clothing[CLOTHING:]
    gallery = read(photos / "retrieval_val" / "gallery.csv")
    queries = read(photos / "retrieval_val" / "queries.csv")
    wanted = collections.defaultdict(set)
    for row in read(photos / "retrieval_val" / "qrels.csv"):
        if int(row["relevance"]) >= 1:
            wanted[row["query_id"]].add(row["gallery_id"])

    paths: list[Path] = []
    sets: dict[str, np.ndarray] = {}

    def add(name: str, found: list[Path]) -> np.ndarray:
        sets[name] = np.arange(len(paths), len(paths) + len(found))
        paths.extend(found)
        return sets[name]

    ids = [row["gallery_id"] for row in gallery]
    in_gallery = add("retrieval", [photos / row["image"] for row in gallery])
    place = dict(zip(ids, in_gallery, strict=True))
    asked = np.array([place[row["query_id"]] for row in queries])
    relevant = np.array([[photo in wanted[row["query_id"]] for photo in ids] for row in queries])
    tasks = [Task("retrieval", in_gallery, asked, relevant, "clothing")]

    def same(name: str, members: np.ndarray, labels: list[str], other: str) -> None:
        labels = np.array(labels)
        tasks.append(Task(name, members, members, labels[:, None] == labels[None, :], other))

    members = add("style", [photos / row["image"] for row in style])
    same("style", members, [row["group_id"] for row in style], "clothing")
    sold = [
        (row["sku"], shop / image)
        for row in read(shop / "products.csv")
        for image in [row["image"], *filter(None, row["colour_images"].split("|"))]
    ]
    members = add("shop", [path for _, path in sold])
    same("colours", members, [sku for sku, _ in sold], "clothing")
    members = add("clothing", [photos / row["image"] for row in clothing])
    rest = add("rest", [photos / row["image"] for row in unasked])
    sets["train"] = np.concatenate([sets["style"], members, rest])
    kinds = [row["kind"] for row in clothing]
    same("kind", members, kinds, "style")
    hues = [hue(photos / row["image"]) for row in clothing]
    same("kind+hue", members, [f"{kind} {name}" for kind, name in zip(kinds, hues, strict=True)], "style")
    return paths, tasks, sets


def activations(paths: list[Path], resize: str, cache: Path, weights: Path | None) -> dict[str, np.ndarray]:
    """Every block pooled in every way: ``{"avg5": (n, 512), ...}``, computed once per way of resizing."""
    kept = cache / f"vgg16-{resize}-{len(paths)}.npz"
    if not kept.is_file():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import keras

        from shop_similarity.training.networks.architectures.mildnet import GeneralizedMeanPooling2D
        from shop_similarity.training.networks.backbones.vgg16 import vgg16_blocks
        from shop_similarity.training.networks.backbones.weights import find_weights
        from shop_similarity.training.networks.precision import dtype_policy, fast_policy
        from shop_similarity.training.networks.runner import extract

        found = find_weights("vgg16", cache, weights)
        preprocessing = Preprocessing(resize=resize, mean=found.mean, std=found.std)
        policy = fast_policy()
        print(f"{resize}: {len(paths)} photos, {found.source}, {policy}")
        with dtype_policy(policy):
            pixels = keras.Input((preprocessing.size, preprocessing.size, 3))
            x = keras.layers.Normalization(
                mean=list(found.mean), variance=[value**2 for value in found.std], dtype="float32"
            )(pixels)
            blocks = vgg16_blocks(x).values()
            pooled = {
                "avg": lambda x: keras.layers.GlobalAveragePooling2D(dtype="float32")(x),
                "max": lambda x: keras.layers.GlobalMaxPooling2D(dtype="float32")(x),
                "gem": lambda x: GeneralizedMeanPooling2D(3.0, dtype="float32")(x),
            }
            outputs = {f"{name}{n}": pool(x) for name, pool in pooled.items() for n, x in enumerate(blocks, start=1)}
            joined = keras.layers.Concatenate(dtype="float32")(list(outputs.values()))
        model = keras.Model(pixels, joined)
        found.apply(model)

        def prepare(path: Path) -> np.ndarray:
            with Image.open(path) as image:
                return preprocessing.prepare(image.convert("RGB"))

        with ThreadPoolExecutor(2) as pool, tqdm(total=len(paths), unit=" photos") as bar:
            prepared = (photo for a in range(0, len(paths), 64) for photo in pool.map(prepare, paths[a : a + 64]))
            rows = extract(model, prepared, progress=lambda done: bar.update(done - bar.n))
        ends = np.cumsum([output.shape[-1] for output in outputs.values()])[:-1]
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **dict(zip(outputs, np.split(rows, ends, axis=1), strict=True)))
    with np.load(kept) as file:
        return dict(file)


def features(recipe: Recipe, pooled: dict[str, np.ndarray]) -> np.ndarray:
    taps = []
    for tap in recipe.taps:
        rows = pooled[f"{recipe.pooling}{tap}"].astype(np.float64)
        if recipe.power != 1:
            rows = np.maximum(rows, 1e-12) ** recipe.power
        taps.append(unit(rows) if recipe.unit_taps else rows)
    return np.concatenate(taps, axis=1)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def measure(recipe: Recipe, rows: np.ndarray, tasks: list[Task], sets: dict[str, np.ndarray], way: str) -> dict:
    own = {"retrieval": "retrieval", "style": "style", "colours": "shop", "kind": "clothing", "kind+hue": "clothing"}
    embedded: dict[str, np.ndarray] = {}
    found = {}
    for task in tasks:
        fitted = {"own": own[task.name], "train": "train", "shop": "shop"}.get(way, task.other)
        if fitted not in embedded:
            if recipe.strength is None:
                embedded[fitted] = unit(rows)
            else:
                photos = rows[sets[fitted]]
                if way == "few":
                    photos = photos[np.random.default_rng(1).choice(len(photos), FEW, replace=False)]
                taps = [(WIDTHS[tap - 1], recipe.trust[tap - 1]) for tap in recipe.taps]
                shrinkage = recipe.shrinkage
                if shrinkage == "ledoit-wolf":
                    shrinkage = ledoit_wolf_intensity(photos - photos.mean(axis=0))
                head = fit_head(photos, rows.shape[1], recipe.strength, shrinkage, taps=taps)
                embedded[fitted] = unit(rows @ head.kernel.astype(np.float64) + head.bias)
        vectors = embedded[fitted]
        itself = task.queries[:, None] == task.gallery[None, :]
        found[task.name] = rank(vectors[task.queries] @ vectors[task.gallery].T, task.relevant, itself)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--shop", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--recipes", nargs="+", default=[], help="only recipes whose name holds one of these words")
    options = parser.parse_args()
    paths, tasks, sets = collect(options.photos, options.shop)
    for task in tasks:
        print(f"{task.name}: {len(task.queries)} queries, {len(task.gallery)} photos")
    listed = [
        recipe
        for recipe in recipes()
        if recipe.name == PEER or not options.recipes or any(word in recipe.name for word in options.recipes)
    ]
    pooled = {
        resize: activations(paths, resize, options.cache, options.weights) for resize in {r.resize for r in listed}
    }
    for way in options.ways:
        print(f"\nCalibrated on {way} photos: R@1 / R@5 / mAP by task, and the mean ratio of mAP to {PEER}\n")
        print("| recipe | " + " | ".join(task.name for task in tasks) + " | ratio |")
        print("|---|" + "---|" * (len(tasks) + 1))
        peer: dict[str, float] = {}
        for recipe in listed:
            found = measure(recipe, features(recipe, pooled[recipe.resize]), tasks, sets, way)
            scores = {name: result.mean_average_precision for name, result in found.items()}
            peer = peer or scores
            ratio = np.mean([scores[name] / peer[name] for name in scores])
            cells = [f"{f.recall_at(1):.3f} / {f.recall_at(5):.3f} / {scores[n]:.3f}" for n, f in found.items()]
            print(f"| {recipe.name} | " + " | ".join(cells) + f" | {ratio:.3f} |", flush=True)
            if recipe.name.startswith("CHOSEN"):
                low, high = estimate_mean(found["retrieval"].recalled_at(1)).interval
                print(f"(R@1 of the chosen recipe on retrieval, 95 % over queries: {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
