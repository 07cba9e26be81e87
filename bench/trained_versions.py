"""What training adds: architectures trained on parts of the shared photos, measured on products that they never saw.

    python -m bench.evaluation_sets --data FOLDER --out SETS
    python -m bench.trained_versions --data FOLDER --sets SETS --cache CACHE [--architectures NAMES] [--seeds 3]

Each model is trained by ``train_mildnet`` as it comes, on triplets of one part of FOLDER/photos:

    shop        the sports shop alone, without half of its styles; both halves in turn
    half        all sources, without half of the shop's styles; both halves in turn
    categories  all sources, without half of the kinds of goods, whoever took the photos; both halves in turn
    all         all training triplets
    people      people's own photos alone, so that the shop is another source

What stands behind ``--`` are further options of ``train_mildnet``; runs with other options are other runs. A network
sees a photo once, whatever is trained on it, and a measurement that was stopped goes on with the runs that are there.

A photo of the shop asks the model that never saw its style, or nothing of its kind, so all of its photos ask;
``look_alike_unseen`` are people's validation photos, which no part holds. Nothing that is measured here chose an epoch:
the last one counts. Sets of instances are asked as a search by photo asks. The peers are baselines without a model, and
each model's own start, from which differences are paired by query. Intervals (95 %) are over groups; of several seeds
each value is the mean over the seeds, query by query. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from bench.evaluation_sets import sports_shop
from bench.first_versions import INSTANCE_FIGURES, LOOK_ALIKE_FIGURES, read_sets
from bench.temporary_shop import temporary_shop

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.evaluation.results import Asked, RetrievalResult
    from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
    from shop_similarity.training.learning.setup import Setup

PARTS = {"shop": (0, 1), "half": (0, 1), "categories": (0, 1), "all": (None,), "people": (None,)}
# Sets that a part's models may be asked for; those of the shop's styles by halves.
HALVES = ("look_alike_shop", "instance_colours")
ASKED = {
    "shop": (*HALVES, "look_alike_unseen"),
    "half": (*HALVES, "look_alike_unseen"),
    "categories": HALVES,
    "all": ("look_alike_unseen", "retrieval_val", "instance_hard"),
    "people": (*HALVES, "look_alike_unseen", "retrieval_val", "instance_hard"),
}
# Kinds of goods of which half 0 of ``categories`` holds nothing, as the shop and as people's photos name them.
KINDS = (
    "Jackets",
    "Hoodies & Sweatshirts",
    "Tanks",
    "Bras & Tanks",
    "Outwear",
    "Blazer",
    "Hoodie",
    "Undershirt",
    "Top",
)
# Those of half 1: all other goods that the shop has.
OTHER_KINDS = ("Pants", "Shorts", "Tees", "T-Shirt", "Polo", "Bags", "Fitness Equipment", "Watches")
BASELINES = ("colour", "handmade", "vgg16", "efficientnet_lite0", "efficientnet_lite2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="features, runs and ImageNet weights are kept here")
    parser.add_argument("--architectures", nargs="+", default=["mildnet-lite"])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--baselines", nargs="*", default=list(BASELINES))
    parser.add_argument("options", nargs="*", help="more options of train_mildnet, behind --")
    given = parser.parse_args()
    given.cache = given.cache.resolve()
    sets = read_sets(given.sets, given.data)
    asked = dict.fromkeys(name for part in given.parts for name in ASKED[part])
    paths = paths_of(sets, asked)
    results: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    with temporary_shop():
        for name in given.baselines:
            vectors = vectors_of(name, paths, given.cache)
            results[name] = report(name, {each: [measured(vectors, sets[each], places_of(paths))] for each in asked})
        for architecture in given.architectures:
            for part in given.parts:
                paths = paths_of(sets, ASKED[part])
                # What the network makes of a photo is one and the same for all of its runs.
                features = features_of(train(architecture, part, PARTS[part][0], 0, given), paths, given.cache)
                start = None
                for moment in ("start", "trained"):
                    found = trained(architecture, part, moment, features, sets, places_of(paths), given)
                    title = " ".join([f"{architecture}, {part}: {moment}", *given.options])
                    results[title] = report(title, found, start)
                    start = found
    print(json.dumps(results))


def paths_of(sets: Mapping[str, RetrievalSet], names: Iterable[str]) -> list[Path]:
    return list(dict.fromkeys(path for name in names for path in sets[name].paths))


def places_of(paths: Sequence[Path]) -> dict[Path, int]:
    return {path: place for place, path in enumerate(paths)}


def trained(
    architecture: str,
    part: str,
    moment: str,
    features: np.ndarray,
    sets: Mapping[str, RetrievalSet],
    places: Mapping[Path, int],
    given: argparse.Namespace,
) -> dict[str, list[RetrievalResult]]:
    """By set, the result of each seed; of sets that are asked by halves, each query's of the half that is left out."""
    found: dict[str, list[RetrievalResult]] = {name: [] for name in ASKED[part]}
    for seed in range(given.seeds if moment == "trained" else 1):
        by_half = []
        for half in PARTS[part]:
            folder = train(architecture, part, half, seed, given)
            by_half.append(embed(folder, moment, features))
        for name in found:
            results = [measured(vectors, sets[name], places, asked) for vectors, asked in by_half]
            if name in HALVES and len(results) > 1:
                found[name].append(in_turn(results, halves_of(sets[name], part, given.data)))
            else:
                found[name].append(mean_of(results))
    return found


