"""train_mildnet from a CSV to a stored version, with a small network, drawn photos and a real Postgres."""

import numpy as np
import pytest
from django.core.management import call_command

from shop_similarity.models import ModelVersion, OutboxEntry
from tests.shop_similarity.factories import add_photo, make_product
from tests.shop_similarity.photos import product_photo
from tests.training.drawn_triplets import write_photos, write_triplets
from tests.training.test_first_version import SmallBackbone, storages_in_tmp  # noqa: F401
from training.loading import load_version
from training.preprocessing import Preprocessing
from training.trainer import read_history

SMALL = ("width=0.125", "embedding_dim=4096")


@pytest.fixture
def small(monkeypatch):
    """A backbone of 32 pixels and an eighth of the filters, with seeded weights."""
    from training import recipe
    from training.backbones import weights

    monkeypatch.setattr(weights, "find_weights", lambda *args, **kwargs: SmallBackbone())
    chosen = recipe.RECIPES["mildnet"]
    small = recipe.Recipe(chosen.architecture, chosen.config, chosen.tap_trust, Preprocessing(size=32))
    monkeypatch.setitem(recipe.RECIPES, "mildnet", small)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    names = write_photos(folder / "photos", colours=6, kinds=4, seeds=2)
    held = {name: names.pop(name) for name in sorted(names)[:2]}
    write_triplets(folder / "train.csv", names, 120)
    write_triplets(folder / "validation.csv", held, 40)
    return folder


@pytest.fixture
def train(db, storages_in_tmp, small, drawn, tmp_path):  # noqa: F811
    def run(*arguments, csv=drawn / "train.csv", images=drawn / "photos", folder=tmp_path / "run", **options):
        call_command(
            "train_mildnet",
            *(["--triplets", str(csv), "--images", str(images)] if csv else []),
            *(["--validation", str(drawn / "validation.csv")] if csv and options.pop("validate", True) else []),
            *[part for pair in SMALL for part in ("--config", pair)],
            *(["--run", str(folder)] if folder else []),
            *(
                "--batch-size",
                "16",
                "--learning-rate",
                "0.003",
                "--precision",
                "float32",
                "--cache",
                str(tmp_path / "c"),
            ),
            *arguments,
            verbosity=options.pop("verbosity", 0),
            **options,
        )
        return folder

    return run


def test_a_trained_model_is_stored_with_all_that_is_known_of_it(train, capsys):
    for colour in ("red", "green"):
        add_photo(make_product(), product_photo("mug", colour))
    folder = train("--epochs", "3", "--name", "autumn", verbosity=1)
    version = ModelVersion.objects.get(name="autumn")
    assert version.state == ModelVersion.State.CANDIDATE
    assert version.weights_source == SmallBackbone.source
    training = version.metrics["training"]
    assert training["triplets"] == 120
    assert training["recipe"]["loss"]["loss"] == "supcon"
    assert len(training["data_sha256"]) == 64
    assert version.metrics["calibration"]["photos"] > 10
    assert version.metrics["evaluation"]["triplets"]["accuracy"] > 0.5
    assert OutboxEntry.objects.filter(version=version).count() == 2
    history = read_history(folder)
    assert [record["epoch"] for record in history] == [0, 1, 2, 3]
    assert history[3]["loss"] < history[1]["loss"]
    assert history[3]["val_loss"] < history[0]["val_loss"]
    for name in ("report.html", "best.weights.h5", "start.weights.h5", "tensorboard", "evaluation.json", "run.json"):
        assert (folder / name).exists(), name
    said = capsys.readouterr().out
    assert "Best epoch" in said
    assert "will take" in said
    # What is stored is what was measured.
    model = load_version(version)
    with np.load(folder / "embeddings.npz") as stored:
        embeddings, paths = stored["embeddings"], stored["paths"]
    from training.embedding_files import embed_files

    again = embed_files(model, list(paths), Preprocessing.from_dict(version.preprocessing))
    assert np.abs(again - embeddings).max() < 2e-3
