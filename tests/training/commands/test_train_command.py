"""train_mildnet from a CSV to a stored version, with a small network, drawn photos and a real Postgres."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from catalog.models import ProductPhoto
from shop_similarity.models import ModelVersion, OutboxEntry
from shop_similarity.training.commands.shop_sets import read_shop_sets
from shop_similarity.training.learning.options import SamplingOptions, TrainingOptions
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.versions.lineage import seen_by
from shop_similarity.training.versions.loading import load_version
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import add_photo, make_product, make_version
from tests.training.drawn_triplets import write_photos, write_triplets
from tests.training.small_network import SMALL, use_small_network
from tests.training.small_run import figures, history_of
from tests.training.versions.test_first_version import SmallBackbone, storages_in_tmp  # noqa: F401

STEPS = (
    *(*SMALL, "--batch-size", "16", "--epoch-batches", "1", "--learning-rate", "0.003"),
    *("--precision", "float32", "--no-aspects"),
)


@pytest.fixture
def small(monkeypatch):
    use_small_network(monkeypatch.setattr, monkeypatch.setitem)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    names = write_photos(folder / "photos", colours=6, kinds=4, seeds=2)
    unseen = {name: names.pop(name) for name in sorted(names)[:2]}
    write_triplets(folder / "train.csv", names, 120)
    write_triplets(folder / "validation.csv", unseen, 40)
    new = write_photos(folder / "photos" / "new", colours=8, kinds=4, seeds=1)
    new = {name: [f"new/{photo}" for photo in new[name]] for name in sorted(new)[-2:]}
    write_triplets(folder / "test.csv", new, 30)
    return folder


@pytest.fixture
def train(db, storages_in_tmp, small, drawn, tmp_path):  # noqa: F811
    def run(*arguments, csv=drawn / "train.csv", images=drawn / "photos", folder=tmp_path / "run", **options):
        call_command(
            "train_mildnet",
            *(["--triplets", str(csv), "--images", str(images)] if csv else []),
            *(["--validation", str(drawn / "validation.csv")] if csv and options.pop("validate", True) else []),
            *(["--run", str(folder)] if folder else []),
            *STEPS,
            *("--cache", str(tmp_path / "c")),
            *arguments,
            verbosity=options.pop("verbosity", 0),
            **options,
        )
        return folder

    return run


# Both heads of a model learn from two dozen photos, so in small steps.
FEW = ("--epochs", "3", "--learning-rate", "0.001")


HELP = """
import sys
from django.core.management import execute_from_command_line
try:
    execute_from_command_line(["manage.py", "train_mildnet", "--help"])
finally:
    print("loaded:", [name for name in ("tensorflow", "keras", "matplotlib") if name in sys.modules])
