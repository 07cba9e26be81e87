"""Measures how well first versions split similarities into colour, pattern and shape, and what leaning a search does.

    python -m bench.evaluation_sets --data FOLDER --out SETS
    python -m bench.aspects --data FOLDER --sets SETS --weights-cache FOLDER [--architectures NAMES]

Each network is calibrated by the product's own code on three catalogues: 320 drawn goods (ten colours, four patterns,
eight kinds, none of them among the drawings that the forms are fitted on), the sports shop's 458 photos with the
colours and categories that it gives, and 1,200 photos of clothes that people took, with kinds and with colours by rule.
Compared are the forms that the product stores, which go by the depths of the network and by drawings, with those of
either alone, and with searches that do not lean.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from bench.temporary_shop import temporary_shop
from shop_similarity.training.aspects import forms
from shop_similarity.training.aspects.forms import ASPECTS, LinearHead
from shop_similarity.training.heads.recipe import DEFAULT, RECIPES, SAMPLE
from tests.shop_similarity.drawn_photos import COLOURS, KINDS, PATTERNS, product_image

if TYPE_CHECKING:
    import keras

    from shop_similarity.models import ModelVersion
    from shop_similarity.training.networks.backbones import TrunkWeights

STRENGTHS = (1, 2, 4, 8)


class Photo(NamedTuple):
    """Bytes of a file, the product that it shows, and what is known of it."""

    content: bytes
    product: str
    labels: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "sets", "weights-cache"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--architectures", nargs="+", default=[DEFAULT], choices=list(RECIPES))
    given = parser.parse_args()
    with temporary_shop():
        from shop_similarity.training.networks.architectures import backbone_of
        from shop_similarity.training.networks.backbones import find_trunk_weights

        catalogues = {"drawn goods": drawn_goods()} | {
            name: photographed(given.sets / name, given.data) for name in ("look_alike_shop", "look_alike_clothing")
        }
        for catalogue, photos in catalogues.items():
            labels = put_on_sale(photos)
            tell = tell_drawn if catalogue == "drawn goods" else tell_photographed
            for architecture in given.architectures:
                backbone = backbone_of(architecture, RECIPES[architecture].config)
                print(f"\n{architecture}, calibrated on {catalogue}: {len(labels)} photos", flush=True)
                version, rows, drawn, head = first_version(
                    architecture, find_trunk_weights(backbone, given.weights_cache)
                )
                known = np.array([labels[image] for image in photos_in_order()])
                tell(known, rows, None)
                for way, basis in ways(rows, drawn, head).items():
                    print(f"  {way}: {basis.metrics['told_apart']}", flush=True)
                    tell(known, rows, basis)
                version.delete()


def drawn_goods() -> Iterator[Photo]:
    for number, (colour, pattern, kind) in enumerate(itertools.product(COLOURS, PATTERNS, KINDS)):
        file = io.BytesIO()
        product_image(kind, colour, pattern, (256, 256), seed=number).save(file, "PNG")
        yield Photo(file.getvalue(), f"{kind}-{colour}-{pattern}", (colour, pattern, kind))


def photographed(folder: Path, data: Path) -> Iterator[Photo]:
    """Photos of a look-alike set; their labels are product, category and colour."""
    with (folder / "gallery.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels = row["product_id"], row["category"].split("/")[-1].strip(), row["colour"]
            yield Photo((data / row["image"]).read_bytes(), row["product_id"], labels)


def put_on_sale(photos: Iterator[Photo]) -> dict[int, tuple[str, ...]]:
    """A catalogue of nothing else; returns the labels of each photo's row."""
    from django.core.files.base import ContentFile

    from catalog.models import Category, Product, ProductPhoto

    Product.objects.all().delete()
    category = Category.objects.get_or_create(slug="goods", defaults={"name": "Goods"})[0]
    found = {}
    for number, photo in enumerate(tqdm(list(photos), desc="put on sale", unit=" photos")):
        product = Product.objects.get_or_create(
            slug=photo.product.lower(), defaults={"sku": photo.product, "name": photo.product, "category": category}
        )[0]
        row = ProductPhoto(product=product, position=number)
        row.file.save(f"{number}.png", ContentFile(photo.content))
        found[row.pk] = photo.labels
    return found


