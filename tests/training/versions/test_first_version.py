"""calibrate_mildnet and load_version with a small backbone, drawn photos and a real Postgres."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage
from django.core.management import call_command
from django.core.management.base import CommandError
from PIL import Image

from shop_similarity.catalogue import ImageRow
from shop_similarity.models import AspectBasis, ModelVersion, OutboxEntry, weights_storage
from shop_similarity.training.heads import recipe
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.triplets.product_groups import keys_of_the_shop, product_name
from shop_similarity.training.triplets.sides import (
    LARGEST_SHARE,
    TRAINING,
    VALIDATION,
    VALIDATION_SHARE,
    Sides,
    side_of,
)
from shop_similarity.training.versions.first_version import (
    PHOTOS_PER_PRODUCT,
    FirstVersionError,
    make_first_version,
    sample_by_product,
)
from shop_similarity.training.versions.lineage import leak_of, seen_by
from shop_similarity.training.versions.loading import WeightsError, load_version
from tests.shop_similarity.drawn_photos import product_photo, products
from tests.shop_similarity.factories import add_photo, make_product, make_version

CONFIG = {"width": 0.125, "embedding_dim": 4096}
SIZE = Preprocessing(size=32)


class SmallBackbone:
    """Weights for a backbone too small for pretrained ones: seeded numbers, said to be nothing else."""

    mean = (100.0, 110.0, 120.0)
    std = (50.0, 51.0, 52.0)
    source = "seeded numbers for a test"
    sha256 = "0" * 64

    def apply(self, model, prefix=""):
        import keras

        for number, layer in enumerate(model.layers):
            if "_conv" in layer.name and len(layer.weights) == 2:
                kernel, bias = layer.get_weights()
                layer.set_weights([keras.initializers.HeNormal(seed=number)(kernel.shape), bias])


class FreshLite(SmallBackbone):
    """What an untrained EfficientNet-Lite0 has."""

    mean = (127.0, 127.0, 127.0)
    std = (128.0, 128.0, 128.0)
    source = "fresh numbers for a test"
    sha256 = "1" * 64

    def apply(self, model, prefix=""):
        pass


@pytest.fixture
def storages_in_tmp(settings, tmp_path):
    def storage(name):
        return {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / name)},
        }

    settings.STORAGES = settings.STORAGES | {"default": storage("media"), "shop_similarity": storage("weights")}
    return tmp_path


@pytest.fixture
def shop(db, storages_in_tmp):
    for drawn in products(12):
        add_photo(make_product(), drawn.photo(), f"{drawn.name}.jpg")


def make(**options):
    options = {"architecture": "mildnet", **options}
    return make_first_version(SmallBackbone(), config=CONFIG, preprocessing=SIZE, **options)


def test_a_version_is_calibrated_on_the_shop_s_photos_and_stored(shop):
    seen = []
    version, skipped = make(progress=lambda what, done, total: seen.append((done, total)))
    assert skipped == []
    assert version.name == "mildnet-1"
    assert version.state == ModelVersion.State.CANDIDATE
    assert version.weights_source == SmallBackbone.source
    assert version.preprocessing["mean"] == list(SmallBackbone.mean)
    assert version.metrics["calibration"]["photos"] == 12
    assert version.weights.name.endswith(".weights.h5")
    with version.weights.open("rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == version.weights_sha256
    assert seen[-1] == (12, 12)


def test_the_loaded_model_is_centred_on_the_shop_and_tells_its_products_apart(shop):
    version, _ = make()
    model = load_version(ModelVersion.objects.get(pk=version.pk))
    preprocessing = Preprocessing.from_dict(version.preprocessing)
    photos = [
        preprocessing.prepare(Image.open(io.BytesIO(drawn.photo(seed=seed))))
        for seed in (0, 1)
        for drawn in products(12)
    ]
    embeddings = model(np.stack(photos)).numpy()
    assert embeddings.shape == (24, 4096)
    # Uncentred pooled features all have cosines near 1; centred on these photos they spread around 0.
    cosines = embeddings[:12] @ embeddings[:12].T
    assert abs(cosines[~np.eye(12, dtype=bool)].mean()) < 0.2


def test_bad_photos_are_told_and_left_out(shop):
    add_photo(make_product(), b"no photo", "text.jpg")
    gone = add_photo(make_product(), product_photo("mug", "red"), "gone.jpg")
    gone.file.storage.delete(gone.file.name)
    version, skipped = make()
    assert version.metrics["calibration"]["photos"] == 12
    assert version.metrics["calibration"]["skipped"] == 2
    assert all(photo.reason for photo in skipped)
    assert any("text" in photo.file_name for photo in skipped)


def test_one_photo_is_enough(db, storages_in_tmp):
    add_photo(make_product(), product_photo("mug", "red"))
    version, _ = make()
    model = load_version(version)
    embedding = model(np.zeros((1, 32, 32, 3), np.uint8)).numpy()
    assert np.isfinite(embedding).all()
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-4)


def test_a_shop_without_photos_is_told_so(db, storages_in_tmp):
    with pytest.raises(FirstVersionError, match="no photo yet"):
        make()
    add_photo(make_product(), b"no photo", "text.jpg")
    with pytest.raises(FirstVersionError, match="cannot be used"):
        make()
    add_photo(make_product(), b"no photo either", "text.jpg")
    with pytest.raises(FirstVersionError, match="None of the 2 photos"):
        make()
    assert not ModelVersion.objects.exists()


def test_names_are_free_ones_and_taken_ones_are_refused(shop):
    assert [make()[0].name, make()[0].name, make(name="autumn")[0].name] == ["mildnet-1", "mildnet-2", "autumn"]
    with pytest.raises(FirstVersionError, match="autumn already"):
        make(name="autumn")
    assert len({version.weights.name for version in ModelVersion.objects.all()}) == 3


def test_the_same_shop_and_seed_give_the_same_head(shop):
    first, second = (load_version(make()[0]).get_layer("embedding").get_weights() for _ in range(2))
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))


def test_the_sample_is_bounded(shop):
    assert make(sample=5)[0].metrics["calibration"]["photos"] == 5


def rows_of(*counts):
    """Photos of products with so many of them, in the order of the photos' keys, which is not that of the products."""
    owners = [product for product, count in enumerate(counts) for _ in range(count)]
    order = np.random.default_rng(0).permutation(len(owners))
    return [ImageRow(number, owners[place], f"{number}.jpg") for number, place in enumerate(order.tolist())]


