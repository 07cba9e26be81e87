"""Measures how well similarities are split into colour, pattern and shape, and what leaning a search does.

    python -m bench.aspects --photos FOLDER --shop FOLDER --cache FOLDER

The folders are those of bench.calibration_recipes, whose kept activations are used. Compared are forms by the depths of
the network alone, by drawings alone, and by both as shop_similarity.training.aspects.forms fits them, on two catalogues
that MILDNet is
calibrated on: 320 drawn goods (ten colours, four patterns, eight kinds, none of them among the drawings that the forms
are fitted on), and a shop's 458 photos with the colours and categories that it gives.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bench.calibration_recipes import activations, collect
from shop_similarity.training.aspects import forms
from shop_similarity.training.aspects.drawings import families
from shop_similarity.training.aspects.forms import ASPECTS, FAMILIES, LinearHead, depths
from shop_similarity.training.heads.calibration import fit_head
from shop_similarity.training.heads.recipe import RECIPES, SEED
from shop_similarity.training.networks.preprocessing import Preprocessing
from tests.shop_similarity.drawn_photos import COLOURS, KINDS, PATTERNS, product_image

RECIPE = RECIPES["mildnet"]
LENGTHS = (64, 128, 256, 512, 512)
STRENGTHS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("photos", "shop", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    labels = np.array(list(itertools.product(COLOURS, PATTERNS, KINDS)))
    goods, drawn = drawn_features(labels, given.cache)
    paths, _, sets = collect(given.photos, given.shop)
    kept = activations(paths, "squash", given.cache, None)
    sold = taps(kept)[sets["shop"]]
    for name, features in (("320 drawn goods", goods), ("the shop's 458 photos", sold)):
        print(f"\nCalibrated on {name}")
        trust = [(length, trust) for length, trust in zip(LENGTHS, RECIPE.tap_trust.values(), strict=True)]
        head = fit_head(features, strength=RECIPE.whitening, seed=SEED, taps=trust)
        photos, families_of = (unit(rows @ head.kernel + head.bias) for rows in (features, drawn))
        known = LinearHead(features, head.kernel, head.bias, LENGTHS, depths(len(LENGTHS)))
        for way, basis in ways(photos, families_of, known).items():
            print(f"  {way}: {basis.metrics['told_apart']}")
            if features is goods:
                tell_drawn(labels, photos, basis)
            else:
                tell_shop(sold_labels(given.shop), photos, basis)


def ways(photos: np.ndarray, drawn: np.ndarray, head: LinearHead) -> dict[str, forms.Forms]:
    both = forms.fit_aspects(photos, drawn, head)
    inside = photos @ both.directions
    taps = forms._tap_forms(head, photos, both.directions)
    off = inside.mean(axis=0)
    own = np.stack([np.einsum("nr,nr->n", inside @ form, inside).mean() for form in taps])
    typical = np.stack([off @ form @ off for form in taps])
    # What lies outside is divided equally everywhere.
    by_depth = forms.Forms(
        both.directions, taps, both.outside, typical, own + (1 - own.sum()) / 3, {"told_apart": "by depths alone"}
    )
    return {"depths": by_depth, "drawings": forms.fit_aspects(photos, drawn), "both": both}


def split(photos: np.ndarray, basis: forms.Forms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosines ``(n, n)``, contributions and levels ``(3, n, n)``."""
    inside = photos @ basis.directions
    cosines = photos @ photos.T
    parts = np.stack([inside @ form @ inside.T for form in basis.forms])
    parts += basis.outside[:, None, None] * (cosines - parts.sum(axis=0))
    levels = (parts - basis.typical[:, None, None]) / (basis.own - basis.typical)[:, None, None]
    return cosines, parts, levels


def alike(scores: np.ndarray, labels: np.ndarray, barred: np.ndarray) -> float:
    """How many of the first ten have the label of what was asked for."""
    first = np.argsort(np.where(barred, np.inf, -scores), axis=1)[:, :10]
    return float((labels[first] == labels[:, None]).mean())


