"""From a version's model to the stored matrices that explain its similarities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from django.utils.translation import gettext as _

from shop_similarity.conf import get_settings
from shop_similarity.models import EMBEDDING_DIM, AspectBasis, ModelVersion
from shop_similarity.search.aspects import Basis, store_basis
from shop_similarity.training.aspects.drawings import MEMBERS, families
from shop_similarity.training.aspects.forms import (
    ASPECTS,
    FAMILIES,
    PHOTOS,
    AspectsError,
    LinearHead,
    depths,
    fit_aspects,
)
from shop_similarity.training.networks.questions import Questions

if TYPE_CHECKING:
    import keras

__all__ = ["PHOTOS", "AspectsError", "drawings", "explain_version", "linear_head"]

_SEED = 20190304
_FEATURES_AT_ONCE = 512
# Called as progress(what, done, total).
Progress = Callable[[str, int, int], None]


def explain_version(
    version: ModelVersion, model: keras.Model, features: np.ndarray, progress: Progress | None = None
) -> AspectBasis:
    """Find what splits a version's similarities into aspects, and store it in place of what was there.

    It costs one pass of 500 drawings through the model and a few seconds.

    Args:
        version: a stored version.
        model: the version's, with its weights.
        features: ``(n, d)`` of the shop's photos, what
            :func:`shop_similarity.training.networks.architectures.feature_model` gives; at most
            :data:`~shop_similarity.training.aspects.forms.PHOTOS` of them are looked at.
        progress: called as ``progress(what, done, total)``.

    Raises:
        AspectsError: the version can't explain its similarities.
    """
    import keras

    from shop_similarity.training.networks.architectures import FEATURES
    from shop_similarity.training.networks.runner import extract

    if model.output_shape[-1] != EMBEDDING_DIM:
        raise AspectsError(f"Embeddings of {model.output_shape[-1]} numbers can't be explained, only {EMBEDDING_DIM}.")
    if len(features) > PHOTOS:
        features = features[np.sort(np.random.default_rng(_SEED).choice(len(features), PHOTOS, replace=False))]
    above = keras.Model(model.get_layer(FEATURES).output, model.output)
    embeddings = extract(above, features, _FEATURES_AT_ONCE)
    what = _("Looking at drawn goods")
    total = FAMILIES * len(MEMBERS)
    drawn = extract(
        model,
        drawings(model.input_shape[1]),
        get_settings().batch_size,
        progress and (lambda done: progress(what, done, total)),
    )
    forms = fit_aspects(
        _unit(embeddings), _unit(drawn), linear_head(version.architecture, version.config, model, features), seed=_SEED
    )
    basis = Basis(forms.directions, forms.forms, forms.outside, forms.typical, forms.own)
    return store_basis(version, basis, forms.metrics)


def drawings(size: int) -> Iterator[np.ndarray]:
    """The drawn families that forms are found on, ``(size, size, 3)`` each."""
    for pictures in families(FAMILIES, size, _SEED):
        yield from (np.asarray(picture) for picture in pictures)


def linear_head(
    architecture: str, config: Mapping[str, Any], model: keras.Model, features: np.ndarray
) -> LinearHead | None:
    """A head as one linear map of joined taps, each of which stands for an aspect.

    Args:
        architecture: of the model.
        config: its options.
        model: with its weights.
        features: ``(n, d)`` of the shop's photos, joined taps.

    Returns:
        The head; None for a model that has no such head.
    """
    from shop_similarity.training.networks.architectures import HEAD, full_config
    from shop_similarity.training.networks.architectures.colour import COLOUR
    from shop_similarity.training.networks.architectures.mildnet import MildnetConfig
    from shop_similarity.training.networks.architectures.parts import CHANGE

    whole = full_config(architecture, config)
    if not isinstance(whole, MildnetConfig) or not whole.is_linear:
        return None
    lengths = whole.tap_lengths
    aspects: dict[str, int] = {COLOUR: ASPECTS.index("colour")}
    for part in whole.spec.parts:
        in_depth = [tap for tap in part.taps if tap in lengths]
        # Of fewer than three depths no aspect's could be told from another's.
        if len(in_depth) < len(ASPECTS):
            return None
        aspects |= dict(zip(in_depth, depths(len(in_depth)), strict=True))
    kernel, bias = model.get_layer(HEAD).get_weights()
    if whole.guard:
        # For photos like those that it was trained on, which the shop's are.
        change, moved = model.get_layer(CHANGE).get_weights()
        kernel, bias = kernel + change, bias + moved
    taps = list(lengths.values()), [aspects[tap] for tap in lengths]
    if questions := Questions.of(config):
        return LinearHead(features, kernel, bias, *taps, questions.divided)
    return LinearHead(features, kernel, bias, *taps)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) if len(rows) else rows
