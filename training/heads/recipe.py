"""The recipes of the first models, one for each architecture that can be calibrated; ``docs/model.md`` tells how they
were chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shop_similarity.training.networks.preprocessing import Preprocessing

# What is made where nobody says otherwise. It finds as much as VGG16 does at a fortieth of the arithmetic.
DEFAULT = "mildnet-lite"
# Photos to calibrate on at most.
SAMPLE = 4_000
SEED = 20190304
# Shares of the colours, and of a second head by which photos of one product find each other, in the embedding of a
# model that is trained. Triplets teach what tells products apart besides their colour, and the more of that a model has
# learned, the more colour it takes to keep look-alikes of one colour.
TRAINED = {"colour": 0.2, "instance": 0.15}
# Directions by which a model that was fine-tuned tells familiar photos from others.
GUARD = 24


@dataclass(frozen=True)
class Recipe:
    """How a first version is made.

    Attributes:
        architecture: a key of :data:`shop_similarity.training.networks.architectures.ARCHITECTURES`.
        config: its options, as far as they differ from the defaults.
        tap_trust: how far each tap is trusted where there are too few photos to learn it from; ``None`` for what
            :func:`trust_by_depth` says.
        preprocessing: geometry of the input; the normalisation comes with the weights.
        whitening: exponent of whitening, 0 centres only, 1 whitens.
    """

    architecture: str
    config: Mapping[str, Any]
    tap_trust: Mapping[str, float] | None
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(size=224, resize="squash"))
    whitening: float = 0.5


# The histogram of colours gets this share of the embedding's energy.
_CONFIG = {
    "pooling": "avg",
    "tap_power": 0.8,
    "normalise_taps": True,
    "hidden": [],
    "embedding_dim": 4096,
    "colour": 0.07,
}
_VGG_TRUST = {"block1_pool": 0.54, "block2_pool": 0.59, "block3_pool": 0.67, "block4_pool": 0.8, "block5_pool": 1.0}
_LITE_TRUST = {"block2": 0.3, "block3": 0.4, "block5": 0.6, "block7": 0.8, "top": 1.0}


def trust_by_depth(taps: Sequence[str]) -> dict[str, float]:
    """Trust that grows evenly from the first tap of a network to the last, as that of Lite0's chosen ones does."""
    first, last = _LITE_TRUST["block2"], max(len(taps) - 1, 1)
    return {tap: 1 - (1 - first) * (1 - place / last) if len(taps) > 1 else 1.0 for place, tap in enumerate(taps)}


RECIPES: dict[str, Recipe] = {
    recipe.architecture: recipe
    for recipe in (
        Recipe("mildnet", _CONFIG, _VGG_TRUST),
        Recipe("mildnet-lite", _CONFIG, _LITE_TRUST),
        Recipe("mildnet-lite2", _CONFIG, _LITE_TRUST, Preprocessing(size=260, resize="squash")),
        # Of an encoder that a shop brings along; its preprocessing comes with it.
        Recipe("mildnet-encoder", _CONFIG, None),
        Recipe(
            "mildnet-joined",
            _CONFIG,
            _VGG_TRUST | {f"efficientnet_lite0_{tap}": trust for tap, trust in _LITE_TRUST.items()},
        ),
    )
}