def tell_drawn(labels: np.ndarray, photos: np.ndarray, basis: forms.Forms) -> None:
    cosines, parts, levels = split(photos, basis)
    same = labels[:, None] == labels[None]
    itself = np.eye(len(photos), dtype=bool)
    first = []
    for place in range(len(ASPECTS)):
        alone = same[..., place] & (same.sum(axis=2) == 1)
        first.append((levels[:, alone].argmax(axis=0) == place).mean())
    print("    first reason of pairs that share one:", *(f"{value:.3f}" for value in first))
    print("    alike in the first ten:", *(f"{alike(cosines, labels[:, place], itself):.3f}" for place in range(3)))
    for strength, (place, aspect) in itertools.product(STRENGTHS, enumerate(ASPECTS)):
        found = [alike(cosines + strength * parts[place], labels[:, other], itself) for other in range(3)]
        print(f"    {strength} x {aspect}:", *(f"{value:.3f}" for value in found))


def tell_shop(sold: np.ndarray, photos: np.ndarray, basis: forms.Forms) -> None:
    cosines, parts, levels = split(photos, basis)
    sku, category, colour = sold.T
    product, kind, tone = (column[:, None] == column[None] for column in (sku, category, colour))
    print(
        "    colour before shape in pairs of one colour and two categories "
        f"{(levels[0] > levels[2])[tone & ~kind].mean():.3f}, shape before colour in pairs of one category and two "
        f"colours {(levels[2] > levels[0])[kind & ~tone & ~product].mean():.3f}"
    )
    found = [f"{alike(cosines, column, product):.3f}" for column in (colour, category)]
    print("    same colour, same category in the first ten:", *found)
    for strength, (place, aspect) in itertools.product(STRENGTHS, enumerate(ASPECTS)):
        found = [alike(cosines + strength * parts[place], column, product) for column in (colour, category)]
        print(f"    {strength} x {aspect}:", *(f"{value:.3f}" for value in found))


def sold_labels(shop: Path) -> np.ndarray:
    """Number, category and colour of each photo, as the shop gives them."""
    with (shop / "products.csv").open(newline="", encoding="utf-8") as file:
        return np.array(
            [
                (row["sku"], row["category"].split("/")[-1].strip(), Path(image).stem.split("-")[1])
                for row in csv.DictReader(file)
                for image in [row["image"], *filter(None, row["colour_images"].split("|"))]
            ]
        )


def taps(kept: dict[str, np.ndarray]) -> np.ndarray:
    """Joined taps as the recipe has them."""
    parts = [kept[f"avg{number}"] for number in range(1, 6)]
    return np.concatenate([unit(part ** RECIPE.config["tap_power"]) for part in parts], axis=1)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def drawn_features(labels: np.ndarray, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features of the drawn goods and of the families, computed once."""
    kept = cache / "aspects-drawn.npz"
    if not kept.is_file():
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from shop_similarity.training.networks.architectures import build, feature_model
        from shop_similarity.training.networks.backbones.weights import find_weights
        from shop_similarity.training.networks.precision import dtype_policy, fast_policy
        from shop_similarity.training.networks.runner import extract

        weights = find_weights("vgg16", cache)
        size = RECIPE.preprocessing.size
        goods = [
            np.asarray(product_image(kind, colour, pattern, (size, size), seed=number))
            for number, (colour, pattern, kind) in enumerate(labels)
        ]
        drawn = [np.asarray(picture) for pictures in families(FAMILIES, size, SEED) for picture in pictures]
        with dtype_policy(fast_policy()):
            model = build(
                "mildnet", RECIPE.config, Preprocessing(size=size, resize="squash", mean=weights.mean, std=weights.std)
            )
        weights.apply(model)
        with tqdm(total=len(goods) + len(drawn), unit=" drawings") as bar:
            rows = extract(feature_model(model), goods + drawn, progress=lambda done: bar.update(done - bar.n))
        np.savez(kept, goods=rows[: len(goods)], drawn=rows[len(goods) :])
    with np.load(kept) as found:
        return found["goods"], found["drawn"]


if __name__ == "__main__":
    main()
