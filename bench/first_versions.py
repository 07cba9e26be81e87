"""What a first version is worth that nobody trained: architectures and what their heads learn from, on several sets.

    python -m bench.evaluation_sets --data FOLDER --out SETS
    python -m bench.first_versions --data FOLDER --sets SETS --cache CACHE

The head is calibrated on the training photos of FOLDER/photos: on all of them, or on one source's alone, so that what
is measured is another source's. The named peer is the colour histogram. One line of figures a model: look-alikes by
nDCG@10, mAP and R@1 of exact hits, instances by mAP and R@1, intervals (95 %) over groups. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from shop_similarity.training.evaluation.results import evaluate_look_alikes, evaluate_retrieval
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from shop_similarity.training.heads.calibration import fit_head, views_in_one_colour
from shop_similarity.training.heads.recipe import RECIPES

SETS = (
    "look_alike_shop",
    "look_alike_clothing",
    "look_alike_unseen",
    "retrieval_val",
    "instance_hard",
    "instance_style",
    "instance_colours",
)
LOOK_ALIKE_FIGURES = ("ndcg_at_10", "mean_average_precision", "recall_at_1")
INSTANCE_FIGURES = ("mean_average_precision", "recall_at_1")
PEER = "colour histogram"


@dataclass(frozen=True)
class Photos:
    """Photos that heads are calibrated on.

    Attributes:
        paths: of the files.
        products: ``(n,)`` numbers, the same for photos of one product.
        sources: ``(n,)``, "shop" or "people".
    """

    paths: tuple[Path, ...]
    products: np.ndarray
    sources: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Photos:
        with (folder / "products.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        groups = np.unique([row["group_id"] for row in rows], return_inverse=True)[1]
        sources = np.array(["people" if row["sender_id"] else "shop" for row in rows])
        return cls(tuple(folder / row["image"] for row in rows), groups, sources)


def read_sets(folder: Path, data: Path) -> dict[str, RetrievalSet]:
    found = {}
    for name in SETS:
        path = data / "photos" / name if name == "retrieval_val" else folder / name
        images = data / "photos" if name == "retrieval_val" else data
        found[name] = RetrievalSet.read(path, images, look_alike=name.startswith("look_alike"))
    return found


def features_of(architecture: str, paths: Sequence[Path], cache: Path) -> np.ndarray:
    """``(n, d)``: what the head of an architecture is fed with, computed once."""
    kept = cache / f"{architecture}-{len(paths)}.npy"
    if not kept.is_file():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from dataclasses import replace

        from shop_similarity.training.networks.architectures import backbone_of, build, feature_model, full_config
        from shop_similarity.training.networks.backbones import find_trunk_weights
        from shop_similarity.training.networks.precision import dtype_policy, fast_policy
        from shop_similarity.training.networks.runner import extract

        recipe = RECIPES[architecture]
        weights = find_trunk_weights(backbone_of(architecture, recipe.config), cache)
        preprocessing = replace(recipe.preprocessing, mean=weights.mean, std=weights.std)
        config = full_config(architecture, recipe.config)
        with dtype_policy(fast_policy(config.backbone)):
            model = build(architecture, config.to_dict(), preprocessing)
        weights.apply(model)

        def prepare(path: Path) -> np.ndarray:
            with Image.open(path) as image:
                return preprocessing.prepare(image.convert("RGB"))

        with ThreadPoolExecutor(2) as pool, tqdm(total=len(paths), desc=architecture, unit=" photos") as bar:
            prepared = (photo for a in range(0, len(paths), 64) for photo in pool.map(prepare, paths[a : a + 64]))
            rows = extract(feature_model(model), prepared, progress=lambda done: bar.update(done - bar.n))
        cache.mkdir(parents=True, exist_ok=True)
        np.save(kept, rows)
    return np.load(kept)


def heads(architecture: str, features: np.ndarray, photos: Photos, colour: float) -> dict[str, np.ndarray]:
    """Vectors of all photos by what the head was made from."""
    from shop_similarity.training.networks.architectures import full_config
    from shop_similarity.training.networks.architectures.colour import COLOUR

    recipe = RECIPES[architecture]
    lengths = full_config(architecture, recipe.config).tap_lengths
    hues = lengths.pop(COLOUR)
    taps = [(length, recipe.tap_trust[tap]) for tap, length in lengths.items()]
    deep, histograms = features[:, :-hues], features[:, -hues:]

    def vectors(places: np.ndarray, learned: bool, share: float) -> np.ndarray:
        used = features if share else deep
        views = views_in_one_colour(photos.products[places], histograms[places]) if learned else None
        tap_of_colour = (hues, share) if share else (0, 0.0)
        head = fit_head(used[places], used.shape[1], recipe.whitening, taps=taps, views=views, colour=tap_of_colour)
        return used @ head.kernel + head.bias

    everything = np.arange(len(photos.paths))
    return {
        "last tap alone": deep[:, -taps[-1][0] :],
        "unlabelled whitening": vectors(everything, False, 0.0),
        "learned whitening": vectors(everything, True, 0.0),
        f"learned whitening, colour {colour:g}": vectors(everything, True, colour),
        "the same on people's photos alone": vectors(np.flatnonzero(photos.sources == "people"), True, colour),
        "the same on the shop's photos alone": vectors(np.flatnonzero(photos.sources == "shop"), True, colour),
    } | ({PEER: histograms} if architecture == next(iter(RECIPES)) else {})


def measure(vectors: np.ndarray, sets: dict[str, RetrievalSet], places: dict[Path, int]) -> dict[str, dict]:
    found = {}
    for name, photos in sets.items():
        rows = vectors[[places[path] for path in photos.paths]]
        look_alike = name.startswith("look_alike")
        result = evaluate_look_alikes(rows, photos) if look_alike else evaluate_retrieval(rows, photos)
        estimates = {key: result.estimate(key) for key in (LOOK_ALIKE_FIGURES if look_alike else INSTANCE_FIGURES)}
        found[name] = {key: (round(e.value, 3), round(e.low, 3), round(e.high, 3)) for key, e in estimates.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="features and ImageNet weights are kept here")
    parser.add_argument("--architectures", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--colour", type=float, default=RECIPES["mildnet"].config["colour"])
    options = parser.parse_args()
    photos, sets = Photos.read(options.data / "photos"), read_sets(options.sets, options.data)
    # Those that are calibrated on come first.
    files = [path.resolve() for path in photos.paths] + [path for each in sets.values() for path in each.paths]
    places = {path: place for place, path in enumerate(dict.fromkeys(files))}
    results: dict[str, dict] = {}
    for architecture in options.architectures:
        features = features_of(architecture, list(places), options.cache)
        for name, vectors in heads(architecture, features, photos, options.colour).items():
            title = name if name == PEER else f"{architecture}: {name}"
            results[title] = measure(vectors, sets, places)
            print(f"\n{title}")
            for of, figures in results[title].items():
                cells = (f"{key} {value:.3f} ({low:.3f} to {high:.3f})" for key, (value, low, high) in figures.items())
                print(f"    {of:22} " + "  ".join(cells), flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
