"""How good the trained model is, beside the start, baselines and the active version, all on the same photos."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.conf import get_settings
from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.folders import weights_cache
from shop_similarity.training.evaluation.baselines import baselines
from shop_similarity.training.evaluation.comparison import Comparison
from shop_similarity.training.evaluation.results import Evaluation, Validation
from shop_similarity.training.evaluation.tables import tables
from shop_similarity.training.versions.embedding_files import embed_with_version, image_limits
from shop_similarity.training.versions.storing import store_evaluation

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData
    from shop_similarity.training.learning.run import TrainingRun


def measure(run: TrainingRun, options: Mapping[str, Any], console: Console) -> Evaluation:
    """Measure trained model, start and baselines, and keep in the run's folder what its report needs.

    Afterwards the model has the weights of its best epoch.

    Returns:
        The trained model's figures.

    Raises:
        CommandError: there is no such baseline.
        EvaluationError, UnreadablePhotos, WeightsUnavailable: something can't be measured.
    """
    from shop_similarity.training.learning.run import EMBEDDINGS, EVALUATION, write_json

    validation = Validation(run.data.retrieval, run.data.validation)
    number = {path: place for place, path in enumerate(run.data.paths)}
    places = np.array([number[path] for path in validation.paths])
    comparison = Comparison(validation)
    vectors = {}
    for name, load in ((_("trained"), run.load_best), (_("start"), run.load_start)):
        load()
        began = time.monotonic()
        vectors[name] = run.embed(places, _("Measuring: %(name)s") % {"name": name})
        comparison.add_model(name, validation.evaluate(vectors[name], _candidates()), time.monotonic() - began)
    run.load_best()
    _add_baselines(comparison, validation, options, console)
    console.bars.close()
    trained = vectors[_("trained")]
    write_json(run.folder / EVALUATION, comparison.to_dict())
    part = run.folder / f".part-{EMBEDDINGS}"
    with part.open("wb") as file:
        np.savez(file, embeddings=trained.astype(np.float16), paths=np.array([str(path) for path in validation.paths]))
    part.replace(run.folder / EMBEDDINGS)
    console.say(tables(comparison))
    return comparison.models[_("trained")]


def measure_active(active: ModelVersion, data: TrainingData, console: Console) -> None:
    """Measure the active version on the run's photos as well, or the two can't be compared."""
    validation = Validation(data.retrieval, data.validation)
    if active.metrics.get("evaluation", {}).get("set") == validation.sha256:
        return
    with console.bars:
        tell = console.counted_to(_("Measuring the active version"), len(validation.paths))
        vectors = embed_with_version(active, validation.paths, tell)
    store_evaluation(active, validation.evaluate(vectors, _candidates()))


def _candidates() -> list[int]:
    """Numbers of candidates for which the search by codes is measured, the shop's own among them."""
    return sorted({10, 50, 100, get_settings().candidates})


def _add_baselines(
    comparison: Comparison, validation: Validation, options: Mapping[str, Any], console: Console
) -> None:
    if options["baselines"] in (None, "none", ""):
        return
    known = baselines(weights_cache(options), image_limits(), console.bars.bytes)
    names = list(known) if options["baselines"] == "all" else options["baselines"].split(",")
    if unknown := [name for name in names if name not in known]:
        raise CommandError(
            _("There is no baseline %(unknown)s. There are: %(known)s.")
            % {"unknown": ", ".join(unknown), "known": ", ".join(known)}
        )
    for name in names:
        began = time.monotonic()
        baseline = known[name]
        vectors = baseline.embed(validation.paths, console.counted_to(baseline.title, len(validation.paths)))
        comparison.add_baseline(
            name, baseline.title, validation.evaluate(vectors, candidates=None), time.monotonic() - began
        )
