"""``manage.py quantize_model``: a version's network in int8, and whether it finds as much as the exact one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.management.base import CommandError, CommandParser

from shop_similarity import database
from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.extra_command import ExtraCommand
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.workers.runtimes import quantization
from shop_similarity.workers.runtimes.interface import EXACT

if TYPE_CHECKING:
    from shop_similarity.training.evaluation.validation import Validation
    from shop_similarity.workers.runtimes.interface import Step

_SAMPLE, _LEAST_SAMPLE, _MOST_SAMPLE = 300, 10, 4_000
_STEP = 8


class Command(ExtraCommand):
    help = (
        "Quantizes a version's network to int8 on the shop's own photos, for workers with the runtime OpenVINO. Then "
        "it searches with int8 and with exact vectors on the shop's own sets; workers use the int8 network only where "
        "it is proven to find as much."
    )
    needed_packages = ("openvino", "nncf")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", nargs="?", metavar="VERSION", help="Its name; by default the active one.")
        parser.add_argument(
            "--sample", type=int, default=_SAMPLE, metavar="N", help="Photos to set the ranges by (%(default)s)."
        )
        parser.add_argument("--seed", type=int, default=0, metavar="N", help="Of the sets (%(default)s).")
        parser.add_argument("--drop", action="store_true", help="Remove the int8 network instead.")

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        if not _LEAST_SAMPLE <= options["sample"] <= _MOST_SAMPLE:
            raise CommandError(f"--sample must be {_LEAST_SAMPLE} to {_MOST_SAMPLE}.")
        version = self._version(options["version"])
        console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        if options["drop"]:
            dropped = quantization.drop(version)
            console.say(f"{version.name} has no int8 network {'any more' if dropped else 'to remove'}.")
            return
        verdict = self._quantize(version, options, console)
        cosine = verdict["cosine"]
        console.say(
            f"{verdict['photos']} photos: cosine of int8 and exact vectors {cosine['mean']:.4f}, at least "
            f"{cosine['least']:.4f}. Differences, with 95 % intervals:"
        )
        for name, parts in verdict["differences"].items():
            for part, metrics in parts.items():
                for metric, (value, low, high) in metrics.items():
                    console.say(f"  {name:6}{part:12}{metric:24}{value:+.4f} ({low:+.4f} to {high:+.4f})")
        if verdict["is_proven"]:
            console.say(
                f"It is no worse. Workers whose RUNTIME is openvino use the int8 network of {version.name} from their "
                "next start on."
            )
        else:
            reasons = "\n".join(verdict["reasons"])
            console.warn(f"It is not proven to find as much, so workers go on without it:\n{reasons}")

    def _version(self, name: str | None) -> ModelVersion:
        version = ModelVersion.objects.filter(name=name).first() if name else ModelVersion.objects.active()
        if version is None:
            known = ", ".join(ModelVersion.objects.order_by("name").values_list("name", flat=True)) or "none"
            raise CommandError(
                f"There is no model version {name}. There are: {known}."
                if name
                else "There is no active model version. Name one, or make one with calibrate_mildnet."
            )
        return version

    def _quantize(self, version: ModelVersion, options: dict[str, Any], console: Console) -> dict[str, Any]:
        from shop_similarity.training.versions.first_version import Skipped, prepared_photos, sample_rows
        from shop_similarity.workers.runtimes.converted import converted
        from shop_similarity.workers.runtimes.with_openvino import OpenVINONetwork

        preprocessing = Preprocessing.from_dict(version.preprocessing)
        model = converted(version)
        rows, skipped = sample_rows(options["sample"]), list[Skipped]()
        photos = list(prepared_photos(rows, preprocessing, skipped))
        if len(photos) < _LEAST_SAMPLE:
            raise CommandError(
                f"{len(photos)} photos of the shop can be used; it takes {_LEAST_SAMPLE} to set the ranges of int8."
            )
        quantized = quantization.quantize(model, photos)
        exact_step = OpenVINONetwork(model, EXACT).step(_STEP)
        quantized_step = OpenVINONetwork(quantized, "int8").step(_STEP)
        with TemporaryDirectory(prefix="shop-similarity-") as folder, console.bars:
            validation = _validation(Path(folder), options["seed"], console)
            exact, int8 = _vectors(validation, preprocessing, (exact_step, quantized_step), console)
        verdict = quantization.judge(validation, exact, int8)
        quantization.store(version, quantized, verdict)
        return verdict


def _validation(folder: Path, seed: int, console: Console) -> Validation:
    from shop_similarity.training.commands.run_folder import cache_folder
    from shop_similarity.training.commands.shop_sets import make_shop_sets
    from shop_similarity.training.evaluation.validation import Validation

    # The photos that training has fetched need not be fetched again.
    drawer = cache_folder({"cache": None}, "photos").parent
    look_alike, retrieval = make_shop_sets(folder, drawer, console, seed=seed)
    return Validation(retrieval, look_alike=look_alike)


def _vectors(
    validation: Validation, preprocessing: Preprocessing, steps: tuple[Step, ...], console: Console
) -> list[np.ndarray]:
    """The sets' photos by each of the steps; every photo is decoded once, and a batch of them in memory."""
    from shop_similarity.training.networks.runner import stacked
    from shop_similarity.training.versions.embedding_files import image_limits, map_files

    progress = console.counted_to("Embedding", len(validation.paths))
    parts: list[list[np.ndarray]] = [[] for _step in steps]
    prepared = map_files(preprocessing.prepare, validation.paths, image_limits(), preprocessing.size, progress)
    for batch in stacked(prepared, _STEP):
        for rows, step in zip(parts, steps, strict=True):
            rows.append(step(batch))
    return [np.concatenate(rows) for rows in parts]
