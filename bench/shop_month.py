"""A shop that trains, goes on for a month and trains again: what the gate says, and what each version is worth.

    python -m bench.shop_month --data FOLDER --weights-cache FOLDER

FOLDER of --data is photos/ with products.csv and retrieval_val. The shop sells training products of it, and a third of
them wait to be added. A month takes a tenth of the shop's products away, adds a third of those that wait, and gives
every second product of which there are more photos another one. In odd months the active version is fine-tuned, in even
ones training starts anew.

Every version is measured on what never was in the shop: look-alikes among those that still wait at the end and all
products of the validation side of FOLDER, instances on retrieval_val. Intervals (95 %) are over groups.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.evaluation_sets import Photo, look_alike, read
from bench.running_shop import CannotMeasure
from bench.temporary_shop import ROOT, temporary_shop

REMOVED = 0.1
ADDED = 1 / 3
# Lines of a command that say nothing of its result.
_NOISE = ("WARNING: All log messages", "I0000", "E0000", "W0000")


@dataclass
class Goods:
    """A product and its photos, rows of products.csv; ``shown`` of them are in the shop."""

    rows: list[dict[str, str]]
    shown: int = 0
    key: int | None = None

    @property
    def row(self) -> dict[str, str]:
        return self.rows[0]


@dataclass
class Shop:
    """The catalogue of the temporary shop, and the products that wait to be added.

    Attributes:
        ever: SHA-256 of all photos that have been in it.
    """

    images: Path
    dice: random.Random
    waiting: list[Goods]
    sold: list[Goods] = field(default_factory=list)
    ever: set[str] = field(default_factory=set)

    def add(self, goods: Sequence[Goods]) -> None:
        """Put products on sale, each with the first half of its photos."""
        from catalog.models import Category, Product

        kinds = {each.row["kind"] for each in goods}
        categories = {kind: Category.objects.get_or_create(name=kind, defaults={"slug": kind})[0] for kind in kinds}
        for each in goods:
            row = each.row
            each.key = Product.objects.create(
                name=row["title"], slug=row["group_id"], sku=row["group_id"], category=categories[row["kind"]], stock=1
            ).pk
            self._show(each, (len(each.rows) + 1) // 2)
        self.sold += goods

    def month(self) -> str:
        """Let a month go by; returns what came and went."""
        from catalog.models import Product

        gone = self.dice.sample(self.sold, round(REMOVED * len(self.sold)))
        Product.objects.filter(pk__in=[each.key for each in gone]).delete()
        keys = {each.key for each in gone}
        self.sold = [each for each in self.sold if each.key not in keys]
        more = [each for each in self.sold if each.shown < len(each.rows)][::2]
        for each in more:
            self._show(each, 1)
        new, self.waiting = _parted(self.waiting, ADDED)
        self.add(new)
        return f"{len(gone)} products removed, {len(new)} added, {len(more)} with another photo"

    def __str__(self) -> str:
        return f"{len(self.sold)} products, {sum(each.shown for each in self.sold)} photos"

    def _show(self, goods: Goods, count: int) -> None:
        from django.core.files.images import ImageFile

        from catalog.models import ProductPhoto

        for row in goods.rows[goods.shown : goods.shown + count]:
            photo = ProductPhoto(product_id=goods.key, position=goods.shown)
            with (self.images / row["image"]).open("rb") as file:
                photo.file.save(Path(row["image"]).name, ImageFile(file))
            self.ever.add(sha256(self.images / row["image"]))
            goods.shown += 1


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _parted(goods: list[Goods], share: float) -> tuple[list[Goods], list[Goods]]:
    count = round(share * len(goods))
    return goods[:count], goods[count:]


def by_product(rows: Sequence[dict[str, str]]) -> list[Goods]:
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["group_id"], []).append(row)
    return [Goods(group) for group in groups.values()]


def say(text: str) -> None:
    print(text, flush=True)


def manage(*arguments: str) -> int:
    """Run a management command and print what it says; returns its status."""
    began = time.perf_counter()
    say(f"\n$ manage.py {' '.join(arguments)}")
    process = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout.replace("\r", "\n").splitlines():
        # Bars of photos are no result.
        if line.strip() and not line.startswith(_NOISE) and "it/s]" not in line and "%|" not in line:
            say(f"  {line}")
    say(f"  ({time.perf_counter() - began:.0f} s, status {process.returncode})")
    return process.returncode


class Trainings:
    """The runs so far, with what each was trained on and validated with."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.options = options
        self.trained: dict[str, set[str]] = {}
        self.validated: dict[str, set[str]] = {}

    def train(self, name: str, *more: str) -> None:
        """Train a version, let it be activated if the gate says so, and embed the shop's photos."""
        from shop_similarity.models import ModelVersion
        from shop_similarity.rollout import judge

        options = self.options
        manage(
            *("train_mildnet", "--from-catalog", "--activate", "--no-aspects", "--name", name),
            *("--views", str(options.views), "--epochs", str(options.epochs), "--run", str(self.folder / name)),
            *("--weights-cache", str(options.weights_cache), "--cache", str(self.folder.parent / "features")),
            *more,
        )
        version = ModelVersion.objects.filter(name=name).first()
        if version is None:
            raise CannotMeasure(f"{name} was not made: see what the command said.")
        # The command names the figures where it refuses a version alone.
        say(f"  the gate: {judge(version, ModelVersion.objects.active())}")
        self._compare(name)
        embed()

    def _compare(self, name: str) -> None:
        """Say whether products that this run validates with were trained on by earlier ones."""
        tables = {side: read(self.folder / name / f"{side}.csv") for side in ("train", "validation")}
        groups = {side: {row["query_group"] for row in rows} for side, rows in tables.items()}
        for earlier, known in self.trained.items():
            both = len(groups["validation"] & known)
            again = len(groups["validation"] & self.validated[earlier])
            say(
                f"  {name} validates with {len(groups['validation'])} products: {both} of them were trained on by "
                f"{earlier}, {again} were set aside by it as well"
            )
        self.trained[name], self.validated[name] = groups["train"], groups["validation"]


