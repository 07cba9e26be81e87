"""evaluate_mildnet with small versions, drawn photos and a real Postgres."""

import io
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from catalog.models import Product
from shop_similarity.models import ModelVersion
from shop_similarity.rollout.gate import beats
from shop_similarity.training.evaluation.baselines import embed_by_backbone
from shop_similarity.training.networks.architectures import build
from shop_similarity.training.networks.backbones.weights import WeightsUnavailable
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.photos.feature_cache import content_digests
from shop_similarity.training.triplets.product_groups import keys_of_the_shop
from shop_similarity.training.triplets.sides import VALIDATION, Sides, side_of
from shop_similarity.training.triplets.sketch import Sketch
from shop_similarity.training.versions.embedding_files import embed_with_version
from shop_similarity.training.versions.lineage import LEAK, SEEN, Seen
from shop_similarity.training.versions.storing import store_version
from tests.shop_similarity.drawn_photos import product_photo, products
from tests.shop_similarity.factories import add_photo, make_category, make_product

CONFIG = {"width": 0.125, "embedding_dim": 256}
SIZE = Preprocessing(size=32)
PRODUCTS = 12


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    images = folder / "images"
    images.mkdir(parents=True)
    for number, drawn in enumerate(products(7 * PRODUCTS)[::7]):
        for view in (0, 1):
            (images / f"p{number}-{view}.jpg").write_bytes(drawn.photo(seed=view))
    check = folder / "check"
    check.mkdir()
    names = [f"p{number}-{view}" for number in range(PRODUCTS) for view in (0, 1)]
    rows = "".join(f"{name},images/{name}.jpg\n" for name in names)
    (check / "gallery.csv").write_text("gallery_id,image\n" + rows)
    (check / "queries.csv").write_text("query_id,image\n" + rows)
    qrels = "".join(f"p{n}-0,p{n}-1,2\np{n}-1,p{n}-0,1\n" for n in range(PRODUCTS))
    (check / "qrels.csv").write_text("query_id,gallery_id,relevance\n" + qrels)
    rows = "".join(f"images/p{n}-0.jpg,images/p{n}-1.jpg,images/p{(n + 1) % PRODUCTS}-0.jpg\n" for n in range(PRODUCTS))
    (folder / "triplets.csv").write_text(rows)
    return folder


@pytest.fixture
def versions(db):
    """An active version with seeded random filters, and a candidate that puts every photo in one place."""
    made = []
    for name in ("now", "worse"):
        model = build("mildnet", CONFIG, SIZE)
        for number, layer in enumerate(model.layers):
            if layer.weights:
                kernel, bias = (np.zeros(weight.shape) for weight in layer.weights)
                if name == "now" or layer.name != "embedding":
                    kernel = keras.initializers.HeNormal(seed=number)(kernel.shape)
                layer.set_weights([kernel, bias + 1e-3])
        made.append(
            store_version(
                model,
                name=name,
                architecture="mildnet",
                config=CONFIG,
                preprocessing=SIZE,
                weights_source="seeded numbers for a test",
                metrics={"calibration": {"photos": 0}},
            )
        )
    ModelVersion.objects.filter(name="now").update(state=ModelVersion.State.ACTIVE)
    return made