def test_products_are_sampled_with_several_of_their_photos():
    rows = rows_of(*[3] * 200, *[1] * 50, *[9] * 10)
    sample = sample_by_product(iter(rows), 100, seed=1)
    assert sample == sample_by_product(rows[::-1], 100, seed=1)
    assert sample != sample_by_product(rows, 100, seed=2)
    assert len(sample) == 100
    owners = [row.product_id for row in sample]
    assert [owners[place] for place in range(100) if owners[place] != owners[place - 1]] == list(dict.fromkeys(owners))
    full = {product: min(PHOTOS_PER_PRODUCT, sum(row.product_id == product for row in rows)) for product in owners}
    cut = [product for product in full if owners.count(product) != full[product]]
    assert len(cut) <= 1
    assert len(sample_by_product(rows, 10_000, seed=1)) == 200 * 3 + 50 + 10 * PHOTOS_PER_PRODUCT
    assert sample_by_product([], 10, seed=1) == []


def test_each_product_is_as_likely_as_any_other_and_so_are_its_photos():
    rows = rows_of(*[2] * 10, *[6] * 10)
    products, photos = np.zeros(20), np.zeros(len(rows))
    for seed in range(1500):
        sample = sample_by_product(rows, 24, seed)
        products[list({row.product_id for row in sample})] += 1
        photos[[row.image_id for row in sample]] += 1
    # Eight of the twenty each time, give or take: 600, with a standard deviation of 20.
    assert np.abs(products - products.mean()).max() < 90
    large = photos[[row.image_id for row in rows if row.product_id >= 10]]
    assert np.abs(large - large.mean()).max() < 90