def train(architecture: str, part: str, half: int | None, seed: int, given: argparse.Namespace) -> Path:
    """The folder of a run; one that is there already is taken."""
    from django.core.management import call_command
    from keras import backend

    from shop_similarity.training.learning import epoch_weights

    changed = re.sub(r"[^\w.=]+", "-", "".join(given.options))
    name = "-".join(str(each) for each in (architecture, part, half, seed, changed) if each not in (None, ""))
    folder = given.cache / "runs" / name
    if (folder / "finished").exists():
        return folder
    triplets = write_triplets(part, half, given)
    arguments = [
        *("--triplets", triplets["train"], "--validation", triplets["val"], "--images", given.data / "photos"),
        *("--architecture", architecture, "--seed", seed, "--patience", 0, "--keep-epochs", 100, "--no-store"),
        *("--weights-cache", given.cache, "--cache", given.cache / "views", "--run", folder),
        *given.options,
    ]
    begin = time.monotonic()
    print(f"{time.strftime('%H:%M:%S')} training {name}", file=sys.stderr, flush=True)
    again = ["--resume", folder] if (folder / "run.json").exists() else None
    backend.clear_session()
    call_command("train_mildnet", *map(str, again or arguments), stdout=sys.stderr)
    # Those between are asked for by nobody, and fill a disk.
    last = epoch_weights.kept_epochs(folder)[-1]
    epoch_weights.prune(folder, last, needed={0, last}, newest=0)
    (folder / "finished").touch()
    print(f"{name} took {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return folder


def write_triplets(part: str, half: int | None, given: argparse.Namespace) -> dict[str, Path]:
    """The project's triplets of a part, as two files."""
    photos = given.data / "photos"
    with (photos / "products.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}

    def belongs(image: str) -> bool:
        row = rows[image]
        if part == "categories":
            return half_of_kind(row["category"]) != half
        if row["sender_id"]:
            return part != "shop"
        return part != "people" and (half is None or half_of(row["product_sku"]) != half)

    files = {}
    for side in ("train", "val"):
        with (photos / f"triplets_{side}.csv").open(newline="", encoding="utf-8") as file:
            triplets = list(csv.DictReader(file))
        files[side] = given.cache / "triplets" / f"{part}-{half}-{side}.csv"
        files[side].parent.mkdir(parents=True, exist_ok=True)
        places = ("query", "positive", "negative")
        with files[side].open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*triplets[0], *(f"{place}_category" for place in places)])
            writer.writeheader()
            # As a shop's own triplets name them. The negatives "in_class" are of one kind, men's or women's.
            writer.writerows(
                each | {f"{place}_category": rows[each[place]]["category"] for place in places}
                for each in triplets
                if all(belongs(each[place]) for place in places)
            )
    return files


def half_of(style: str) -> int:
    """0 or 1, by the name of a style alone, whatever its colour: "MH01", "24-WG083-gray"."""
    name = style.lower().removeprefix("24-").partition("-")[0]
    return hashlib.sha256(name.encode()).digest()[0] % 2


def half_of_kind(category: str) -> int | None:
    """0 or 1, by a category's last name; None for goods that only people's photos show."""
    kind = category.split("/")[-1].strip()
    return 0 if kind in KINDS else 1 if kind in OTHER_KINDS else None


def model_of(folder: Path, epoch: int) -> tuple[keras.Model, Setup]:
    """The model of a run as an epoch left it, 0 for its start."""
    from keras import backend

    from shop_similarity.training.learning import epoch_weights
    from shop_similarity.training.learning.folder import read_run
    from shop_similarity.training.learning.setup import Setup
    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.precision import dtype_policy

    backend.clear_session()
    setup = Setup.from_dict(read_run(folder)["setup"])
    with dtype_policy(setup.precision):
        model = build(setup.architecture, setup.config, setup.preprocessing)
    epoch_weights.load(model, folder, epoch)
    return model, setup