def run(*arguments, **options):
    out, err = io.StringIO(), io.StringIO()
    call_command("evaluate_mildnet", *map(str, arguments), stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def figures(*arguments):
    return json.loads(run(*arguments, "--json")[0].splitlines()[-1])


def test_the_active_version_is_measured_beside_baselines(photos, versions):
    out, _ = run("--retrieval", photos / "check", "--triplets", photos / "triplets.csv", "--json")
    found = json.loads(out.splitlines()[-1])
    assert found["photos"] == 2 * PRODUCTS and found["reference"] == "now"
    assert list(found["models"]) == ["now"] and list(found["baselines"]) == ["colour", "handmade"]
    now = found["models"]["now"]
    assert set(now) == {"set", "retrieval", "triplets", "codes", "seconds"}
    assert now["set"] == found["set"]
    retrieval = now["retrieval"]
    assert retrieval["queries"] == retrieval["gallery"] == 2 * PRODUCTS and retrieval["min_relevance"] == 1
    assert len(retrieval["intervals"]) == 6
    for metric, (low, high) in retrieval["intervals"].items():
        assert 0 <= low <= retrieval[metric] <= high <= 1
    assert now["triplets"]["triplets"] == PRODUCTS and len(now["triplets"]["validation_block"]["draws"]) == 5
    assert now["codes"]["recall"].keys() == {"10", "50", "100", "200"} and now["codes"]["recall"]["200"] == 1
    difference = found["baselines"]["colour"]["difference"]
    assert difference.keys() == {"retrieval", "triplets"} and difference["triplets"].keys() == {"accuracy"}
    assert difference["retrieval"].keys() == retrieval["intervals"].keys()
    # Drawn products differ in shape and colour, and two photos of one are nearly the same.
    assert now["triplets"]["accuracy"] > 0.8
    assert "hand-made score" in out and "Difference to now" in out
    # Without --store nothing is kept.
    assert all("evaluation" not in version.metrics for version in ModelVersion.objects.all())

    paths = [photos / "images" / f"p{n}-{view}.jpg" for n in range(PRODUCTS) for view in (0, 1)]
    vectors = embed_with_version(versions[0], paths)
    assert vectors.shape == (2 * PRODUCTS, 256)
    cosines = vectors @ vectors.T - 2 * np.eye(len(paths))
    expected = np.mean([cosines[row].argmax() == row ^ 1 for row in range(len(paths))])
    assert retrieval["recall_at_1"] == pytest.approx(expected, abs=1e-4)


def test_a_version_that_was_trained_on_what_it_is_measured_on_is_told(photos, versions):
    known = sorted((photos / "images").iterdir())[:6]
    now = versions[0]
    now.metrics = {**now.metrics, SEEN: Seen(photos=Sketch.of(content_digests(known)), without_sides=True).to_dict()}
    now.save()
    _, err = run("--model", "now", "--retrieval", photos / "check", "--baselines", "none", "--store")
    assert "The comparison leaks: now was trained on what it is validated on here (6 of " in err
    assert ModelVersion.objects.get(name="now").metrics["evaluation"][LEAK]["is_certain"]
    _, err = run("--model", "worse", "--retrieval", photos / "check", "--baselines", "none")
    assert "leaks" not in err


def test_versions_are_compared_with_the_active_one_and_stored_for_the_roll_out(photos, versions):
    found = figures(
        "--model", "worse", "--model", "now", "--model", "worse", "--retrieval", photos / "check",
        "--baselines", "none", "--store",
    )  # fmt: skip
    assert list(found["models"]) == ["worse", "now"] and found["reference"] == "now" and found["baselines"] == {}
    difference = found["models"]["worse"]["difference"]["retrieval"]["mean_average_precision"]
    assert difference["value"] < 0 and difference["interval"][1] < 0
    assert "difference" not in found["models"]["now"] and "triplets" not in found["models"]["now"]
    stored = {version.name: version for version in ModelVersion.objects.all()}
    for name, version in stored.items():
        assert version.metrics["calibration"] == {"photos": 0}
        expected = {key: value for key, value in found["models"][name].items() if key not in ("seconds", "difference")}
        assert version.metrics["evaluation"] == expected
    assert beats(stored["now"], stored["worse"]).better
    assert not beats(stored["worse"], stored["now"]).better


def test_exact_hits_only_and_nothing_but_the_json(photos, versions):
    out, err = run("--retrieval", photos / "check", "--json", "--baselines", "none", "--min-relevance", 2, verbosity=0)
    assert len(out.splitlines()) == 1 and err == ""
    retrieval = json.loads(out)["models"]["now"]["retrieval"]
    assert retrieval["queries"] == PRODUCTS and retrieval["min_relevance"] == 2


def test_baselines_need_no_model_version_and_images_may_lie_elsewhere(photos, db, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    (photos / "triplets.csv").rename(moved / "triplets.csv")
    (photos / "check").rename(moved / "check")
    with pytest.raises(CommandError, match="--images"):
        run("--retrieval", moved / "check", "--baselines", "colour")
    found = figures(
        "--triplets", moved / "triplets.csv", "--retrieval", moved / "check", "--images", photos,
        "--baselines", "colour",
    )  # fmt: skip
    assert found["models"] == {} and found["reference"] is None
    colour = found["baselines"]["colour"]
    assert colour["triplets"]["triplets"] == PRODUCTS and "codes" not in colour and "difference" not in colour
    # One product in twelve is chance.
    assert colour["retrieval"]["recall_at_1"] > 0.5


def test_nothing_to_evaluate_on(versions, tmp_path):
    words = r"--from-catalog.*--look-alike FOLDER.*--retrieval FOLDER.*--triplets CSV"
    with pytest.raises(CommandError, match=words) as caught:
        run("--model", "now")
    assert caught.value.returncode == 2
    for arguments in (["--from-catalog", "--retrieval", tmp_path], ["--retrieval", tmp_path, "--write", tmp_path]):
        with pytest.raises(CommandError, match="leave out") as caught:
            run("--model", "now", *arguments)
        assert caught.value.returncode == 2


@pytest.fixture
def shop(db):
    """Two categories, in each four products of two colours, two photos of each."""
    for kind in ("mug", "shirt"):
        for number in range(8):
            product = make_product(category=make_category(kind))
            shade, pattern = (("red", "blue")[number % 2], ("plain", "striped", "dotted", "checked")[number // 2])
            for seed in range(2):
                add_photo(product, product_photo(kind, shade, pattern, seed=seed), f"{seed}.jpg", seed)


def test_a_shop_measures_on_its_own_products_and_keeps_them(shop, versions, tmp_path):
    kept = tmp_path / "kept"
    first = ["--model", "now", "--model", "worse", "--baselines", "colour"]
    out, _ = run(*first, "--from-catalog", "--write", kept, "--store", "--json")
    found = json.loads(out.splitlines()[-1])
    assert "Measured on 32 photos of 16 products." in out and out.index("Look-alikes") < out.index("Retrieval")
    now = found["models"]["now"]
    assert now["look_alike"]["queries"] == now["retrieval"]["queries"] == 32
    assert found["baselines"]["colour"]["difference"].keys() == {"look_alike", "retrieval"}
    stored = {version.name: version for version in ModelVersion.objects.all()}
    verdict = beats(stored["now"], stored["worse"])
    assert verdict.better and "nDCG of ten look-alikes" in verdict.reasons[0]
    # The same photos later on, by their folders; the catalogue of then is another set.
    again = figures(*first, "--look-alike", kept / "look_alike", "--retrieval", kept / "instance")
    assert again["set"] == found["set"]
    add_photo(make_product(category=make_category("mug")), product_photo("mug", "red", seed=9), "9.jpg")
    assert figures("--model", "now", "--baselines", "none", "--from-catalog")["set"] != found["set"]


def test_only_products_ask_that_no_version_was_trained_on(shop, versions):
    share = 0.5
    seen = Seen(sides=(Sides(share, keys_of_the_shop()),))
    ModelVersion.objects.filter(name="worse").update(metrics={"training": {}, SEEN: seen.to_dict()})
    aside = [key for key in Product.objects.values_list("pk", flat=True) if side_of(str(key), share) == VALIDATION]
    out, _ = run("--model", "now", "--model", "worse", "--baselines", "none", "--from-catalog", "--json")
    found = json.loads(out.splitlines()[-1])["models"]["now"]["retrieval"]
    assert (found["queries"], found["gallery"]) == (2 * len(aside), 32)
    assert "Only products ask that were set aside in training" in out


def test_unknown_names(photos, versions):
    with pytest.raises(CommandError, match=r"no model version later\. There are: now, worse"):
        run("--model", "later", "--retrieval", photos / "check")
    with pytest.raises(CommandError, match=r"no baseline resnet\. There are: colour"):
        run("--baselines", "colour,resnet", "--retrieval", photos / "check")


def test_no_version_at_all(photos, db):
    for arguments in ([], ["--baselines", "none"], ["--baselines", "colour", "--store"]):
        with pytest.raises(CommandError, match="no active model version"):
            run("--retrieval", photos / "check", *arguments)


@pytest.mark.parametrize("baselines", ["colour", "none"])
def test_photos_that_cannot_be_read_are_named(photos, versions, baselines):
    (photos / "images" / "p3-1.jpg").write_bytes(b"no photo")
    with pytest.raises(CommandError, match=r"(?s)1 of 24 photos cannot be read.*p3-1\.jpg"):
        run("--retrieval", photos / "check", "--baselines", baselines)


def test_faulty_sets_and_damaged_weights_are_explained(photos, versions, tmp_path):
    (tmp_path / "two.csv").write_text("images/p0-0.jpg,images/p0-1.jpg\n")
    with pytest.raises(CommandError, match="2 columns"):
        run("--triplets", tmp_path / "two.csv", "--images", photos)
    with pytest.raises(CommandError, match="There is no folder"):
        run("--retrieval", tmp_path / "nowhere")
    Path(versions[0].weights.path).write_bytes(b"something else")
    with pytest.raises(CommandError, match="sha256 differs"):
        run("--retrieval", photos / "check", "--baselines", "none")


def test_all_goes_on_without_the_weights_that_cannot_be_had(photos, db, monkeypatch, tmp_path):
    def none_here(*args, **kwargs):
        raise WeightsUnavailable("This machine has no network.")

    monkeypatch.setattr("shop_similarity.training.networks.backbones.weights.find_weights", none_here)
    out, err = run("--retrieval", photos / "check", "--baselines", "all", "--json", "--weights-cache", tmp_path)
    assert list(json.loads(out.splitlines()[-1])["baselines"]) == ["colour", "handmade"]
    assert "VGG16" in err and "no network" in err
    with pytest.raises(CommandError, match="no network"):
        run("--retrieval", photos / "check", "--baselines", "vgg16", "--weights-cache", tmp_path)


def test_a_baseline_s_backbone_gives_its_averaged_last_output(photos, tmp_path):
    """With weights that are seeded numbers: how they are applied is what matters here."""

    class Seeded:
        backbone, mean, std = "vgg16", (100.0, 110.0, 120.0), (50.0, 51.0, 52.0)

        def apply(self, model):
            for number, layer in enumerate(model.layers):
                if "_conv" in layer.name:
                    kernel, bias = layer.get_weights()
                    layer.set_weights([keras.initializers.HeNormal(seed=number)(kernel.shape), bias])

    paths = sorted((photos / "images").iterdir())[:2]
    found = embed_by_backbone(Seeded(), paths, batch_size=2)
    assert found.shape == (2, 512) and (found >= 0).all() and found.std() > 0