def test_a_sample_stays_mostly_the_same_while_the_catalogue_grows():
    before = sample_by_product(rows_of(*[2] * 100), 50, seed=0)
    after = sample_by_product(rows_of(*[2] * 110), 50, seed=0)
    assert len({row.product_id for row in before} & {row.product_id for row in after}) >= 20


def products_of(side, count):
    """Products of a shop that stand on one side of the split into training and validation."""
    while count:
        product = make_product()
        if side_of(product_name(product.pk)) == side:
            count -= 1
            yield product


def test_a_version_learns_from_views_of_one_product(db, storages_in_tmp):
    for drawn, product in zip(products(8), products_of(TRAINING, 8), strict=True):
        for seed in (0, 1):
            add_photo(product, drawn.photo(seed=seed), f"{drawn.name}-{seed}.jpg")
    add_photo(product, b"no photo", "text.jpg")
    version, skipped = make_first_version(SmallBackbone(), config=CONFIG | {"colour": 0.03}, preprocessing=SIZE)
    found = version.metrics["calibration"]
    assert (found["photos"], found["skipped"], len(skipped)) == (16, 1, 1)
    assert 0 < found["pairs"] <= 8
    assert 0 < found["within"] < 0.7
    assert found["colour"] == 0.03
    assert load_version(version).get_layer("colour").output.shape[-1] == 486
    # Without colours nothing tells which views are in one.
    assert make()[0].metrics["calibration"]["pairs"] == 0


def test_a_version_does_not_learn_from_products_that_later_ones_are_compared_on(db, storages_in_tmp):
    names = {}
    for side in (TRAINING, VALIDATION):
        names[side] = []
        for drawn, product in zip(products(4), products_of(side, 4), strict=True):
            names[side].append(product_name(product.pk))
            for seed in (0, 1):
                add_photo(product, drawn.photo(seed=seed), f"{drawn.name}-{seed}.jpg")
    version, _ = make_first_version(SmallBackbone(), config=CONFIG | {"colour": 0.03}, preprocessing=SIZE)
    assert 0 < version.metrics["calibration"]["pairs"] <= 4
    seen = seen_by(version)

    def found(side, share):
        return leak_of(seen, set(), keys_of_the_shop(), names[side], Sides(share, keys_of_the_shop()))

    assert not found(VALIDATION, VALIDATION_SHARE)
    # With a larger share, products are validated on that calibration has learned from.
    assert found(TRAINING, LARGEST_SHARE).groups == (4, 4)
    assert "the first one was trained on" in found(TRAINING, LARGEST_SHARE).about("the first one")