def features_of(folder: Path, paths: Sequence[Path], cache: Path) -> np.ndarray:
    """``(n, d)``: what the head of a run's model is fed with; of photos that it trained on, out of the run's cache."""
    from shop_similarity.training.networks.splitting import split
    from shop_similarity.training.photos.dataset import load_photo
    from shop_similarity.training.photos.feature_cache import FeatureCache, content_digests, fingerprint
    from shop_similarity.training.threads import ordered_map

    model, setup = model_of(folder, 0)
    divided = split(model)
    preprocessing = setup.preprocessing
    features = FeatureCache(cache / "views" / "features", divided, fingerprint(divided, preprocessing.to_dict()))
    digests, plain = content_digests(paths), [0] * len(paths)

    def photos(missing: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        yield from ordered_map(lambda photo: load_photo(paths[photo[0]], preprocessing), missing)

    with tqdm(desc=setup.architecture, total=len(features.missing(digests, plain)), unit=" photos") as bar:
        features.fill(digests, plain, photos, progress=lambda done, total: bar.update(done - bar.n))
    (rows,) = features.select(digests, plain).batch(np.arange(len(paths)))
    return rows


def embed(folder: Path, moment: str, features: np.ndarray) -> tuple[np.ndarray, Asked | None]:
    """Vectors of a run's first or last epoch, from the features of its frozen network; what a search by photo asks."""
    from shop_similarity.training.evaluation.validation import asked_by_photo
    from shop_similarity.training.learning import epoch_weights
    from shop_similarity.training.networks.splitting import split

    model, setup = model_of(folder, 0 if moment == "start" else epoch_weights.kept_epochs(folder)[-1])
    return split(model).trainable.predict(features, batch_size=256, verbose=0), asked_by_photo(setup.config)


def vectors_of(baseline: str, paths: Sequence[Path], cache: Path) -> np.ndarray:
    kept = cache / f"baseline-{baseline}-{len(paths)}.npy"
    if not kept.is_file():
        from shop_similarity.training.evaluation.baselines import baselines

        np.save(kept, baselines(cache)[baseline].embed(paths, None))
    return np.load(kept)


def measured(
    vectors: np.ndarray, photos: RetrievalSet, places: Mapping[Path, int], asked: Asked | None = None
) -> RetrievalResult:
    from shop_similarity.training.evaluation.results import evaluate_look_alikes, evaluate_retrieval

    rows = vectors[[places[path] for path in photos.paths]]
    if "category" in photos.labels:
        return evaluate_look_alikes(rows, photos)
    return evaluate_retrieval(rows, photos, asked=asked)


def halves_of(photos: RetrievalSet, part: str, data: Path) -> np.ndarray:
    """Of each query of the shop's that has something to find the half that it belongs to."""
    shown = {(data / photo.image).resolve(): photo for photo in sports_shop(data)}
    asking_photos = [shown[photos.paths[place].resolve()] for place in photos.queries[asking(photos)]]
    if part == "categories":
        return np.array([half_of_kind(photo.category) for photo in asking_photos])
    return np.array([half_of(photo.product) for photo in asking_photos])


def in_turn(results: Sequence[RetrievalResult], halves: np.ndarray) -> RetrievalResult:
    """Each query's values from the model that was trained without its half."""
    values = {
        name: np.where(halves == 0, results[0].values[name], results[1].values[name]) for name in results[0].values
    }
    return replace(results[0], values=values)


def asking(photos: RetrievalSet) -> np.ndarray:
    """Places of the queries that have something to find."""
    return np.flatnonzero(((photos.relevance >= 1) & ~photos.left_out).any(axis=1))


def mean_of(results: Sequence[RetrievalResult]) -> RetrievalResult:
    """Each query's mean over models."""
    values = {name: np.mean([each.values[name] for each in results], axis=0) for name in results[0].values}
    return replace(results[0], values=values)


def report(
    title: str,
    found: Mapping[str, Sequence[RetrievalResult]],
    start: Mapping[str, Sequence[RetrievalResult]] | None = None,
) -> dict[str, dict[str, tuple[float, ...]]]:
    """Print a model's figures, with those of its start by how much they differ.

    Returns:
        By set and figure: value, lower and upper end; of a trained one the same of the difference; then the value of
        each seed, where there are several.
    """
    print(f"\n{title}")
    figures: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, results in found.items():
        cells = []
        mean = mean_of(results)
        differences = mean.difference(mean_of(start[name])) if start else {}
        for figure in LOOK_ALIKE_FIGURES if name.startswith("look_alike") else INSTANCE_FIGURES:
            estimates = [mean.estimate(figure), *([differences[figure]] if start else [])]
            seeds = [float(np.nanmean(each.values[figure])) for each in results]
            seeds = seeds if len(seeds) > 1 else []
            numbers = (*(number for each in estimates for number in (each.value, each.low, each.high)), *seeds)
            figures.setdefault(name, {})[figure] = tuple(round(number, 3) for number in numbers)
            texts = [
                f"{each.value:{sign}.3f} ({each.low:{sign}.3f} to {each.high:{sign}.3f})"
                for each, sign in zip(estimates, ("", "+"), strict=False)
            ]
            cells.append(" ".join([figure, *texts, *(f"{seed:.3f}" for seed in seeds)]))
        print(f"    {name:22} " + "  ".join(cells), flush=True)
    return figures


if __name__ == "__main__":
    main()