"""


def test_help_shows_first_what_is_needed_first_and_does_not_wait_for_tensorflow():
    said = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True).stdout
    assert said.endswith("loaded: []\n")
    titles = re.findall(r"^(\w.*):$", said, re.MULTILINE)
    assert titles[0] == "most runs need no more than" and titles[-1] == "every command"
    assert len(re.findall(r"^  --", said.split(f"\n{titles[1]}:\n")[0], re.MULTILINE)) == 10
    entries = [" ".join(entry.split()) for entry in re.split(r"\n(?=  -|\w)", said)]
    about = {re.split("[ ,]", entry)[0]: entry for entry in entries}
    for each in (*fields(TrainingOptions), *fields(SamplingOptions)):
        if each.metadata and not isinstance(each.default, bool):
            default = f"{each.default:g}" if isinstance(each.default, int | float) else each.default or "none"
            assert about[f"--{each.name.replace('_', '-')}"].endswith(f"(default: {default}).")
    assert "%(" not in said


def test_all_losses_and_miners_are_told_in_the_help():
    from shop_similarity.training.learning.losses import LOSSES
    from shop_similarity.training.learning.miners import MINERS

    about = {each.name: each.metadata for each in fields(TrainingOptions)}
    for name in LOSSES:
        assert re.search(rf"\b{name}\b", about["loss"]["help"])
    assert about["miner"]["choices"] == tuple(MINERS)


@pytest.mark.long
def test_a_trained_model_is_stored_with_all_that_is_known_of_it_stopped_or_not(train, drawn, monkeypatch, tmp_path):
    for colour in ("red", "green"):
        add_photo(make_product(), product_photo("mug", colour))
    out = io.StringIO()
    test = ("--test", str(drawn / "test.csv"))
    folder = train("--name", "autumn", "--keep-epochs", "3", *FEW, *test, verbosity=1, stdout=out)
    version = ModelVersion.objects.get(name="autumn")
    assert version.state == ModelVersion.State.CANDIDATE
    assert version.weights_source == SmallBackbone.source
    training = version.metrics["training"]
    assert training["triplets"] == 120
    assert training["recipe"]["loss"]["loss"] == "supcon"
    assert len(training["data_sha256"]) == 64
    # The validation set was given, and shows other photos.
    assert training["sides"] is None and [sum(each.values()) for each in training["shared"]] == [0]
    assert "leak" not in version.metrics["evaluation"] and not seen_by(version).unknown
    assert seen_by(version).photos.found(training_photos(folder))[0] == len(training_photos(folder)) > 20
    assert version.metrics["calibration"]["photos"] > 10
    assert version.metrics["evaluation"]["triplets"]["accuracy"] > 0.5
    assert OutboxEntry.objects.filter(version=version).count() == 2
    history = history_of(folder)
    assert [record["epoch"] for record in history] == [0, 1, 2, 3]
    assert history[3]["loss"] < history[1]["loss"]
    assert history[3]["val_loss"] < history[0]["val_loss"]
    for name in ("report.html", "best.weights.h5", "start.weights.h5", "tensorboard", "evaluation.json", "run.json"):
        assert (folder / name).exists(), name
    said = out.getvalue()
    assert "Best epoch" in said
    assert "will take" in said
    # What is stored is what was measured.
    model = load_version(version)
    with np.load(folder / "embeddings.npz") as stored:
        embeddings, paths = stored["embeddings"], stored["paths"]
    from shop_similarity.training.versions.embedding_files import embed_files

    again = embed_files(model, list(paths), Preprocessing.from_dict(version.preprocessing))
    assert np.abs(again - embeddings).max() < 2e-3

    # Measured at the end, beside what versions are compared by.
    assert version.metrics["test"]["triplets"]["triplets"] == 30
    assert version.metrics["test"]["set"] != version.metrics["evaluation"]["set"]
    assert set(json.loads((folder / "test.json").read_text())["models"]) == {"trained", "start"}
    assert not any("test" in key for record in history for key in record)
    report = (folder / "report.html").read_text()
    assert "On the test set: Triplet accuracy" in report and "Random triplets" in report

    _an_epoch_of_it_is_measured_and_stored(folder, history, version)
    _a_run_that_was_stopped_goes_on_to_the_same_end(train, monkeypatch, tmp_path / "stopped", history, version)


def training_photos(folder):
    """sha256 of the photos that a run was trained on."""
    given = json.loads((folder / "run.json").read_text())["given"]
    rows = Path(given["triplets"]).read_text().split()
    return {
        hashlib.sha256((Path(given["images"]) / name).read_bytes()).hexdigest()
        for row in rows
        for name in row.split(",")
    }


def _an_epoch_of_it_is_measured_and_stored(folder, history, version):
    best = version.metrics["training"]["best_epoch"]
    epoch = 1 if best != 1 else 2
    out = io.StringIO()
    call_command("store_epoch", str(folder), str(epoch), "--name", "early", "--no-aspects", stdout=out)
    early = ModelVersion.objects.get(name="early")
    training = early.metrics["training"]
    assert (training["epoch"], training["best_epoch"], training["epochs"]) == (epoch, best, 3)
    assert training["figures"]["val_loss"] == history[epoch]["val_loss"]
    assert early.metrics["calibration"] == version.metrics["calibration"]
    # On the same photos, so that the two can be compared.
    assert early.metrics["evaluation"]["set"] == version.metrics["evaluation"]["set"]
    assert early.metrics["evaluation"]["triplets"]["accuracy"] == pytest.approx(
        history[epoch]["val_accuracy"], abs=1e-4
    )
    assert f"epoch {best}, the best" in out.getvalue() and "a candidate" in out.getvalue()
    assert OutboxEntry.objects.filter(version=early).count() == 2
    for arguments, message in (
        (("4",), "has not made epoch 4, but 0 to 3"),
        (("1", "--name", "early"), "early already"),
        (("1", "--device", "GPU:7"), "no device GPU:7"),
    ):
        with pytest.raises(CommandError, match=message):
            call_command("store_epoch", str(folder), *arguments, verbosity=0)
    (folder / "weights" / "epoch-001.weights.h5").unlink()
    with pytest.raises(CommandError, match=r"not hold the weights of epoch 1, but of .*--keep-epochs"):
        call_command("store_epoch", str(folder), "1", verbosity=0)


def _a_run_that_was_stopped_goes_on_to_the_same_end(train, monkeypatch, folder, whole, version):
    from shop_similarity.training.learning.watcher import ProgressWatcher

    told = ProgressWatcher.step

    def interrupted(self, epoch, number, result, learning_rate):
        told(self, epoch, number, result, learning_rate)
        if number == 11:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressWatcher, "step", interrupted)
    with pytest.raises(CommandError, match=r"Stopped in epoch 2 after 3 of 8 steps.*--resume") as stopped:
        train("--name", "went-on", *FEW, folder=folder)
    assert stopped.value.returncode == 130
    monkeypatch.setattr(ProgressWatcher, "step", told)
    assert not ModelVersion.objects.filter(name="went-on").exists()
    # Somebody else took the name meanwhile.
    make_version(name="went-on", state=ModelVersion.State.RETIRED)
    call_command("train_mildnet", "--resume", str(folder), "--name", "renamed", verbosity=0)
    assert figures(history_of(folder)) == figures(whole)
    metrics = ModelVersion.objects.get(name="renamed").metrics
    assert metrics["calibration"] == version.metrics["calibration"]
    with pytest.raises(CommandError, match="holds a run already"):
        train(*FEW, folder=folder)


def test_a_run_that_was_stopped_before_its_first_epoch_goes_on(train, monkeypatch, tmp_path):
    from shop_similarity.training.photos.feature_cache import FeatureCache

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeatureCache, "fill", stopped)
        with pytest.raises(CommandError, match=r"What was computed is kept.*--resume") as told:
            train("--epochs", "1", "--no-store")
    assert told.value.returncode == 130
    assert not (tmp_path / "run" / "start.weights.h5").exists()
    with pytest.raises(CommandError, match=r"so --epochs and --no-cache can't be changed\. Leave it out"):
        call_command("train_mildnet", "--resume", str(tmp_path / "run"), "--epochs", "5", "--no-cache", verbosity=0)
    with pytest.raises(CommandError, match="no device GPU:7 here"):
        call_command("train_mildnet", "--resume", str(tmp_path / "run"), "--devices", "GPU:7", verbosity=0)
    # What it was begun with may be said again.
    call_command("train_mildnet", "--resume", str(tmp_path / "run"), "--batch-size", "16", verbosity=0)
    assert len(history_of(tmp_path / "run")) == 2
    assert not ModelVersion.objects.exists()


@pytest.mark.long
def test_fine_tuning_starts_where_the_version_stands_and_mixes_old_triplets_in(train, drawn, tmp_path, capsys):
    first = train("--epochs", "2", "--name", "first")
    folder = train(
        "--fine-tune",
        "first",
        "--mix",
        str(drawn / "validation.csv"),
        "--mix-share",
        "0.25",
        "--epochs",
        "1",
        "--name",
        "second",
        "--train",
        "block5",
        folder=tmp_path / "second",
    )
    best = min(history_of(first), key=lambda record: -record["val_accuracy"])
    assert history_of(folder)[0]["val_accuracy"] == pytest.approx(best["val_accuracy"], abs=0.03)
    record = json.loads((folder / "run.json").read_text())
    assert record["started_from"] == "first"
    assert record["data"]["old"]["triplets"] == 40
    version = ModelVersion.objects.get(name="second")
    assert version.config["frozen_through"] == "block4_pool"
    assert version.metrics["training"]["fine_tuned_from"] == "first"
    # What is mixed in is validated on as well.
    assert version.metrics["evaluation"]["leak"]["is_certain"]
    assert "not independent of the training set" in (folder / "report.html").read_text()
    assert "not independent of the training set" in capsys.readouterr().err
    with pytest.raises(CommandError, match="no model version third"):
        train("--fine-tune", "third", folder=tmp_path / "third")


@pytest.mark.long
def test_a_head_is_guarded_unless_that_is_declined_and_can_be_fine_tuned(train, drawn, tmp_path, monkeypatch):
    from shop_similarity.training.heads import recipe
    from shop_similarity.training.networks.architectures.colour import LENGTH

    monkeypatch.setattr(recipe, "GUARD", 6)
    train("--config", "guard=0", "--epochs", "1", "--name", "plain")
    seen = ["--validation", str(drawn / "train.csv"), "--fine-tune", "plain"]
    train(*seen, "--epochs", "2", "--name", "guarded", folder=tmp_path / "guarded")
    plain, guarded = (load_version(ModelVersion.objects.get(name=name)) for name in ("plain", "guarded"))
    assert "change" not in [layer.name for layer in plain.layers]
    # What the version gave is kept for unfamiliar photos; what training added stands beside it.
    assert np.array_equal(
        plain.get_layer("embedding").get_weights()[0], guarded.get_layer("embedding").get_weights()[0]
    )
    change = guarded.get_layer("change").get_weights()[0]
    assert np.abs(change).max() > 0
    # Colours have more of a model that is trained than of a first version, and training leaves them alone.
    config = ModelVersion.objects.get(name="guarded").config
    assert recipe.TRAINED.items() <= config.items()
    assert np.abs(change[-LENGTH:]).max() < 1e-5 * np.abs(change).max()
    train("--fine-tune", "guarded", "--train", "block5", "--epochs", "1", "--name", "again", folder=tmp_path / "again")
    assert ModelVersion.objects.get(name="again").config["guard"] == 6
    with pytest.raises(CommandError, match="guarded can't be fine-tuned as it is configured now"):
        train("--fine-tune", "guarded", "--config", "guard=0", folder=tmp_path / "never")


@pytest.mark.long
def test_a_backbone_s_last_block_is_trained_from_a_calibrated_head(train, tmp_path):
    folder = train("--train", "block5", "--epochs", "2", "--views", "1", "--name", "deep")
    version = ModelVersion.objects.get(name="deep")
    assert version.metrics["calibration"]["photos"] > 10
    assert version.config["frozen_through"] == "block4_pool" and not version.config["guard"]
    assert json.loads((folder / "run.json").read_text())["setup"]["calibrated"]
    assert history_of(folder)[2]["loss"] < history_of(folder)[1]["loss"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "below"), [("block5", "block4_pool"), ("efficientnet_lite0_top", "efficientnet_lite0_block7")]
)
def test_of_two_networks_the_last_block_of_one_is_trained(train, drawn, part, below):
    how = ("--architecture", "mildnet-joined", "--train", part, "--views", "0", "--epochs", "2", "--name", "both")
    # Of what it was trained on it knows more than at its start.
    folder = train(*how, "--validation", str(drawn / "train.csv"))
    version = ModelVersion.objects.get(name="both")
    assert version.config["frozen_through"] == below and not version.config["guard"]
    assert version.weights_source == "; ".join([SmallBackbone.source] * 2)
    assert json.loads((folder / "run.json").read_text())["setup"]["calibrated"]
    start = load_version(version)
    start.load_weights(folder / "start.weights.h5")
    changed = {
        layer.name
        for layer in load_version(version).layers
        if not all(map(np.array_equal, layer.get_weights(), start.get_layer(layer.name).get_weights()))
    }
    assert changed - {"embedding"}
    assert all(name.startswith(part) for name in changed - {"embedding"})


@pytest.mark.long
@pytest.mark.slow
def test_views_twins_and_instances_go_together(train):
    folder = train(
        *("--views", "2", "--augmentation", "rotation=10", "--twins", "--per-instance", "3", "--no-store"),
        *("--epochs", "1", "--loss", "infonce", "--temperature", "0.1"),
    )
    setup = json.loads((folder / "run.json").read_text())["setup"]
    assert setup["sampling"]["views"] == 2 and setup["sampling"]["twins"]
    assert setup["augmentation"]["rotation"] == 10
    assert setup["training"]["loss_options"] == {"temperature": 0.1}
    assert len(history_of(folder)) == 2


@pytest.mark.long
@pytest.mark.parametrize("killed_early", [False, True])
def test_runs_of_an_earlier_version_go_on_unless_they_had_an_option_that_is_gone(train, tmp_path, killed_early):
    folder = train("--epochs", "2", "--no-store")
    history = figures(history_of(folder))
    record = json.loads((folder / "run.json").read_text())
    # As it was written when defaults were not kept, and there were penalties for leaving the start.
    record["given"] = {name: value for name, value in record["given"].items() if not name.startswith("step_")}
    record["given"] |= dict.fromkeys(("epochs", "seed", "views", "anchor", "l2_start", "bystanders"))
    record["setup"]["training"] |= {"anchor": 0.0, "l2_start": 0.0, "twins": False}
    record["setup"]["sampling"] |= {"bystanders": 64, "plain_view": True}
    if killed_early:
        for name in ("start.weights.h5", "best.weights.h5", "history.jsonl"):
            (folder / name).unlink()
        shutil.rmtree(folder / "checkpoints")
    else:
        newest = sorted((folder / "checkpoints").iterdir())[-1]
        shutil.rmtree(newest)
    (folder / "run.json").write_text(json.dumps(record))
    call_command("train_mildnet", "--resume", str(folder), verbosity=0)
    assert figures(history_of(folder)) == history

    record["given"] |= {"anchor": 5.0, "bystanders": "/photos"}
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(CommandError, match="was begun with --anchor and --bystanders, which there is no more"):
        call_command("train_mildnet", "--resume", str(folder), verbosity=0)


@pytest.mark.long
def test_photos_read_anew_are_augmented(train, tmp_path):
    folder = train("--no-cache", "--epochs", "1", "--no-store", "--frozen-through", "block4_pool", "--no-calibrate")
    setup = json.loads((folder / "run.json").read_text())["setup"]
    assert setup["augmentation"] is not None
    assert not setup["cached"] and not setup["calibrated"]
    assert not (tmp_path / "c").exists()


@pytest.mark.long
def test_a_report_is_written_anew(train, tmp_path):
    folder = train("--epochs", "1", "--no-store")
    (folder / "report.html").unlink()
    call_command("train_mildnet", "--report-only", str(folder), verbosity=0)
    assert "validation" in (folder / "report.html").read_text().lower()
    with pytest.raises(CommandError, match="no training run in"):
        call_command("train_mildnet", "--report-only", str(tmp_path), verbosity=0)
    with pytest.raises(CommandError, match="no training run in"):
        call_command("train_mildnet", "--resume", str(tmp_path), verbosity=0)


@pytest.mark.long
def test_data_that_has_changed_since_is_told(train, drawn, tmp_path):
    shutil.copytree(drawn / "photos", tmp_path / "photos")
    folder = train("--epochs", "1", "--no-store", images=tmp_path / "photos")
    photo = next((tmp_path / "photos").glob("*.jpg"))
    photo.write_bytes(product_photo("mug", "red", size=(40, 40)))
    with pytest.raises(CommandError, match="have changed since it began"):
        call_command("train_mildnet", "--resume", str(folder), verbosity=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("a.jpg,b.jpg\nb.jpg,a.jpg\n", "2 columns instead of 3"),
        ("a.jpg,a.jpg,b.jpg\n", "the query is its own positive"),
        ("a.jpg,b.jpg,gone.jpg\n", r"gone\.jpg"),
        ("a.jpg,b.jpg,text.jpg\n", r"text\.jpg"),
        ("a.jpg,b.jpg,cut.jpg\n", r"cut\.jpg"),
    ],
)
def test_bad_triplets_are_told_before_any_training(train, tmp_path, content, message):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, colour in (("a.jpg", "red"), ("b.jpg", "green")):
        (photos / name).write_bytes(product_photo("mug", colour))
    (photos / "text.jpg").write_text("this is no photo")
    (photos / "cut.jpg").write_bytes(product_photo("mug", "black")[:300])
    csv = tmp_path / "triplets.csv"
    csv.write_text(content)
    with pytest.raises(CommandError, match=message):
        train(csv=csv, images=photos)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss", "hinge"], "no loss 'hinge'"),
        (["--loss", "triplet", "--temperature", "0.1"], "triplet has no option temperature"),
        (["--loss", "contrastive-margins", "--margin", "1"], "takes 2 numbers"),
        (["--train", "block9"], "--train must be one of head, all"),
        (["--architecture", "mildnet-joined", "--train", "block6"], "block5, efficientnet_lite0_stem, .*not 'block6'"),
        (["--architecture", "mildnet-joined", "--weights", "a.h5"], "are 2 files, and --weights names 1"),
        (["--config", "embedding_dim=64"], "embeddings of 4096 numbers"),
        (["--config", "flavour=1"], "Unknown MILDNet option"),
        (["--architecture", "resnet"], "Unknown architecture"),
        (["--learning-rate", "0"], "learning_rate must be above 0"),
        (["--validation", "gone.csv"], "gone.csv"),
        (["--retrieval", "gone"], "no folder gone"),
        (["--monitor", "recall_at_1"], "--retrieval"),
        (["--from-catalog"], "Name one source"),
        (["--devices", "GPU:7"], r"no device GPU:7 here\. There is CPU:0: name one like that"),
        (["--devices", "CPU:0", "CPU:0"], "name each once"),
        (["--test", "gone.csv"], "gone.csv"),
        (["--miner", "hard"], "takes no miner"),
        (["--twins", "--views", "0"], "two different views"),
        (["--per-instance", "1"], "two photos of each instance"),
        (["--mix-share", "1"], "mix_share must be above 0 and below 1"),
        (["--baselines", "resnet"], r"no baseline resnet\. There are: colour"),
    ],
)
def test_wrong_options_are_told(train, tmp_path, arguments, message):
    with pytest.raises(CommandError, match=message):
        train(*arguments)
    assert not ModelVersion.objects.exists()
    # Before anything was computed.
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "c").exists()


def test_weights_that_are_not_finite_are_told_before_anything_is_computed(train, monkeypatch, tmp_path):
    from shop_similarity.training.networks.backbones import weights

    class Damaged(SmallBackbone):
        def apply(self, model, prefix=""):
            super().apply(model, prefix)
            kernel, bias = model.get_layer("block3_conv1").get_weights()
            model.get_layer("block3_conv1").set_weights([kernel * np.nan, bias])

    monkeypatch.setattr(weights, "find_weights", lambda *args, **kwargs: Damaged())
    with pytest.raises(CommandError, match=r"can't start from seeded .* block3_conv1 holds .* Name other weights"):
        train("--no-cache")
    assert not (tmp_path / "run" / "start.weights.h5").exists()


def test_a_taken_name_is_told_at_once(train):
    make_version(name="taken")
    with pytest.raises(CommandError, match="taken already"):
        train("--name", "taken")


def fill_shop():
    from tests.shop_similarity.drawn_photos import products

    for drawn_product in products(40):
        product = make_product()
        for seed in (0, 1):
            add_photo(product, drawn_product.photo(seed=seed), f"{drawn_product.name}-{seed}.jpg")


@pytest.mark.slow
def test_the_shop_s_own_products_can_be_trained_on(train):
    fill_shop()
    folder = train("--from-catalog", "--epochs", "1", "--name", "own", csv=None)
    assert len(history_of(folder)) == 2
    metrics = ModelVersion.objects.get(name="own").metrics
    assert metrics["training"]["triplets"] > 20
    # It is measured on the shop's own products, and only those ask that are not trained on.
    assert metrics["evaluation"].keys() >= {"look_alike", "retrieval", "triplets"}
    assert "look_alike_ndcg_at_10" in history_of(folder)[0]
    asking = {row["product_id"] for row in rows_of(folder / "sets" / "look_alike" / "queries.csv")}
    assert asking and asking <= {row["query_group"] for row in rows_of(folder / "validation.csv")}
    assert "first look-alikes" in (folder / "report.html").read_text(encoding="utf-8")
    # It goes on with the sets that it began with, not with those of the shop as it is by then.
    add_photo(make_product(), product_photo("mug", "pink", "dotted"), "later.jpg")
    drawer = Path(json.loads((folder / "run.json").read_text())["validation_root"]).parent
    look_alike, instance = read_shop_sets(folder / "sets", drawer)
    assert look_alike.sha256 == metrics["evaluation"]["look_alike"]["set"]
    assert instance.sha256 == metrics["evaluation"]["retrieval"]["set"]


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_a_run_on_the_shop_s_products_that_was_killed_goes_on_although_they_have_changed(
    transactional_db, train, servers, tmp_path
):
    from django.conf import settings
    from django.db import connection

    fill_shop()
    arguments = ("--from-catalog", "--epochs", "2", "--name", "killed")
    whole = history_of(train(*arguments, "--no-store", csv=None, folder=tmp_path / "whole"))
    given = [*arguments, *STEPS, "--cache", str(tmp_path / "c"), "--run", str(tmp_path / "run")]
    process = subprocess.run(
        [sys.executable, "-m", "tests.training.shop_run", str(tmp_path), "5", *given],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": servers.url_of(connection.settings_dict["NAME"]),
            "REDIS_URL": servers.broker_url,
        },
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-3000:]
    assert not ModelVersion.objects.exists()

    # A month in a shop.
    ProductPhoto.objects.first().product.delete()
    ProductPhoto.objects.first().delete()
    add_photo(make_product(), product_photo("vase", "red"), "new.jpg")
    call_command("train_mildnet", "--resume", str(tmp_path / "run"), verbosity=0)
    assert figures(history_of(tmp_path / "run")) == figures(whole)
    assert ModelVersion.objects.filter(name="killed").exists()


@pytest.mark.long
@pytest.mark.slow
def test_a_better_version_asks_for_its_turn(train, drawn, tmp_path, capsys):
    names = sorted(path.name for path in (drawn / "photos").glob("*.jpg"))
    folder = tmp_path / "retrieval"
    folder.mkdir()
    lines = [f"{number},{name}" for number, name in enumerate(names)]
    (folder / "queries.csv").write_text("\n".join(["query_id,image", *lines]))
    (folder / "gallery.csv").write_text("\n".join(["gallery_id,image", *lines]))
    qrels = [
        f"{one},{other},2"
        for one, name in enumerate(names)
        for other, found in enumerate(names)
        if one != other and name.split("-")[0] == found.split("-")[0]
    ]
    (folder / "qrels.csv").write_text("\n".join(["query_id,gallery_id,relevance", *qrels]))
    retrieval = ("--retrieval", str(folder), "--monitor", "mean_average_precision", "--activate")
    train("--epochs", "1", *retrieval, "--learning-rate", "1e-9", "--name", "start")
    assert ModelVersion.objects.active().name == "start"
    train("--epochs", "4", *retrieval, "--name", "trained", folder=tmp_path / "two", verbosity=1)
    # With the figures that decided.
    assert re.search(r"trained is (\w+ )+than start by .*: 0\.\d+", capsys.readouterr().out)
    version = ModelVersion.objects.get(name="trained")
    assert version.activation_requested_at is not None
    # The same again is no better.
    with pytest.raises(CommandError, match="not activated"):
        train("--epochs", "1", *retrieval, "--learning-rate", "1e-9", "--name", "again", folder=tmp_path / "three")
    assert ModelVersion.objects.get(name="again").state == ModelVersion.State.CANDIDATE
