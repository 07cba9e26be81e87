"""Vectors made up to be like those of real photos, in any number, from a few hundred numbers fitted to real ones.

    python -m bench.made_vectors --features FOLDER --out bench/made_vectors.json     # fits them anew
    python -m bench.made_vectors --features FOLDER --real bench/real_neighbourhoods.json
    python -m bench.made_vectors --json FILE                                         # compares real and made ones

A catalogue is a tree: kinds, families of them, families of those, six layers deep with eight branches each, some of
them fuller than others. A vector is the sum of what each layer above it and the photo itself add, each drawn from a
Gaussian whose variances along 512 directions are those of real embeddings, then turned at random into 4096 dimensions
and brought to length 1. How much each layer adds is fitted, so that the nearest neighbours of made vectors are as near
as those of real ones, at every rank and for every number of photos that there are real ones of. The layers that so few
photos say nothing about add as much each as the last one that they do; so neighbours come nearer as a catalogue grows,
as they do among real photos.

FOLDER holds pooled features of the photos of ../shared/data/photos; they are calibrated as the first version of a shop
is. What is compared: the cosine with the neighbour of each rank, and the recall of codes, which is how many of the ten
nearest by cosine are among so many nearest by code.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS = 4096
PARAMETERS = Path(__file__).with_suffix(".json")
REAL = PARAMETERS.with_name("real_neighbourhoods.json")
RANKS = (1, 3, 10, 30, 100, 300)
CANDIDATES = (10, 20, 50, 100, 200, 400)
_BLOCK = 4_096


@dataclass(frozen=True)
class Parameters:
    """What vectors are made of.

    Attributes:
        spectrum: variances along the strongest directions, which with ``rest`` add up to 1.
        rest: variance of all other directions together, in which every photo differs from every other.
        shares: of the variance that each layer has, from the top; the rest is the photo's own.
        fullness: how much fuller some branches are than others, the exponent of Zipf's law.
        spread: standard deviation of the logarithm of how far what a branch of the fourth layer holds lies apart.
    """

    spectrum: tuple[float, ...]
    rest: float
    shares: tuple[float, ...]
    fullness: float
    spread: float

    @classmethod
    def stored(cls, path: Path = PARAMETERS) -> Parameters:
        values = json.loads(path.read_text())
        return cls(**values | {"spectrum": tuple(values["spectrum"]), "shares": tuple(values["shares"])})


BRANCHES = 8
LAYERS = 6
_WIDTH_LAYER = 4


def made_vectors(
    photos: int, per_product: int = 1, seed: int = 0, parameters: Parameters | None = None
) -> Iterator[np.ndarray]:
    """Blocks of (b, 4096) ``float32`` of length 1, together ``photos`` rows; each product's stand together.

    Products that lie near each other stand anywhere among the others.
    """
    p = parameters or Parameters.stored()
    random = np.random.default_rng(seed)
    deviations = np.sqrt(np.array(p.spectrum, np.float32))
    strong = len(deviations)
    turned = np.linalg.qr(random.standard_normal((DIMENSIONS, strong)).astype(np.float32))[0].T
    popularity = 1 / np.arange(1, BRANCHES + 1) ** p.fullness
    popularity /= popularity.sum()
    own = np.sqrt(np.float32(1 - sum(p.shares)))
    products = -(-photos // per_product)
    step = max(_BLOCK // per_product, 1)
    for start in range(0, products, step):
        count = min(step, products - start)
        at = np.zeros(count, np.int64)
        middle = np.zeros((count, strong), np.float32)
        width = np.ones((count, 1), np.float32)
        for layer, share in enumerate(p.shares, start=1):
            at = at * BRANCHES + random.choice(BRANCHES, size=count, p=popularity)
            middle += width * np.sqrt(np.float32(share)) * _of_numbers(at, strong, seed, layer)
            if layer == _WIDTH_LAYER:
                width = np.exp(p.spread * _of_numbers(at, 1, seed, -layer))
        together = np.repeat(np.arange(count), per_product)
        rows = middle[together] + width[together] * own * random.standard_normal(
            (len(together), strong), dtype=np.float32
        )
        made = (rows * deviations) @ turned
        made += np.sqrt(np.float32(p.rest / DIMENSIONS)) * random.standard_normal(made.shape, dtype=np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        yield made[: photos - start * per_product]


def _of_numbers(numbers: np.ndarray, length: int, seed: int, layer: int) -> np.ndarray:
    """(n, length) standard normal numbers, the same for the same number whenever it comes."""
    different, places = np.unique(numbers, return_inverse=True)
    drawn = np.stack(
        [
            np.random.Generator(np.random.SFC64([seed, layer % 1_000, int(n)])).standard_normal(length, np.float32)
            for n in different
        ]
    )
    return drawn[places]


@dataclass(frozen=True)
class Neighbourhood:
    """How vectors lie to each other, means over queries.

    Attributes:
        cosines: with the neighbour of each rank of :data:`RANKS`.
        recalls: of the ten nearest, by the number of :data:`CANDIDATES`.
    """

    cosines: tuple[float, ...]
    recalls: tuple[float, ...]


def neighbourhood(vectors: np.ndarray, queries: int = 300, seed: int = 0) -> Neighbourhood:
    """Of (n, 4096) vectors of length 1."""
    random = np.random.default_rng(seed)
    asked = random.choice(len(vectors), size=min(queries, len(vectors)), replace=False)
    signs = np.where(vectors > 0, np.float32(1), np.float32(-1))
    similar, agreeing = vectors[asked] @ vectors.T, signs[asked] @ signs.T
    for row, place in enumerate(asked):
        similar[row, place] = agreeing[row, place] = -np.inf
    order = np.argsort(-similar, axis=1)
    by_code = np.argsort(-agreeing, axis=1, kind="stable")
    cosines = np.take_along_axis(similar, order, axis=1).mean(axis=0)
    ten = order[:, :10]
    return Neighbourhood(
        tuple(float(cosines[rank - 1]) for rank in RANKS if rank < len(vectors)),
        tuple(
            float(np.mean([len(set(t) & set(c)) / 10 for t, c in zip(ten, by_code[:, :count], strict=True)]))
            for count in CANDIDATES
        ),
    )


def real_vectors(folder: Path) -> np.ndarray:
    """(n, 4096): features of the real photos behind the head that a first version of the default recipe gets."""
    from shop_similarity.training.heads.calibration import fit_head
    from shop_similarity.training.heads.recipe import RECIPES, SEED

    recipe = RECIPES["mildnet-lite"]
    meta = json.loads((folder / "meta.json").read_text())
    real = np.array([row["source"] == "photos" for row in meta])
    stored = np.load(folder / "efficientnet_lite0-squash.npz")
    power = recipe.config["tap_power"]
    taps = [np.sign(stored[tap]) * np.abs(stored[tap]) ** power for tap in recipe.tap_trust]
    taps = [tap / np.linalg.norm(tap, axis=1, keepdims=True) for tap in taps]
    histogram = np.load(folder / "lab.npz")["histogram"]
    features = np.concatenate([*taps, histogram], axis=1)[real]
    trust = [(tap.shape[1], trust) for tap, trust in zip(taps, recipe.tap_trust.values(), strict=True)]
    head = fit_head(
        features,
        strength=recipe.whitening,
        seed=SEED,
        taps=trust,
        colour=(histogram.shape[1], recipe.config["colour"]),
    )
    vectors = features.astype(np.float32) @ head.kernel + head.bias
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fitted_spectrum(vectors: np.ndarray, strong: int = 512) -> tuple[tuple[float, ...], float]:
    """Variances of (n, 4096) vectors along their strongest directions, and that of all others together; 1 in all."""
    values = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    values /= values.sum()
    return tuple(float(f"{value:.3g}") for value in values[:strong]), round(float(values[strong:].sum()), 4)


_SIZES = (500, 1_000, 2_000, 4_000)
# Values that are tried; the best combination of neighbouring ones is walked to.
_SHARES = (0.0, 0.02, 0.04, 0.06, 0.08, 0.11, 0.14, 0.17, 0.2, 0.25, 0.3)
_TRIED = {
    "first": _SHARES,
    "second": _SHARES,
    "third": _SHARES,
    "fourth": _SHARES,
    "fullness": (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
    "spread": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
}
_BEGUN = (5, 5, 5, 5, 4, 0)


def fit(vectors: np.ndarray, tell: bool = False) -> Parameters:
    """Parameters by which made vectors lie to each other as these do."""
    real = [neighbourhood(vectors[_some(len(vectors), size)]) for size in _SIZES]
    spectrum, rest = fitted_spectrum(vectors)
    places = dict(zip(_TRIED, _BEGUN, strict=True))

    def parameters(at: dict[str, int]) -> Parameters:
        *shares, fullness, spread = (_TRIED[name][place] for name, place in at.items())
        return Parameters(spectrum, rest, (*shares, *shares[-1:] * (LAYERS - len(shares))), fullness, spread)

    known: dict[tuple[int, ...], float] = {}

    def distance(at: dict[str, int]) -> float:
        key = tuple(at.values())
        if key not in known:
            p = parameters(at)
            if sum(p.shares) > 1:
                return np.inf
            made = np.concatenate(list(made_vectors(_SIZES[-1], parameters=p)))
            known[key] = sum(
                _difference(neighbourhood(made[:size]), found) for size, found in zip(_SIZES, real, strict=True)
            )
            if tell:
                print(f"{known[key]:.5f} {p.shares} {p.fullness} {p.spread}", flush=True)
        return known[key]

    best = distance(places)
    while True:
        near = [
            places | {name: place + step}
            for name, place in places.items()
            for step in (-1, 1)
            if 0 <= place + step < len(_TRIED[name])
        ]
        nearest = min(near, key=distance)
        if distance(nearest) >= best:
            return parameters(places)
        places, best = nearest, distance(nearest)


def _difference(made: Neighbourhood, real: Neighbourhood) -> float:
    pairs = (*zip(made.cosines, real.cosines, strict=True), *zip(made.recalls, real.recalls, strict=True))
    return float(np.mean([(a - b) ** 2 for a, b in pairs]))


def _some(count: int, size: int) -> np.ndarray:
    return np.sort(np.random.default_rng(size).choice(count, size=size, replace=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, help="of the real photos; by default what was found before")
    parser.add_argument("--out", type=Path, help="fit the parameters anew and write them here")
    parser.add_argument("--real", type=Path, default=REAL, help="how the real ones lie, written with --features")
    parser.add_argument("--json", type=Path, help="file that the figures are written to")
    options = parser.parse_args()
    if options.features:
        vectors = real_vectors(options.features)
        if options.out:
            options.out.write_text(json.dumps(asdict(fit(vectors, tell=True))) + "\n")
        found = {size: neighbourhood(vectors[_some(len(vectors), size)]) for size in _SIZES}
        options.real.write_text(json.dumps({size: asdict(lie) for size, lie in found.items()}, indent=1) + "\n")
    elif options.out:
        parser.error("--out needs --features")
    parameters = Parameters.stored(options.out or PARAMETERS)
    real = {int(size): Neighbourhood(**lie) for size, lie in json.loads(options.real.read_text()).items()}
    ranks = " ".join(f"cos {rank:>4}" for rank in RANKS)
    recalls = " ".join(f"of {count:>4}" for count in CANDIDATES)
    print(f"{'photos':>6} {'':5} {ranks} | recall@10 {recalls}")
    figures: dict[str, Any] = {"ranks": RANKS, "candidates": CANDIDATES, "sizes": {}}
    for size, lie in real.items():
        both = {"real": lie, "made": neighbourhood(np.concatenate(list(made_vectors(size, parameters=parameters))))}
        figures["sizes"][str(size)] = {name: asdict(found) for name, found in both.items()}
        for name, found in both.items():
            cosines = " ".join(f"{cosine:8.3f}" for cosine in found.cosines)
            shares = " ".join(f"{recall:7.3f}" for recall in found.recalls)
            print(f"{size:>6} {name:5} {cosines} |           {shares}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