def test_a_damaged_weights_file_is_never_opened(shop, storages_in_tmp, monkeypatch):
    version, _ = make()
    path = Path(version.weights.path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 0xFF
    path.write_bytes(content)
    import keras

    monkeypatch.setattr(keras.Model, "load_weights", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(WeightsError, match="sha256 differs"):
        load_version(version)
    path.unlink()
    with pytest.raises(WeightsError, match="cannot be read"):
        load_version(version)


def test_weights_of_another_form_and_unknown_architectures_are_explained(shop):
    version, _ = make()
    version.config = version.config | {"embedding_dim": 128}
    with pytest.raises(WeightsError, match="do not fit"):
        load_version(version)
    version.architecture = "resnet"
    with pytest.raises(WeightsError, match="cannot be built"):
        load_version(version)


class RemoteStorage(InMemoryStorage):
    """Has no path, as S3 has none, and counts what is fetched."""

    opened = 0

    def _open(self, name, mode="rb"):
        self.opened += 1
        return super()._open(name, mode)


def test_weights_in_a_remote_storage_are_copied_once_and_the_copy_is_checked(shop, tmp_path, monkeypatch):
    version, _ = make()
    with version.weights.open("rb") as file:
        content = file.read()
    remote = RemoteStorage()
    # Some storages rename what they store.
    version.weights.name = remote.save("weights_x7", ContentFile(content))
    monkeypatch.setattr(version.weights, "storage", remote)
    expected = load_version(version).get_layer("embedding").get_weights()[0]
    assert remote.opened == 1
    cache = tmp_path / "cache"
    for _ in range(2):
        loaded = load_version(version, cache_dir=cache)
        assert np.array_equal(loaded.get_layer("embedding").get_weights()[0], expected)
    assert remote.opened == 2
    (copy,) = cache.iterdir()
    copy.write_bytes(copy.read_bytes()[:1000])
    load_version(version, cache_dir=cache)
    assert remote.opened == 3
    remote.delete(version.weights.name)
    remote.save(version.weights.name, ContentFile(b"something else"))
    with pytest.raises(WeightsError, match="sha256 differs"):
        load_version(version)
    assert [path.name for path in cache.iterdir()] == [copy.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_full_disk_of_the_weights_cache_is_told_from_weights_that_are_gone(shop, tmp_path, monkeypatch):
    version, _ = make()
    with version.weights.open("rb") as file:
        content = file.read()
    remote = RemoteStorage()
    version.weights.name = remote.save("weights_x7", ContentFile(content))
    monkeypatch.setattr(version.weights, "storage", remote)
    inner = Path.open

    def on_full_disk(path, mode="r", *arguments, **options):
        return inner(Path("/dev/full") if "w" in mode else path, mode, *arguments, **options)

    cache = tmp_path / "cache"
    with monkeypatch.context() as patched, pytest.raises(WeightsError, match=r"No space left.*Make room there"):
        patched.setattr(Path, "open", on_full_disk)
        load_version(version, cache_dir=cache)
    # Nothing half is left that would take the room, and the next try finds what it needs.
    assert list(cache.iterdir()) == []
    assert load_version(version, cache_dir=cache)
    monkeypatch.setattr(RemoteStorage, "_open", lambda *_arguments: (_ for _ in ()).throw(ConnectionResetError("gone")))
    with pytest.raises(WeightsError, match="cannot be read"):
        load_version(version)


@pytest.fixture
def small_recipe(monkeypatch):
    """The command's own way, with the small backbone in the place of the pretrained one."""
    for name, known in recipe.RECIPES.items():
        monkeypatch.setitem(recipe.RECIPES, name, replace(known, config=CONFIG, preprocessing=SIZE))
    # It is built in a fraction of the time that the default's many layers take.
    monkeypatch.setattr(recipe, "DEFAULT", "mildnet")
    monkeypatch.setattr(
        "shop_similarity.training.networks.backbones.weights.find_weights",
        lambda backbone, *others: SmallBackbone() if backbone == "vgg16" else FreshLite(),
    )
    # Enough drawings to see whether a version can be explained.
    monkeypatch.setattr("shop_similarity.training.versions.aspects.FAMILIES", 12)


def test_the_command_makes_and_activates_a_version(shop, small_recipe):
    add_photo(make_product(), b"no photo", "text.jpg")
    out, err = io.StringIO(), io.StringIO()
    call_command("calibrate_mildnet", activate=True, sample=50, stdout=out, stderr=err)
    version = ModelVersion.objects.active()
    assert version.name == "mildnet-1"
    assert SmallBackbone.source in out.getvalue()
    assert "ImageNet's terms" in out.getvalue()
    assert "12 photos" in out.getvalue()
    assert "text" in err.getvalue()
    version = ModelVersion.objects.get(name="mildnet-1")
    # The bad one too: the worker says on it what is wrong.
    assert version.outbox.count() == 13
    assert set(version.outbox.values_list("priority", flat=True)) == {OutboxEntry.Priority.BACKFILL}
    # The second one has to prove itself, or pages would lose their look-alikes to something worse.
    with pytest.raises(CommandError, match=r"candidate, but not activated.*evaluate_mildnet --model next"):
        call_command("calibrate_mildnet", "--activate", "--name", "next", stdout=out, stderr=err)
    assert ModelVersion.objects.active().name == "mildnet-1"
    assert ModelVersion.objects.get(name="next").state == ModelVersion.State.CANDIDATE


@pytest.mark.long
def test_a_model_on_two_networks_keeps_both_their_normalisations_and_sources(shop, small_recipe, monkeypatch):
    # Random filters tell the aspects apart badly; here it counts that the depths of both networks are looked at.
    monkeypatch.setattr("shop_similarity.training.aspects.forms.TOLD_APART", 0)
    out = io.StringIO()
    call_command("calibrate_mildnet", architecture="mildnet-joined", stdout=out, stderr=io.StringIO())
    version = ModelVersion.objects.get(name="mildnet-1")
    assert version.config["backbone"] == "vgg16+efficientnet_lite0"
    assert version.weights_source == f"{SmallBackbone.source}; {FreshLite.source}"
    assert out.getvalue().count("Weights: ") == 2
    assert version.metrics["calibration"]["backbone_sha256"] == f"{'0' * 64}+{'1' * 64}"
    assert version.preprocessing["mean"] == list(SmallBackbone.mean)
    assert AspectBasis.objects.get(version=version).metrics["by_taps"]
    model = load_version(version)
    mean, std = model.get_layer("efficientnet_lite0_normalisation").get_weights()
    assert (tuple(mean), tuple(std)) == (FreshLite.mean, FreshLite.std)
    photos = np.stack([SIZE.prepare(Image.open(io.BytesIO(drawn.photo()))) for drawn in products(12)])
    embeddings = model(photos).numpy()
    assert embeddings.shape == (12, 4096)
    cosines = embeddings @ embeddings.T
    assert abs(cosines[~np.eye(12, dtype=bool)].mean()) < 0.2


@pytest.mark.long
def test_the_lite_model_is_calibrated_stored_and_loaded_with_its_own_normalisation(shop, small_recipe):
    out = io.StringIO()
    call_command("calibrate_mildnet", architecture="mildnet-lite", stdout=out, stderr=io.StringIO())
    version = ModelVersion.objects.get(name="mildnet-1")
    assert version.architecture == "mildnet-lite"
    assert version.config["backbone"] == "efficientnet_lite0"
    assert version.config["taps"] == ["block2", "block3", "block5", "block7", "top"]
    assert (version.preprocessing["mean"], version.preprocessing["std"]) == ([127.0] * 3, [128.0] * 3)
    assert version.metrics["calibration"]["photos"] == 12
    model = load_version(version)
    photos = np.stack([SIZE.prepare(Image.open(io.BytesIO(drawn.photo()))) for drawn in products(12)])
    embeddings = model(photos).numpy()
    assert embeddings.shape == (12, 4096)
    cosines = embeddings @ embeddings.T
    assert abs(cosines[~np.eye(12, dtype=bool)].mean()) < 0.2


def test_architectures_without_a_recipe_are_not_calibrated(shop):
    with pytest.raises(ValueError, match=r"ranknet.* cannot be calibrated"):
        make(architecture="ranknet")


def test_the_command_leaves_a_candidate_and_says_nothing_if_asked(shop, small_recipe):
    make_version("before")
    out, err = io.StringIO(), io.StringIO()
    call_command("calibrate_mildnet", name="next", verbosity=0, stdout=out, stderr=err)
    assert ModelVersion.objects.active().name == "before"
    assert ModelVersion.objects.get(name="next").state == ModelVersion.State.CANDIDATE
    assert out.getvalue() == err.getvalue() == ""


def test_the_command_s_mistakes_are_sentences(db, storages_in_tmp, small_recipe):
    with pytest.raises(CommandError, match="no photo yet"):
        call_command("calibrate_mildnet", stdout=io.StringIO(), stderr=io.StringIO())
    with pytest.raises(CommandError, match="1 or more"):
        call_command("calibrate_mildnet", sample=0, stdout=io.StringIO(), stderr=io.StringIO())


def test_a_weights_file_that_is_missing_stops_the_command(shop, tmp_path):
    with pytest.raises(CommandError, match="There is no file"):
        call_command("calibrate_mildnet", weights=tmp_path / "none.h5", stdout=io.StringIO(), stderr=io.StringIO())
    assert not ModelVersion.objects.exists()
    assert not weights_storage().exists("shop_similarity")