def embed() -> None:
    from shop_similarity.models import ModelVersion

    if manage("embed_products"):
        raise CannotMeasure("The photos could not be embedded: see what the command said.")
    say(f"  active: {ModelVersion.objects.active().name}")


def write_unseen(folder: Path, images: Path, goods: Sequence[Goods], ever: set[str]) -> None:
    """The look-alike set of products that never were in the shop."""
    from PIL import Image

    from shop_similarity.training.evaluation.colour_names import colour_name

    photos = []
    for each in goods:
        for row in each.rows:
            if sha256(images / row["image"]) in ever:
                raise CannotMeasure(f"{row['image']} has been in the shop under another name: choose other products.")
            with Image.open(images / row["image"]) as image:
                colour = colour_name(image.convert("RGB"))
            photos.append(Photo(row["id"], row["image"], row["group_id"], row["kind"], colour))
    look_alike(folder, photos, photos)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights-cache", type=Path, required=True)
    parser.add_argument("--products", type=int, default=1_200, help="of people's clothing and the sports shop")
    parser.add_argument("--months", type=int, default=2)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.data, options.weights_cache = options.data.resolve(), options.weights_cache.resolve()
    try:
        with temporary_shop() as folder:
            run(folder, options)
    except CannotMeasure as error:
        raise SystemExit(str(error)) from error


def run(folder: Path, options: argparse.Namespace) -> None:
    rows = read(options.data / "products.csv")
    dice = random.Random(options.seed)
    goods = by_product([row for row in rows if row["split"] == "train"])
    # All products of the sports shop, for they alone have several photos.
    goods.sort(key=lambda each: (bool(each.row["sender_id"]), dice.random()))
    goods = goods[: options.products]
    dice.shuffle(goods)
    waiting, first = _parted(goods, 1 / 3)
    shop = Shop(options.data, dice, waiting)
    shop.add(first)
    say(f"The shop opens: {shop}; {len(waiting)} products wait")
    trainings = Trainings(folder / "runs", options)
    manage("calibrate_mildnet", "--activate", "--no-aspects", "--name", "first", *_weights(options))
    embed()
    trainings.train("month-0")
    for month in range(1, options.months + 1):
        say(f"\nMonth {month}: {shop.month()}; now {shop}; {len(shop.waiting)} products wait")
        embed()
        trainings.train(f"month-{month}", *(("--fine-tune", _active()) if month % 2 else ()))
    unseen = shop.waiting + by_product([row for row in rows if row["split"] == "val"])
    say(f"\nProducts that never were in the shop: {len(unseen)}")
    write_unseen(folder / "unseen", options.data, unseen, shop.ever)
    for row in read(options.data / "retrieval_val" / "gallery.csv"):
        if sha256(options.data / row["image"]) in shop.ever:
            raise CannotMeasure(f"{row['image']} of retrieval_val has been in the shop.")
    names = ["first", *trainings.trained]
    manage(
        *("evaluate_mildnet", "--look-alike", str(folder / "unseen"), "--images", str(options.data)),
        *("--retrieval", str(options.data / "retrieval_val"), "--baselines", "colour", *_weights(options)),
        *(word for name in names for word in ("--model", name)),
    )


def _weights(options: argparse.Namespace) -> tuple[str, str]:
    return "--weights-cache", str(options.weights_cache)


def _active() -> str:
    from shop_similarity.models import ModelVersion

    return ModelVersion.objects.active().name


if __name__ == "__main__":
    main()
