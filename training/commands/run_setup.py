"""From the options of the command to the setup of a run, and to the weights that it starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.models import EMBEDDING_DIM, ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.heads import recipe
from shop_similarity.training.learning.folder import START_WEIGHTS
from shop_similarity.training.learning.options import SamplingOptions, TrainingOptions
from shop_similarity.training.learning.setup import Setup
from shop_similarity.training.networks.precision import fast_policy
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.photos.augmentation import Augmentation
from shop_similarity.training.versions.weights_cache import default_weights_cache

if TYPE_CHECKING:
    from shop_similarity.training.networks.backbones import Trunk, TrunkWeights


@dataclass(frozen=True)
class _Start:
    """What training begins with.

    Attributes:
        weights: a stored version, or the backbones'.
        architecture: a key of :data:`shop_similarity.training.networks.architectures.ARCHITECTURES`.
        config: its options.
        preprocessing: of the photos.
        source: where the weights come from, for people.
    """

    weights: ModelVersion | TrunkWeights
    architecture: str
    config: dict[str, Any]
    preprocessing: Preprocessing
    source: str


def choose_setup(
    options: Mapping[str, Any], record: Mapping[str, Any] | None, console: Console
) -> tuple[Setup, ModelVersion | TrunkWeights | None]:
    """What the run is, and the weights it starts from.

    Args:
        options: of the command.
        record: of the run that goes on; None for a new one.
        console: of the command.

    Returns:
        The setup; and a version, the backbones' weights, or None for a run that has its starting weights already.

    Raises:
        CommandError: an option is wrong.
        WeightsUnavailable: pretrained weights can't be had.
    """
    try:
        setup = Setup.from_dict(record["setup"]) if record else None
        if setup and (options["resume"] / START_WEIGHTS).exists():
            return setup, None
        new_setup, weights = _new_setup(options, console)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return setup or new_setup, weights


def fetch_weights(backbone: str, options: Mapping[str, Any], console: Console) -> TrunkWeights:
    """Pretrained weights of a backbone, or of several joined: of ``--weights``, of ``--weights-cache``, or fetched.

    Raises:
        WeightsUnavailable: they can't be had.
    """
    from shop_similarity.training.networks.backbones.weights import find_trunk_weights

    cache = options["weights_cache"] or default_weights_cache()
    files = options["weights"] or []
    # From Python it may be one path.
    files = [files] if isinstance(files, str | Path) else files
    weights = find_trunk_weights(backbone, cache, files, console.bars.bytes)
    console.bars.close()
    for part in weights.parts:
        console.say(_("Weights: %(source)s.") % {"source": part.source})
    console.say(_("ImageNet's terms are for research and teaching: read docs/model.md before a shop uses it."))
    return weights


def _new_setup(options: Mapping[str, Any], console: Console) -> tuple[Setup, ModelVersion | TrunkWeights]:
    from shop_similarity.training.networks.architectures import full_config, trunk_of

    # Wrong options are told before weights are fetched.
    training, sampling = _training_options(options), SamplingOptions.of_arguments(options)
    values = _key_values(options["config"], "--config")
    start = _from_version(options, values) if options["fine_tune"] else _from_backbone(options, values, console)
    trunk = trunk_of(start.architecture, start.config)
    config = full_config(start.architecture, _config(start, values, options, trunk))
    if config.embedding_dim != EMBEDDING_DIM and not options["no_store"]:
        raise ValueError(
            f"The shop stores embeddings of {EMBEDDING_DIM} numbers, this model gives {config.embedding_dim}. "
            f"Leave embedding_dim at {EMBEDDING_DIM}, or train with --no-store."
        )
    cached = not options["no_cache"] and config.frozen_through is not None
    augment = options["views"] != 0 if options["augment"] is None else options["augment"]
    changes = _key_values(options["augmentation"], "--augmentation")
    setup = Setup(
        start.architecture,
        config.to_dict(),
        start.preprocessing,
        start.source,
        training,
        sampling if augment and cached else replace(sampling, views=0),
        Augmentation.from_dict(changes) if augment else None,
        fast_policy(trunk) if options["precision"] == "auto" else options["precision"],
        cached,
        _is_calibrated(start, config, options),
    )
    return setup, start.weights


def _from_version(options: Mapping[str, Any], values: Mapping[str, Any]) -> _Start:
    version = ModelVersion.objects.filter(name=options["fine_tune"]).first()
    if version is None:
        known = ", ".join(ModelVersion.objects.order_by("name").values_list("name", flat=True)) or _("none")
        raise CommandError(
            _("There is no model version %(name)s to fine-tune. There are: %(known)s.")
            % {"name": options["fine_tune"], "known": known}
        )
    if options["architecture"] not in (None, version.architecture):
        raise ValueError(
            f"{version.name} is a {version.architecture}: it can't be fine-tuned as {options['architecture']}."
        )
    return _Start(
        version,
        version.architecture,
        {**version.config, **values},
        Preprocessing.from_dict(version.preprocessing),
        version.weights_source,
    )


def _from_backbone(options: Mapping[str, Any], values: Mapping[str, Any], console: Console) -> _Start:
    from shop_similarity.training.networks.architectures import backbone_of, full_config
    from shop_similarity.training.networks.architectures.mildnet import MildnetConfig

    architecture = options["architecture"] or recipe.DEFAULT
    first = recipe.RECIPES.get(architecture)
    config = {**({**first.config, **recipe.TRAINED} if first else {}), **values}
    if "instance" in config and "instance" not in values:
        one_question = {**config, "instance": 0.0}
        whole = full_config(architecture, one_question)
        config = config if isinstance(whole, MildnetConfig) and whole.takes_questions else one_question
    # A wrong option is told before weights are fetched.
    full_config(architecture, config)
    weights = fetch_weights(backbone_of(architecture, config), options, console)
    preprocessing = first.preprocessing if first else Preprocessing()
    return _Start(
        weights,
        architecture,
        config,
        replace(preprocessing, mean=weights.mean, std=weights.std),
        weights.source,
    )


def _config(start: _Start, values: Mapping[str, Any], options: Mapping[str, Any], trunk: Trunk) -> dict[str, Any]:
    """The options of the architecture, with what is trained and the guard, unless ``--config`` says otherwise."""
    config = start.config
    if options["train"] or options["frozen_through"] or "frozen_through" not in values:
        config = {**config, "frozen_through": _frozen_through(options, trunk)}
    if "guard" not in values:
        config = {**config, **_guard(start.architecture, config, trunk)}
    return config


def _frozen_through(options: Mapping[str, Any], trunk: Trunk) -> str | None:
    """The last layer or tap that is not trained."""
    if options["frozen_through"]:
        return options["frozen_through"]
    part = options["train"] or "head"
    if part == "all":
        return None
    if part == "head":
        return trunk.taps[-1]
    taps = {tap.removesuffix("_pool"): tap for tap in trunk.taps} if trunk.divides else {}
    if part not in taps:
        raise ValueError(f"--train must be one of {', '.join(('head', 'all', *taps))}, not {part!r}.")
    return trunk.below(taps[part])


def _guard(architecture: str, config: Mapping[str, Any], trunk: Trunk) -> dict[str, int]:
    """A guard against forgetting wherever there can be one: for a linear head on a backbone that stays as it is."""
    from shop_similarity.training.networks.architectures import full_config

    # A version that has one is fine-tuned with it, whatever is trained.
    if config.get("guard") or not getattr(full_config(architecture, config), "is_linear", False):
        return {}
    return {"guard": recipe.GUARD} if trunk.taps[-1] == config.get("frozen_through") else {}


def _is_calibrated(start: _Start, config: Any, options: Mapping[str, Any]) -> bool:
    return (
        options["calibrate"]
        and getattr(config, "is_linear", False)
        and start.architecture in recipe.RECIPES
        and not isinstance(start.weights, ModelVersion)
    )


def _training_options(options: Mapping[str, Any]) -> TrainingOptions:
    from shop_similarity.training.learning.step import chosen_loss

    loss_options = _loss_options(options["loss"], options["margin"], options["temperature"])
    training = TrainingOptions.of_arguments(options, loss_options=loss_options)
    # What is wrong is told before anything is computed.
    chosen_loss(training)
    return training


def _loss_options(loss: str, margins: Sequence[float] | None, temperature: float | None) -> dict[str, float]:
    values: dict[str, float] = {}
    if margins:
        names = {"contrastive-margins": ("positive_margin", "negative_margin"), "angular": ("angle",)}
        keys = names.get(loss, ("margin",))
        if len(margins) != len(keys):
            raise ValueError(f"The loss {loss} takes {len(keys)} numbers as --margin, not {len(margins)}.")
        values |= dict(zip(keys, margins, strict=True))
    if temperature is not None:
        values["temperature"] = temperature
    return values


def _key_values(pairs: Sequence[str], option: str) -> dict[str, Any]:
    values = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"{option} takes KEY=VALUE, not {pair!r}.")
        try:
            values[key.strip()] = json.loads(text)
        except ValueError:
            values[key.strip()] = text
    return values
