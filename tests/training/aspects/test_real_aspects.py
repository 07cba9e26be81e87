"""That the pretrained network's aspects are what they are called, on a catalogue whose colours, patterns and shapes are
known and are not those that the forms are fitted on."""

import itertools

import numpy as np
import pytest

from shop_similarity.search.aspects import ASPECTS, Basis
from shop_similarity.training.aspects.drawings import families
from shop_similarity.training.aspects.forms import fit_aspects
from shop_similarity.training.heads.calibration import calibrate_head
from shop_similarity.training.heads.recipe import RECIPES
from shop_similarity.training.networks.architectures import build, feature_model
from shop_similarity.training.networks.architectures.mildnet import MildnetConfig
from shop_similarity.training.networks.precision import dtype_policy, fast_policy
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.runner import extract
from shop_similarity.training.versions.aspects import linear_head
from tests.shop_similarity.drawn_photos import COLOURS, KINDS, PATTERNS, product_image
from tests.training.networks.test_real_weights import weights  # noqa: F401

pytestmark = pytest.mark.long
# Of ten found ones.
TOP = 10


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def catalogue(weights):  # noqa: F811
    """A shop of 144 drawn goods, six colours by four patterns by six kinds, each photographed in its own way.

    Returns:
        Labels ``(144, 3)``, embeddings ``(144, 4096)``, the basis, and what is known of it.
    """
    recipe = RECIPES["mildnet"]
    preprocessing = Preprocessing.from_dict(recipe.preprocessing.to_dict() | {"mean": weights.mean, "std": weights.std})
    config = MildnetConfig.from_dict(recipe.config)
    labels = np.array(list(itertools.product(list(COLOURS)[:6], PATTERNS, KINDS[:6])))
    size = (preprocessing.size, preprocessing.size)
    photos = [
        np.asarray(product_image(kind, colour, pattern, size, seed=number))
        for number, (colour, pattern, kind) in enumerate(labels)
    ]
    with dtype_policy(fast_policy()):
        model = build("mildnet", recipe.config, preprocessing)
    weights.apply(model)
    drawn = [np.asarray(picture) for pictures in families(60, preprocessing.size, seed=1) for picture in pictures]
    features = extract(feature_model(model), photos + drawn)
    head = calibrate_head(model, features[: len(photos)], config, strength=recipe.whitening, tap_trust=recipe.tap_trust)
    embeddings = unit(features @ head.kernel + head.bias)
    known = linear_head("mildnet", config.to_dict(), model, features[: len(photos)])
    found = fit_aspects(embeddings[: len(photos)], embeddings[len(photos) :], known)
    basis = Basis(found.directions, found.forms, found.outside, found.typical, found.own)
    # As a web process has it.
    return labels, embeddings[: len(photos)], Basis.from_bytes(basis.to_bytes()), found.metrics


def share_alike(labels, scores):
    """For each aspect, how many of the ten found first have it in common with what was asked for."""
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    first = np.argsort(-scores, axis=1)[:, :TOP]
    return (labels[first] == labels[:, None]).mean(axis=(0, 1))


@pytest.mark.parametrize(("aspect", "gain"), [("colour", 0.18), ("pattern", 0.06), ("shape", 0.1)])
def test_leaning_finds_more_that_is_alike_in_that(catalogue, aspect, gain):
    labels, embeddings, basis, _ = catalogue
    place = ASPECTS.index(aspect)
    plain = share_alike(labels, embeddings @ embeddings.T)
    leaned = share_alike(labels, basis.lean(embeddings, place, 2.0) @ embeddings.T)
    further = share_alike(labels, basis.lean(embeddings, place, 8.0) @ embeddings.T)
    assert leaned[place] > plain[place] + gain
    assert further[place] > leaned[place]
    # A search that leans to something else finds less of it than the one that leans to it.
    for other in range(3):
        if other != place:
            assert share_alike(labels, basis.lean(embeddings, other, 2.0) @ embeddings.T)[place] < leaned[place]


@pytest.mark.parametrize(("aspect", "at_least"), [("colour", 0.95), ("pattern", 0.92), ("shape", 0.92)])
def test_of_pairs_that_share_one_thing_that_is_the_first_reason(catalogue, aspect, at_least):
    labels, embeddings, basis, _ = catalogue
    same = labels[:, None] == labels[None]
    place = ASPECTS.index(aspect)
    left, right = np.nonzero(same[..., place] & (same.sum(axis=2) == 1))
    contributions = basis.contributions(embeddings[left], embeddings[right])
    assert np.allclose(contributions.sum(axis=0), np.einsum("nd,nd->n", embeddings[left], embeddings[right]), atol=1e-4)
    levels = (contributions - basis.typical[:, None]) / (basis.own - basis.typical)[:, None]
    assert (levels.argmax(axis=0) == place).mean() > at_least


def test_drawings_that_were_left_out_are_recognised(catalogue):
    assert min(catalogue[3]["told_apart"].values()) > 0.8