def photos_in_order() -> list[int]:
    """Rows of the photos in the order in which the product looks at them."""
    from shop_similarity.training.versions.first_version import sample_rows

    return [row.image_id for row in sample_rows(SAMPLE)]


def first_version(
    architecture: str, weights: TrunkWeights
) -> tuple[ModelVersion, np.ndarray, np.ndarray, LinearHead | None]:
    """A version, the vectors of the shop's photos and of the drawn families, and its head."""
    import keras

    from shop_similarity.training.networks.architectures import FEATURES
    from shop_similarity.training.networks.runner import extract
    from shop_similarity.training.versions.aspects import drawings, linear_head
    from shop_similarity.training.versions.first_version import make_first_version

    kept: list[tuple[keras.Model, np.ndarray]] = []
    with tqdm(desc=architecture, unit=" photos") as bar:
        version, skipped = make_first_version(
            weights,
            architecture=architecture,
            then=lambda *made: kept.append(made),
            progress=lambda what, done, total: bar.update(done - bar.n),
        )
    assert not skipped
    ((model, features),) = kept
    above = keras.Model(model.get_layer(FEATURES).output, model.output)
    drawn = extract(model, drawings(model.input_shape[1]))
    return (
        version,
        unit(extract(above, features)),
        unit(drawn),
        linear_head(version.architecture, version.config, model, features),
    )


def ways(photos: np.ndarray, drawn: np.ndarray, head: LinearHead | None) -> dict[str, forms.Forms]:
    both = forms.fit_aspects(photos, drawn, head)
    if head is None:
        return {"drawings": both}
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


def alike(scores: np.ndarray, labels: np.ndarray, barred: np.ndarray) -> str:
    """How many of the first ten have the label of what was asked for."""
    first = np.argsort(np.where(barred, np.inf, -scores), axis=1)[:, :10]
    return f"{(labels[first] == labels[:, None]).mean():.3f}"


def tell_drawn(labels: np.ndarray, photos: np.ndarray, basis: forms.Forms | None) -> None:
    itself = np.eye(len(photos), dtype=bool)
    if basis is None:
        print("    alike in the first ten:", *(alike(photos @ photos.T, each, itself) for each in labels.T))
        return
    cosines, parts, levels = split(photos, basis)
    same = labels[:, None] == labels[None]
    first = []
    for place in range(len(ASPECTS)):
        alone = same[..., place] & (same.sum(axis=2) == 1)
        first.append((levels[:, alone].argmax(axis=0) == place).mean())
    print("    first reason of pairs that share one:", *(f"{value:.3f}" for value in first))
    for strength, (place, aspect) in itertools.product(STRENGTHS, enumerate(ASPECTS)):
        print(
            f"    {strength} x {aspect}:",
            *(alike(cosines + strength * parts[place], each, itself) for each in labels.T),
        )


def tell_photographed(labels: np.ndarray, photos: np.ndarray, basis: forms.Forms | None) -> None:
    sku, category, colour = labels.T
    product, kind, tone = (column[:, None] == column[None] for column in (sku, category, colour))
    if basis is None:
        found = [alike(photos @ photos.T, column, product) for column in (colour, category)]
        print("    same colour, same category in the first ten:", *found)
        return
    cosines, parts, levels = split(photos, basis)
    print(
        "    colour before shape in pairs of one colour and two categories "
        f"{(levels[0] > levels[2])[tone & ~kind].mean():.3f}, shape before colour in pairs of one category and two "
        f"colours {(levels[2] > levels[0])[kind & ~tone & ~product].mean():.3f}"
    )
    for strength, (place, aspect) in itertools.product(STRENGTHS, enumerate(ASPECTS)):
        found = [alike(cosines + strength * parts[place], column, product) for column in (colour, category)]
        print(f"    {strength} x {aspect}:", *found)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
