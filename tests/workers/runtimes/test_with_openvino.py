"""The same versions computed by OpenVINO: the same vectors, kept conversions, int8 only where it is proven."""

from __future__ import annotations

import subprocess
import sys
import weakref
from importlib.util import find_spec

import numpy as np
import pytest
from django.core.files.base import ContentFile

from shop_similarity.models import ModelVersion
from shop_similarity.rollout.retirement import delete_row
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.extras import ExtraMissing
from shop_similarity.workers import embedder
from shop_similarity.workers.runtimes import converted, quantization
from shop_similarity.workers.runtimes.choice import get_runtime
from shop_similarity.workers.runtimes.interface import EXACT
from shop_similarity.workers.runtimes.with_openvino import OpenVINO

pytestmark = pytest.mark.django_db

needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="OpenVINO is not installed (the extra openvino)"
)


@pytest.fixture
def openvino_runtime(settings, tmp_path):
    cache = tmp_path / "cache"
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RUNTIME": "openvino", "WEIGHTS_CACHE": str(cache)}
    embedder.release_embedder()
    yield cache
    embedder.release_embedder()


def _photos(count: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@needs_openvino
@pytest.mark.parametrize("chosen", [EXACT, None])
def test_vectors_of_both_runtimes_are_the_same(tiny_version, openvino_runtime, monkeypatch, chosen):
    from shop_similarity.workers.runtimes.with_tensorflow import TensorFlow

    monkeypatch.setattr("shop_similarity.workers.runtimes.with_openvino.cpu_multiplies_bfloat16", lambda: True)
    version, photos = tiny_version(), _photos(8)
    exact = TensorFlow().load(version, EXACT).step(8)(photos)
    network = OpenVINO().load(version, chosen)
    assert network.precision == (chosen or "bfloat16")
    rows = network.step(8)(photos)
    assert (rows.shape, rows.dtype) == ((8, 4096), np.float32)
    cosines = (_unit(rows) * _unit(exact)).sum(axis=1)
    assert cosines.min() >= 0.9999


@needs_openvino
@pytest.mark.parametrize(("groups", "expected"), [(1, "bfloat16"), (4, EXACT)])
def test_depthwise_networks_are_computed_in_float32_for_their_vectors_differ_in_bfloat16(monkeypatch, groups, expected):
    import openvino
    from openvino import opset13

    photos = opset13.parameter([1, 4, 8, 8], np.float32)
    shape = (4, 1, 1, 3, 3) if groups > 1 else (4, 4, 3, 3)
    convolve = opset13.group_convolution if groups > 1 else opset13.convolution
    layer = convolve(photos, np.ones(shape, np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    model = openvino.Model([layer], [photos])
    monkeypatch.setattr("shop_similarity.workers.runtimes.with_openvino.converted", lambda version: model)
    monkeypatch.setattr("shop_similarity.workers.runtimes.with_openvino.cpu_multiplies_bfloat16", lambda: True)
    assert OpenVINO().load(ModelVersion(name="any")).precision == expected


@needs_openvino
def test_steps_of_fewer_photos_than_their_size_give_the_same_rows(tiny_version, openvino_runtime):
    network, photos = OpenVINO().load(tiny_version(), EXACT), _photos(3)
    rows, one = network.step(4)(photos), network.step(1)
    first = one(photos[:1])
    second = one(photos[1:2])
    assert rows.shape == (3, 4096)
    assert np.allclose(rows[:2], np.concatenate([first, second]), atol=1e-6)


@needs_openvino
def test_a_network_is_converted_once_and_again_where_its_file_is_damaged_or_somebody_else_s(
    tiny_version, openvino_runtime, monkeypatch, caplog
):
    version, counted = tiny_version(), []
    convert = converted._convert
    monkeypatch.setattr(converted, "_convert", lambda each: counted.append(each) or convert(each))
    rows = OpenVINO().load(version, EXACT).step(1)(_photos(1))
    (file,) = openvino_runtime.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    again = OpenVINO().load(version, EXACT).step(1)(_photos(1))
    assert len(counted) == 1 and np.array_equal(rows, again)

    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    OpenVINO().load(version, EXACT)
    assert len(counted) == 2 and "damaged" in caplog.text
    OpenVINO().load(version, EXACT)
    assert len(counted) == 2

    file.chmod(0o666)
    OpenVINO().load(version, EXACT)
    assert len(counted) == 3 and "others may write to it" in caplog.text
    assert file.stat().st_mode & 0o777 == 0o600


class _Model:
    """Stands for the Keras model, which other things may keep alive by chance."""


@needs_openvino
def test_a_network_is_written_while_the_model_lives_in_whose_memory_it_lies_and_outlives_it(
    tiny_version, openvino_runtime, monkeypatch
):
    models, made, convert, write = [], [], converted._convert, converted.write_network

    def watched(version):
        network, _model = convert(version)
        model = _Model()
        models.append(weakref.ref(model))
        return network, model

    def written(network, path):
        made.append((network, models[0]() is not None))
        write(network, path)

    monkeypatch.setattr(converted, "_convert", watched)
    monkeypatch.setattr(converted, "write_network", written)
    network = OpenVINO().load(tiny_version(), EXACT)._model
    ((converted_network, was_alive),) = made
    assert was_alive and network is not converted_network


@needs_openvino
def test_what_the_network_is_made_of_is_in_the_name_of_its_file(tiny_version, openvino_runtime):
    version = tiny_version()
    OpenVINO().load(version, EXACT)
    version.preprocessing = {**version.preprocessing, "mean": [0.0, 0.0, 0.0]}
    OpenVINO().load(version, EXACT)
    assert len(list(openvino_runtime.iterdir())) == 2


@needs_openvino
def test_a_photo_is_embedded_by_openvino_and_overflow_tried_in_float32(tiny_version, openvino_runtime, monkeypatch):
    version = tiny_version()
    loaded = embedder.get_embedder(version)
    exact = OpenVINO().load(version, EXACT).step(1)(_photos(1))[0]
    assert float(loaded.embed_one(_photos(1)[0]) @ exact) >= 0.9999
    monkeypatch.setattr(loaded, "precision", "bfloat16")
    monkeypatch.setattr(loaded, "_exact", None)
    monkeypatch.setattr(loaded, "_single", lambda batch: np.full((1, 4096), np.inf, np.float32))
    assert float(loaded.embed_one(_photos(1)[0]) @ exact) == pytest.approx(1, abs=1e-5)


@needs_openvino
@pytest.mark.slow
def test_a_start_with_a_converted_network_imports_no_tensorflow(tiny_version, openvino_runtime):
    version = tiny_version()
    OpenVINO().load(version)
    made_of = [getattr(version, name) for name in ("weights_sha256", "architecture", "config", "preprocessing")]
    program = f"""
import sys, types
import django
from django.conf import settings
django.setup()
from shop_similarity.workers import embedder, signals
from shop_similarity.workers.runtimes.with_openvino import OpenVINO
from django.test import override_settings
version = types.SimpleNamespace(name="tiny", metrics={{}})
version.weights_sha256, version.architecture, version.config, version.preprocessing = {made_of!r}
with override_settings(SHOP_SIMILARITY=settings.SHOP_SIMILARITY | {{"WEIGHTS_CACHE": {str(openvino_runtime)!r}}}):
    OpenVINO().load(version).step(1)
assert "openvino" in sys.modules
print(sorted({{"tensorflow", "keras", "h5py"}} & sys.modules.keys()))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.strip()) == (0, "[]"), answer.stderr


def test_where_openvino_is_missing_a_worker_says_how_to_get_it(settings, monkeypatch):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RUNTIME": "openvino"}
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExtraMissing, match=r"needs openvino, .*\[worker,openvino\]"):
        get_runtime().check()


def test_a_runtime_of_ones_own(settings, tiny_version):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RUNTIME": f"{__name__}.Constant"}
    embedder.release_embedder()
    assert np.allclose(embedder.get_embedder(tiny_version()).embed(_photos(5)), 1 / 64)
    embedder.release_embedder()
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RUNTIME": "shop.missing.Runtime"}
    with pytest.raises(TrainingError, match=r"'shop\.missing\.Runtime', which can't be imported"):
        get_runtime()


class Constant:
    name = "constant"

    def check(self):
        pass

    def load(self, version, precision=None):
        return self

    precision, step_size = EXACT, 3

    def step(self, size):
        def step(photos):
            assert len(photos) <= size
            return np.ones((len(photos), 4096), np.float32)

        return step


# --- int8 ---


@pytest.fixture
def stored(tiny_version, openvino_runtime) -> ModelVersion:
    """A version with a network kept as its int8 one that is, for the test's sake, the exact one."""
    version = tiny_version()
    quantization.store(version, converted.converted(version), {"is_proven": True, "reasons": []})
    version.refresh_from_db()
    return version


@needs_openvino
def test_a_proven_int8_network_is_used(stored):
    assert stored.metrics["int8"]["bytes"] == stored.weights.storage.size(stored.metrics["int8"]["file"])
    assert OpenVINO().load(stored).precision == "int8"
    assert OpenVINO().load(stored, EXACT).precision == EXACT
    assert quantization.drop(stored)
    assert "int8" not in ModelVersion.objects.get(pk=stored.pk).metrics
    assert OpenVINO().load(stored).precision != "int8"


@pytest.mark.django_db(transaction=True)
def test_the_int8_file_goes_with_its_version(tiny_version):
    version = tiny_version(state=ModelVersion.State.RETIRED)
    storage = version.weights.storage
    name = storage.save("tiny-int8.openvino.zip", ContentFile(b"network"))
    version.metrics = {"int8": {"file": name}}
    version.save()
    delete_row(version)
    assert not storage.exists(name) and not storage.exists(version.weights.name)


@needs_openvino
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"is_proven": False, "reasons": ["It finds less."]}, "It finds less."),
        ({"openvino": "2020.1"}, "another release of OpenVINO"),
        ({"cpu_multiplies_int8": None}, "a processor with other instructions"),
        ({"sha256": "0" * 64}, "its sha256 differs"),
        ({"bytes": 10}, "its sha256 differs"),
        ({"file": "shop_similarity/missing.zip"}, "missing.zip"),
        ({"file": "../../etc/passwd"}, "not used"),
        ({"bytes": "many"}, "not used"),
    ],
)
def test_what_is_not_proven_is_not_used_and_that_is_said(stored, caplog, change, sentence):
    stored.metrics["int8"] |= change
    assert OpenVINO().load(stored).precision != "int8"
    assert sentence in caplog.text and "slower" in caplog.text


@needs_openvino
@pytest.mark.parametrize("entry", [{}, [], "int8", 1])
def test_a_damaged_entry_is_no_proof(tiny_version, openvino_runtime, entry):
    version = tiny_version()
    version.metrics = {"int8": entry}
    assert OpenVINO().load(version).precision != "int8"
