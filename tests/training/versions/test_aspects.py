"""Versions get what explains them: by calibration, by training and by fit_aspects, with a real Postgres."""

import io

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from shop_similarity.models import AspectBasis, ModelVersion
from shop_similarity.search.aspects import explain, has_aspects
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import add_photo, make_product, make_version
from tests.training.commands.test_train_command import drawn, small, train  # noqa: F401
from tests.training.versions.test_first_version import make, shop, small_recipe, storages_in_tmp  # noqa: F401
from tests.vectors import random_vectors


@pytest.fixture
def few_drawings(monkeypatch):
    monkeypatch.setattr("shop_similarity.training.versions.aspects.FAMILIES", 12)


@pytest.fixture
def content_with_little(few_drawings, monkeypatch):
    """Eight times four random filters tell the aspects apart badly; here it counts that what is found is stored."""
    monkeypatch.setattr("shop_similarity.training.aspects.forms.TOLD_APART", 0)


def explains(version):
    vectors = random_vectors(2)
    first, second = explain(ModelVersion.objects.get(pk=version.pk), vectors[:1], vectors)
    assert first.similarity == pytest.approx(1, abs=1e-4)
    assert sum(second.contributions().values()) == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-4)


def calibrate(**options):
    out, err = io.StringIO(), io.StringIO()
    call_command("calibrate_mildnet", stdout=out, stderr=err, **options)
    return ModelVersion.objects.latest("created_at"), out.getvalue(), err.getvalue()


def test_calibration_stores_what_explains_the_version(shop, small_recipe, content_with_little):  # noqa: F811
    version, out, err = calibrate(activate=True)
    assert "Its similarities can be explained and leaned." in out
    assert "drawn goods" in err
    explains(version)
    metrics = AspectBasis.objects.get(version=version).metrics
    assert (metrics["photos"], metrics["drawings"], metrics["by_taps"]) == (12, 60, True)
    assert set(metrics["told_apart"]) == {"colour", "pattern", "shape"}


def test_a_version_that_tells_nothing_apart_is_as_good_without(shop, small_recipe, few_drawings, monkeypatch):  # noqa: F811
    monkeypatch.setattr("shop_similarity.training.aspects.forms.TOLD_APART", 1.01)
    version, _, err = calibrate(activate=True)
    assert "Similarities of mildnet-1 can't be explained. The model does not tell" in err
    assert version.state == ModelVersion.State.ACTIVE
    assert not has_aspects(version)
    assert not AspectBasis.objects.exists()


def test_it_can_be_left_out_and_made_up_for(shop, small_recipe, content_with_little):  # noqa: F811
    version, _, _ = calibrate(aspects=False)
    assert not has_aspects(version)
    out, err = io.StringIO(), io.StringIO()
    call_command("fit_aspects", stdout=out, stderr=err)
    assert "mildnet-1:" in out.getvalue()
    assert "shop's photos" in err.getvalue()
    explains(version)
    before = AspectBasis.objects.get().created_at
    out = io.StringIO()
    call_command("fit_aspects", stdout=out)
    assert "already" in out.getvalue()
    call_command("fit_aspects", "mildnet-1", verbosity=0)
    assert AspectBasis.objects.get().created_at == before


@pytest.mark.long
def test_hidden_layers_and_guards_are_explained_too(shop, content_with_little):  # noqa: F811
    """Of a head that is more than a linear map the depths say nothing; the drawings do."""
    from shop_similarity.training.networks.architectures import build
    from shop_similarity.training.networks.preprocessing import Preprocessing
    from shop_similarity.training.versions.storing import store_version

    for name, config, by_taps in (
        ("hidden", {"hidden": [8], "width": 0.125}, False),
        ("guarded", {"guard": 4, "width": 0.125}, True),
        ("block5", {"taps": ["block5_pool"], "width": 0.125}, False),
    ):
        preprocessing = Preprocessing(size=32)
        version = store_version(
            build("mildnet", config, preprocessing),
            name=name,
            architecture="mildnet",
            config=config,
            preprocessing=preprocessing,
            weights_source="random",
            metrics={},
        )
        call_command("fit_aspects", name, verbosity=0)
        assert AspectBasis.objects.get(version=version).metrics["by_taps"] is by_taps
        explains(version)


@pytest.mark.long
def test_training_stores_it_unless_told_not_to(train, content_with_little):  # noqa: F811
    add_photo(make_product(), products(1)[0].photo())
    train("--epochs", "1", "--name", "explained", "--aspects")
    version = ModelVersion.objects.get(name="explained")
    explains(version)
    assert np.isfinite(version.aspect_basis.metrics["inside"])


def test_the_command_s_mistakes_are_sentences(shop):  # noqa: F811
    with pytest.raises(CommandError, match="There is no model version autumn"):
        call_command("fit_aspects", "autumn")
    with pytest.raises(CommandError, match="--sample must be 1 to 1000"):
        call_command("fit_aspects", sample=0)
    make_version("lost")
    with pytest.raises(CommandError, match="lost cannot be read"):
        call_command("fit_aspects", "lost", stdout=io.StringIO())


def test_too_few_photos_are_told(db, storages_in_tmp, content_with_little):  # noqa: F811
    add_photo(make_product(), products(1)[0].photo())
    version, _ = make()
    err = io.StringIO()
    call_command("fit_aspects", version.name, stdout=io.StringIO(), stderr=err)
    assert "There are 1 photos; it takes 8" in err.getvalue()
