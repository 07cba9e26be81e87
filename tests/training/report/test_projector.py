"""The projector's files, and TensorBoard's own page of them."""

import json
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from shop_similarity.training.learning.tensorboard_log import TensorBoardLog
from shop_similarity.training.report.projector import write_projector
from tests.training.report_runs import drawn_photos, embeddings_of


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    return [folder / name for name in drawn_photos(folder, count=5)]


def test_files_and_their_order(photos, tmp_path):
    import tensorflow as tf

    embeddings = embeddings_of(10)
    assert write_projector(tmp_path, embeddings, photos) == 10
    config = text_format.Parse((tmp_path / "projector" / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (points,) = config.embeddings
    reader = tf.train.load_checkpoint(str(tmp_path / "projector"))
    np.testing.assert_array_equal(reader.get_tensor(points.tensor_name), embeddings)
    lines = (tmp_path / "projector" / points.metadata_path).read_text(encoding="utf-8").splitlines()
    assert lines == [" ".join(photo.name.split()) for photo in photos], "one column stands without a header"
    sprite = Image.open(tmp_path / "projector" / points.sprite.image_path)
    side = points.sprite.single_image_dim[0]
    assert sprite.size == (4 * side, 4 * side)


def test_too_many_photos_are_thinned_out_evenly(photos, tmp_path):
    import tensorflow as tf

    embeddings = np.arange(10, dtype=np.float32)[:, None]
    assert write_projector(tmp_path, embeddings, photos, max_points=4) == 4
    kept = tf.train.load_checkpoint(str(tmp_path / "projector")).get_tensor("embeddings")
    assert kept.ravel().tolist() == [0, 3, 6, 9]
    lines = (tmp_path / "projector" / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == [photos[place].name for place in (3, 6, 9)] and len(lines) == 4


def test_missing_photos_are_grey_and_empty_sets_refused(tmp_path):
    write_projector(tmp_path, np.ones((1, 4)), [tmp_path / "absent.jpg"])
    grey = Image.open(tmp_path / "projector" / "sprite.jpg").getpixel((5, 5))
    assert grey == pytest.approx((222, 224, 227), abs=3)
    with pytest.raises(ValueError, match="one embedding"):
        write_projector(tmp_path, np.ones((2, 4)), [tmp_path / "absent.jpg"])
    with pytest.raises(ValueError, match="needs photos"):
        write_projector(tmp_path, np.ones((0, 4)), [])


@pytest.fixture
def tensorboard(tmp_path):
    """Starts TensorBoard on tmp_path / "tensorboard" and gives its address."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path / "tensorboard"), "--port", str(port)]
    log = (tmp_path / "tensorboard.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def answer(url, enough, timeout=90):
    """The JSON of an address, as soon as it is enough."""
    until = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as found:
                value = json.load(found)
                if enough(value):
                    return value
        except OSError:
            value = None
        assert time.monotonic() < until, f"{url} gives {value}"
        time.sleep(0.3)


@pytest.mark.long
@pytest.mark.slow
def test_tensorboard_serves_curves_and_projector(photos, tmp_path, tensorboard):
    logdir = tmp_path / "tensorboard"
    for first in (0, 20):
        with TensorBoardLog(logdir, first_step=first, first_epoch=first // 10) as log:
            for step in range(first, 30):
                log.step(step, {"loss": 1 / (step + 1) + first})
                if step % 10 == 9:
                    log.epoch(step // 10, {"loss": first})
                    log.epoch(step // 10, {"val_loss": first}, split="validation")
    write_projector(logdir, embeddings_of(10), photos)
    tags = answer(f"{tensorboard}data/plugin/scalars/tags", lambda tags: len(tags) == 3)
    assert {run: list(found) for run, found in tags.items()} == {
        "train": ["epoch/loss"],
        "train/steps": ["step/loss"],
        "validation": ["epoch/loss"],
    }
    points = answer(
        f"{tensorboard}data/plugin/scalars/scalars?run=train%2Fsteps&tag=step%2Floss", lambda points: len(points) >= 30
    )
    assert [step for _, step, _ in points] == list(range(30))
    assert [value > 10 for _, _, value in points] == [False] * 20 + [True] * 10
    runs = answer(f"{tensorboard}data/plugin/projector/runs", bool)
    assert runs == ["projector"]
    info = answer(f"{tensorboard}data/plugin/projector/info?run=projector", lambda info: info["embeddings"])
    assert info["embeddings"][0]["tensorShape"] == [10, 64]
    with urllib.request.urlopen(f"{tensorboard}data/plugin/projector/tensor?run=projector&name=embeddings") as found:
        np.testing.assert_array_equal(np.frombuffer(found.read(), np.float32).reshape(10, 64), embeddings_of(10))
