"""How good models are, beside baselines, all on the same photos."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.conf import get_settings
from shop_similarity.embedding.vectors import are_nearly_the_same
from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.evaluation.baselines import Baseline, baselines
from shop_similarity.training.evaluation.comparison import Comparison
from shop_similarity.training.evaluation.tables import tables
from shop_similarity.training.evaluation.validation import Evaluation, Validation
from shop_similarity.training.files import replacement
from shop_similarity.training.versions.embedding_files import embed_with_version, image_limits
from shop_similarity.training.versions.storing import store_evaluation
from shop_similarity.training.versions.weights_cache import default_weights_cache

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData
    from shop_similarity.training.learning.run import TrainingRun


def candidate_numbers() -> list[int]:
    """Numbers of candidates for which the search by codes is measured, the shop's own among them."""
    return sorted({10, 50, 100, get_settings().candidates})


def choose_baselines(names: str, weights_cache: Path | None, console: Console | None = None) -> list[Baseline]:
    """Baselines by name, the cheapest first.

    Args:
        names: ``"all"``, ``"none"`` or names with commas between them.
        weights_cache: folder of converted ImageNet weights, if it is not the usual one.
        console: shows weights that are fetched.

    Raises:
        CommandError: there is no such baseline.
    """
    known = baselines(weights_cache or default_weights_cache(), image_limits(), console and console.bars.bytes)
    if names == "all":
        return list(known.values())
    keys = [] if names == "none" else [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in keys if name not in known]:
        raise CommandError(
            _("There is no baseline %(unknown)s. There are: %(known)s.")
            % {"unknown": ", ".join(unknown), "known": ", ".join(known)},
            returncode=2,
        )
    return [known[name] for name in known if name in keys]


def add_baselines(
    comparison: Comparison, validation: Validation, names: str, weights_cache: Path | None, console: Console
) -> None:
    """Measure the baselines that :func:`choose_baselines` gives.

    Of ``all``, those whose weights can't be had are left out, and that is said.

    Raises:
        CommandError: there is no such baseline, or the weights of one that was named can't be had.
        UnreadablePhotos: some photos can't be read.
    """
    from shop_similarity.training.networks.backbones.weights import WeightsUnavailable

    for baseline in choose_baselines(names, weights_cache, console):
        began = time.monotonic()
        try:
            vectors = baseline.embed(validation.paths, console.counted_to(baseline.title, len(validation.paths)))
        except WeightsUnavailable as error:
            if names != "all":
                raise CommandError(str(error)) from error
            console.bars.close()
            console.warn(_("%(name)s is left out: %(reason)s") % {"name": baseline.title, "reason": error})
            continue
        seconds = time.monotonic() - began
        comparison.add_baseline(baseline.name, baseline.title, validation.evaluate(vectors, candidates=None), seconds)
    console.bars.close()


def measure_run(run: TrainingRun, options: Mapping[str, Any], console: Console) -> Evaluation:
    """Measure trained model, start and baselines, and keep in the run's folder what its report needs.

    Afterwards the model has the weights of its best epoch.

    Returns:
        The trained model's figures.

    Raises:
        CommandError: there is no such baseline, or the trained model tells no photo from another.
        EvaluationError, UnreadablePhotos: something can't be measured.
    """
    from shop_similarity.training.learning.folder import EMBEDDINGS, EVALUATION, write_json

    validation = Validation(run.data.retrieval, run.data.validation, look_alike=run.data.look_alike)
    number = {path: place for place, path in enumerate(run.data.paths)}
    places = np.array([number[path] for path in validation.paths])
    comparison = Comparison(validation)
    vectors = {}
    for name, load in ((_("trained"), run.load_best), (_("start"), run.load_start)):
        load()
        began = time.monotonic()
        vectors[name] = run.embed(places, _("Measuring: %(name)s") % {"name": name})
        comparison.add_model(name, validation.evaluate(vectors[name], candidate_numbers()), time.monotonic() - began)
    run.load_best()
    add_baselines(comparison, validation, options["baselines"], options["weights_cache"], console)
    trained = vectors[_("trained")]
    write_json(run.folder / EVALUATION, comparison.to_dict())
    with replacement(run.folder / EMBEDDINGS) as part:
        np.savez(part, embeddings=trained.astype(np.float16), paths=np.array([str(path) for path in validation.paths]))
    console.say(tables(comparison))
    if are_nearly_the_same(np.unique(trained, axis=0)):
        raise CommandError(
            _(
                "The trained model makes nearly the same vector of all photos, so it is not stored: its training "
                "diverged. Start a new run with a lower --learning-rate or another --loss."
            )
        )
    return comparison.models[_("trained")]


def measure_active(active: ModelVersion, data: TrainingData, console: Console) -> None:
    """Measure the active version on the run's photos as well, or the two can't be compared."""
    validation = Validation(data.retrieval, data.validation, look_alike=data.look_alike)
    if active.metrics.get("evaluation", {}).get("set") == validation.sha256:
        return
    with console.bars:
        progress = console.counted_to(_("Measuring the active version"), len(validation.paths))
        vectors = embed_with_version(active, validation.paths, progress)
    store_evaluation(active, validation.evaluate(vectors, candidate_numbers()))
