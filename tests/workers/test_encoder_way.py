"""A shop on an encoder that it brought along: calibrated, embedded, found, trained, rolled out and back."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from PIL import Image

from shop_similarity.embedding import bell
from shop_similarity.models import AspectBasis, Embedding, ModelVersion
from shop_similarity.training import extras
from shop_similarity.training.extras import ExtraMissing
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.workers import embedder
from shop_similarity.workers.drain import drain
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import make_category, make_product
from tests.support.waiting import wait_until
from tests.training.drawn_triplets import write_photos, write_triplets
from tests.training.networks.tiny_presets import save_preset

pytestmark = pytest.mark.skipif(
    not extras.find_spec("keras_hub"),
    reason="keras-hub is not installed: pip install --no-deps -r requirements-encoders.txt",
)

SIZE = (200, 160)
# To such small networks these drawings look much the same.
OWN = {"DIVERSITY": 0.0, "DUPLICATE_SIMILARITY": 2.0, "VISUAL_SEARCH_WAIT_SECONDS": 60.0, "FALLBACK": None}


@pytest.fixture
def goods(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, **OWN}
    embedder.release_embedder()
    cache.clear()
    made = []
    drawn = products(12)
    for number, item in enumerate(drawn):
        product = make_product(item.name, make_category(("Kitchen", "Wardrobe")[number % 2]), stock=3, price=number + 1)
        product.photos.create(file=item.photo_file(SIZE), position=0)
        made.append(product)
    yield made, drawn
    embedder.release_embedder()


def calibrate(folder, kind, *arguments):
    preset = save_preset(folder / f"{kind}_tiny", kind, "apache-2.0")
    call_command("calibrate_mildnet", "--backbone", f"keras-hub:{preset}", *arguments, verbosity=0)
    return ModelVersion.objects.latest("pk")


@pytest.mark.long
@pytest.mark.django_db
def test_a_version_on_a_preset_is_embedded_with_what_it_keeps_of_it(goods, tmp_path, monkeypatch):
    version = calibrate(tmp_path, "clip", "--activate", "--name", "looks", "--aspects")
    kept = version.config["encoder"]
    assert (kept["builder"], kept["name"]) == ("keras-hub", "CLIPVisionEncoder")
    assert kept["made_with"].startswith("keras-hub 0.")
    assert version.weights_source == "keras-hub preset clip_tiny, licence: apache-2.0"
    assert len(version.metrics["calibration"]["backbone_sha256"]) == 64
    assert Preprocessing.from_dict(version.preprocessing).resize == "crop"
    drain()
    assert Embedding.objects.filter(version=version).count() == 12
    # Without keras-hub photos wait, with a sentence in the log on what to install.
    embedder.release_embedder()
    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "keras_hub" else found(name))
    with pytest.raises(ExtraMissing, match=r"needs keras_hub.*worker,encoders"):
        embedder.get_embedder(version)
    with pytest.raises(CommandError, match=r"worker,encoders"):
        calibrate(tmp_path, "clip")


def test_options_that_do_not_go_together_are_refused(db, tmp_path):
    for arguments, sentence in (
        (["--backbone", "keras-hub:x", "--architecture", "mildnet"], "--architecture does not go with --backbone"),
        (["--size", "64"], "are of --backbone"),
        (["--backbone", "keras-hub:x", "--size", "0"], "--size must be 1 or more"),
        (["--backbone", f"keras-hub:{tmp_path}"], "has no config.json"),
        (["--backbone", "os.system"], "not one that the settings name"),
    ):
        with pytest.raises(CommandError, match=sentence):
            call_command("calibrate_mildnet", *arguments, verbosity=0)


@pytest.mark.long
@pytest.mark.django_db
@pytest.mark.skipif(not extras.find_spec("openvino"), reason="OpenVINO is not installed (the extra openvino)")
@pytest.mark.parametrize("kind", ["clip", "dinov2", "efficientnet"])
def test_openvino_computes_the_same_vectors(goods, kind, tmp_path, settings, monkeypatch):
    from shop_similarity.workers.runtimes.interface import EXACT
    from shop_similarity.workers.runtimes.with_openvino import OpenVINO
    from shop_similarity.workers.runtimes.with_tensorflow import TensorFlow

    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WEIGHTS_CACHE": str(tmp_path / "cache")}
    monkeypatch.setattr("shop_similarity.workers.runtimes.with_openvino.cpu_multiplies_bfloat16", lambda: True)
    version = calibrate(tmp_path, kind, "--no-aspects")
    preprocessing = Preprocessing.from_dict(version.preprocessing)
    photos = np.stack([preprocessing.prepare(Image.open(io.BytesIO(item.photo(SIZE)))) for item in goods[1]])
    network = OpenVINO().load(version)
    assert network.precision == EXACT, "Nobody has measured what bfloat16 does to encoders."
    ours, theirs = (each.step(12)(photos) for each in (network, TensorFlow().load(version)))
    assert (ours * theirs).sum(axis=1).min() > 0.9999


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_the_whole_way(goods, tmp_path, celery_worker_process):
    made, drawn = goods
    version = calibrate(tmp_path, "dinov2", "--activate")
    bell._app.cache_clear()
    worker = celery_worker_process("--pool", "solo", env={"SHOP_TEST_SIMILARITY": json.dumps(OWN)})
    bell.ring()

    def until(condition, what):
        wait_until(condition, lambda: f"{what}\n{worker.log[-3000:]}")

    def active():
        return ModelVersion.objects.active().pk

    until(lambda: Embedding.objects.filter(version=version).count() == 12, "The photos were not embedded.")
    until(lambda: active() == version.pk, "The version did not become active.")
    client = Client()
    _look_alikes_and_photo_search(client, made, drawn, worker)
    # Three depths are what similarities are explained by.
    basis = AspectBasis.objects.filter(version=version).first()
    assert basis is None or basis.metrics["by_taps"]

    photos = write_photos(tmp_path / "photos", colours=6, kinds=4, seeds=2)
    write_triplets(tmp_path / "train.csv", photos, 60)
    call_command(
        "train_mildnet",
        *("--triplets", str(tmp_path / "train.csv"), "--images", str(tmp_path / "photos")),
        *("--fine-tune", version.name, "--epochs", "1", "--batch-size", "16", "--epoch-batches", "1"),
        *("--run", str(tmp_path / "run"), "--cache", str(tmp_path / "cache")),
        *("--views", "1", "--no-aspects", "--name", "trained"),
        verbosity=0,
    )
    trained = ModelVersion.objects.get(name="trained")
    assert trained.config["encoder"] == version.config["encoder"]
    assert "apache-2.0" in trained.weights_source
    assert trained.weights_sha256 != version.weights_sha256
    call_command("activate_model", "trained", "--force", verbosity=0)
    bell.ring()
    until(lambda: active() == trained.pk, "The trained version did not take over.")
    _look_alikes_and_photo_search(client, made, drawn, worker)
    call_command("rollback_model", verbosity=0)
    until(lambda: active() == version.pk, "It did not go back.")
    _look_alikes_and_photo_search(client, made, drawn, worker)
    with pytest.raises(CommandError, match="--train must be one of head, all, not"):
        call_command(
            "train_mildnet",
            *("--triplets", str(tmp_path / "train.csv"), "--images", str(tmp_path / "photos")),
            *("--fine-tune", version.name, "--train", "layer1", "--no-store"),
            verbosity=0,
        )
    bell.flush(5)
    bell._app.cache_clear()


def _look_alikes_and_photo_search(client, made, drawn, worker):
    cache.clear()
    page = client.get(made[4].get_absolute_url())
    assert page.status_code == 200
    names = [product.name for product in made if product != made[4] and product.name in page.content.decode()]
    assert len(names) >= 4, "The page shows no widget."
    photo = SimpleUploadedFile("photo.jpg", drawn[4].photo(SIZE), "image/jpeg")
    response = client.post("/api/similarity/v1/search/image/", {"image": photo, "limit": 3})
    assert response.status_code == 200, (response.content, worker.log[-4000:])
    found = response.json()["results"]
    assert found[0]["id"] == str(made[4].pk)
    assert found[0]["similarity"] > 0.97
