"""How good models are, beside baselines, all on the same photos."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.conf import get_settings
from shop_similarity.embedding.vectors import are_nearly_the_same
from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.evaluation.baselines import Baseline, baselines
from shop_similarity.training.evaluation.comparison import Comparison
from shop_similarity.training.evaluation.tables import tables
from shop_similarity.training.evaluation.validation import Evaluation, Validation, asked_by_photo
from shop_similarity.training.files import replacement
from shop_similarity.training.learning.folder import EMBEDDINGS, EVALUATION, TEST, write_json
from shop_similarity.training.versions.embedding_files import embed_files, embed_with_version, image_limits
from shop_similarity.training.versions.lineage import LEAK, Leak
from shop_similarity.training.versions.storing import store_evaluation
from shop_similarity.training.versions.weights_cache import default_weights_cache

if TYPE_CHECKING:
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
    known = baselines(weights_cache or default_weights_cache(), image_limits(), console.bars.bytes if console else None)
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
    validation = Validation(run.data.retrieval, run.data.validation, look_alike=run.data.look_alike)
    places = np.array([run.data.places[path] for path in validation.paths])
    comparison, trained = _compare(run, validation, lambda what: run.embed(places, what), options, console)
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


def measure_test(
    run: TrainingRun, test: Validation, options: Mapping[str, Any], console: Console
) -> dict[str, Evaluation]:
    """Measure the same on the test set, once and for all: nothing is chosen by it.

    Returns:
        The trained model's figures as ``test``. Nothing, and that is said, where they can't be had: what was trained is
        not given up for a photo of the test set.
    """

    def embed(what: str) -> np.ndarray:
        progress = console.counted_to(what, len(test.paths))
        preprocessing, size = run.setup.preprocessing, get_settings().batch_size
        return embed_files(run.model, test.paths, preprocessing, size, progress, image_limits())

    try:
        comparison, _vectors = _compare(run, test, embed, options, console)
    except TrainingError as error:
        console.bars.close()
        console.warn(_("The test set can't be measured: %(reason)s") % {"reason": error})
        run.load_best()
        return {}
    write_json(run.folder / TEST, comparison.to_dict())
    console.say(_("On the test set:\n%(tables)s") % {"tables": tables(comparison)})
    return {"test": comparison.models[_("trained")]}


def _compare(
    run: TrainingRun,
    validation: Validation,
    embed: Callable[[str], np.ndarray],
    options: Mapping[str, Any],
    console: Console,
) -> tuple[Comparison, np.ndarray]:
    """Figures of trained model, start and baselines, and the trained model's embeddings, as ``embed`` gives them."""
    comparison = Comparison(validation)
    vectors = {}
    for name, load in ((_("trained"), run.load_best), (_("start"), run.load_start)):
        load()
        began = time.monotonic()
        vectors[name] = embed(_("Measuring: %(name)s") % {"name": name})
        comparison.add_model(
            name,
            validation.evaluate(vectors[name], candidate_numbers(), asked=asked_by_photo(run.setup.config)),
            time.monotonic() - began,
        )
    run.load_best()
    add_baselines(comparison, validation, options["baselines"], options["weights_cache"], console)
    return comparison, vectors[_("trained")]


def measure_active(active: ModelVersion, validation: Validation, leak: Leak, console: Console) -> None:
    """Measure the active version on a candidate's validation set as well, or the two can't be compared.

    Args:
        active: the active version.
        validation: what the candidate was measured on.
        leak: what the active version has seen of it, which is said.
        console: of the command.
    """
    if leak:
        console.warn(leak.about(active.name))
    known = active.metrics.get("evaluation", {})
    if known.get("set") == validation.sha256 and known.get(LEAK) == (leak.to_dict() if leak else None):
        return
    with console.bars:
        progress = console.counted_to(_("Measuring the active version"), len(validation.paths))
        vectors = embed_with_version(active, validation.paths, progress)
    asked = asked_by_photo(active.config)
    store_evaluation(active, validation.evaluate(vectors, candidate_numbers(), asked=asked), leak)
