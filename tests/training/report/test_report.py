"""The report: one file that opens from disk, whatever is known of a run and whatever its files are called."""

import dataclasses
import json
import re

import numpy as np
import pytest

from shop_similarity.training.report import Report, write_report
from shop_similarity.training.report.contents import from_comparison
from shop_similarity.training.report.metric_figures import Figure, figure
from shop_similarity.training.report.samples import random_triplet_rows, ranking_rows, triplet_distances, triplet_rows
from shop_similarity.training.report.summary import duration, summary
from shop_similarity.training.report.verdicts import verdicts
from tests.training.report_runs import HOSTILE, drawn_photos, drawn_report, embeddings_of, evaluation, triplets_of


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return drawn_report(tmp_path_factory.mktemp("run") / "photos")


@pytest.fixture(scope="module")
def page(full, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("page") / "report.html", full)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_from_a_file_and_shows_its_pictures(chromium, page, scheme):
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 390, "height": 800}, offline=True)
    tab = context.new_page()
    trouble, asked = [], []
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.on("dialog", lambda dialog: (trouble.append("alert"), dialog.dismiss()))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    pictures = tab.locator("img")
    assert pictures.count() == 6 + 18 + 5 + 12 + 12
    assert pictures.evaluate_all("all => all.every(img => img.complete && img.naturalWidth > 100 && img.alt)")
    assert tab.locator("svg[role=img]").evaluate_all("all => all.every(svg => svg.clientHeight > 80)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390, "only tables and rows scroll sideways"
    assert trouble == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    ink, paper = tab.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    label = tab.locator("svg text").first.evaluate("text => getComputedStyle(text).fill")
    assert label == ink != paper
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids)), "plots share ids"
    # By keyboard: the first stop is the link past the navigation.
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    context.close()


def test_hostile_names_stay_text(page):
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text and "<img src=x" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_it_is_a_file_of_moderate_size(page):
    assert page.stat().st_size < 5 * 2**20
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page.read_text(encoding="utf-8"))


def test_many_large_photos_still_make_a_moderate_file(tmp_path, monkeypatch):
    # Noise is what JPEG compresses worst.
    from PIL import Image

    monkeypatch.setattr("tests.training.report_runs.products", lambda count: [_Noise()] * count)
    report = drawn_report(tmp_path / "photos")
    history = [{"epoch": epoch, "loss": 1 / epoch, "val_loss": 2 / epoch} for epoch in range(1, 501)]
    page = write_report(tmp_path / "report.html", dataclasses.replace(report, history=history))
    assert Image.open(next((tmp_path / "photos").iterdir())).size == (96, 96)
    assert page.stat().st_size < 5 * 2**20


class _Noise:
    kind, colour = "noise", "any"

    def photo(self, size, seed):
        import io

        from PIL import Image

        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=95)
        return stream.getvalue()


@pytest.mark.parametrize(
    "left_out",
    [
        ("triplets", "triplet_embeddings", "history"),
        ("triplet_embeddings", "retrieval", "retrieval_embeddings", "evaluations", "differences"),
        ("look_alike", "look_alike_embeddings"),
        ("run", "retrieval_embeddings", "triplet_embeddings"),
        ("history", "evaluations", "run", "triplets", "triplet_embeddings", "retrieval", "retrieval_embeddings"),
    ],
)
def test_every_part_may_be_missing(full, tmp_path, left_out):
    empty = {"history": (), "evaluations": {}, "differences": {}, "run": {}}
    page = write_report(
        tmp_path / "deep" / "report.html",
        dataclasses.replace(full, **{name: empty.get(name) for name in left_out}),
    )
    text = page.read_text(encoding="utf-8")
    assert ("Worst triplets" in text) == ("triplet_embeddings" not in left_out)
    assert ("Sample queries with their first results" in text) == ("retrieval_embeddings" not in left_out)
    assert ("Sample queries with their first look-alikes" in text) == ("look_alike_embeddings" not in left_out)
    assert ("No epoch was finished." in text) == ("history" in left_out)
    assert ("not evaluated" in text) == ("evaluations" in left_out)


def test_missing_photos_do_not_stop_it(tmp_path):
    names = drawn_photos(tmp_path / "photos", count=4)
    for name in names[:3]:
        (tmp_path / "photos" / name).unlink()
    report = Report(
        "Run",
        triplets=triplets_of(tmp_path / "photos", names),
        triplet_embeddings=embeddings_of(len(names)),
    )
    assert "Worst triplets" in write_report(tmp_path / "report.html", report).read_text(encoding="utf-8")


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    path = write_report(tmp_path / "report.html", Report("First"))

    def full_disk(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shop_similarity.training.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(path, Report("Second"))
    assert "First" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_half_a_character_of_a_file_name_is_written_escaped(tmp_path):
    path = write_report(tmp_path / "report.html", Report("Photo \udcff"))
    assert "Photo \\udcff" in path.read_text(encoding="utf-8")


def test_embeddings_must_fit_their_photos(tmp_path):
    triplets = triplets_of(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    with pytest.raises(ValueError, match="one row for each photo"):
        Report("Run", triplets=triplets, triplet_embeddings=np.ones((3, 8)))
    with pytest.raises(ValueError, match="one row for each photo"):
        Report("Run", retrieval_embeddings=np.ones((3, 8)))


def test_worst_and_best_triplets_by_margin(tmp_path):
    triplets = triplets_of(tmp_path, [f"{number}.jpg" for number in range(8)], per_query=3)
    embeddings = embeddings_of(8)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    query, positive, negative = (unit[column] for column in triplets.rows.T)
    near, far = triplet_distances(embeddings * 7, triplets.rows)
    np.testing.assert_allclose(near, np.sqrt(((query - positive) ** 2).sum(1)), rtol=1e-5)
    np.testing.assert_allclose(far, np.sqrt(((query - negative) ** 2).sum(1)), rtol=1e-5)
    margins = [float(row.caption.split()[1]) for row in triplet_rows(triplets, embeddings, 5, worst=True)]
    assert margins == sorted(margins) and margins[0] == pytest.approx((far - near).min(), abs=1e-3)
    best = triplet_rows(triplets, embeddings, 50, worst=False)
    assert float(best[0].caption.split()[1]) == pytest.approx((far - near).max(), abs=1e-3)
    assert len({row.alt.split(";")[0] for row in best}) == len(best) == 8, "one of each query"


def test_random_triplets_are_neither_the_best_nor_the_worst_and_the_same_each_time(tmp_path):
    triplets = triplets_of(tmp_path, [f"{number}.jpg" for number in range(60)], per_query=3)
    embeddings = embeddings_of(60)
    rows = random_triplet_rows(triplets, embeddings, 5)
    assert len(rows) == 5 and rows == random_triplet_rows(triplets, embeddings, 5)
    assert rows != random_triplet_rows(triplets, embeddings, 5, seed=1)
    chosen = {row.alt for row in rows}
    for worst in (True, False):
        assert chosen != {row.alt for row in triplet_rows(triplets, embeddings, 5, worst=worst)}
    # All of them, where there are fewer.
    assert len(random_triplet_rows(triplets, embeddings, 500)) == len(triplets)


def test_rankings_leave_the_query_out_and_take_from_both_ends(full):
    rows = ranking_rows(full.retrieval, full.retrieval_embeddings, 6)
    precisions = [float(re.search(r"precision ([\d.]+)", row.caption)[1]) for row in rows]
    assert len(rows) == 6 and precisions == sorted(precisions, reverse=True)
    assert precisions[0] == 1 and precisions[-1] < 1
    assert len(ranking_rows(full.retrieval, full.retrieval_embeddings, 500)) == len(full.retrieval.queries)


def test_verdicts_tell_chance_from_difference():
    evaluations = {
        "new": evaluation(0.90, 0.95),
        "close": evaluation(0.88, 0.95),
        "far": evaluation(0.70, 0.97),
        "other photos": evaluation(0.95, 0.99, queries="b" * 64),
    }
    looks, _, recall, _, accuracy, few = verdicts(evaluations)
    assert looks[0] == "Look-alike nDCG@10 of new is 0.600 (0.570 to 0.630):"
    assert recall[0] == "Recall@1 of new is 0.900 (0.870 to 0.930):"
    assert recall[1] == [
        "better than close (0.880 (0.850 to 0.910); the intervals overlap, so this may be chance)",
        "better than far (0.700 (0.670 to 0.730); the intervals do not overlap)",
        "other photos was measured on another set and can't be compared",
    ]
    assert accuracy[1][0] == "equal to close"
    assert accuracy[1][1].startswith("worse than far (0.970")
    assert few == (
        "Intervals drawn over fewer than 20 groups say little of how sure one can be (look-alike 15): measure on more "
        "products.",
        [],
    )
    recall = ("retrieval", "recall_at_1")
    paired = verdicts(evaluations, {"close": {recall: (0.02, 0.005, 0.035)}})[2][1][0]
    assert paired == "better than close (0.880; difference +0.020, +0.005 to +0.035)"
    unsure = verdicts(evaluations, {"close": {recall: (0.02, -0.005, 0.045)}})[2][1][0]
    assert unsure.endswith("may be chance)")
    assert verdicts({}) == []


def test_a_figure_without_interval_is_told_without_one():
    assert figure({"retrieval": {"recall_at_1": 0.5}}, ("retrieval", "recall_at_1")) == Figure(
        0.5, 0.5, 0.5, (None, None)
    )
    assert figure({}, ("retrieval", "recall_at_1")) is None
    assert verdicts({"a": {"retrieval": {"recall_at_1": 0.5}}, "b": {"retrieval": {"recall_at_1": 0.4}}}) == [
        ("Recall@1 of a is 0.500:", ["better than b (0.400)"])
    ]


@pytest.mark.parametrize(("reference", "expected"), [("new", (0.02, 0.01, 0.03)), ("old", (-0.02, -0.03, -0.01))])
def test_differences_of_a_comparison_are_turned_towards_the_trained_model(reference, expected):
    other = "old" if reference == "new" else "new"
    models = {"old": evaluation(0.8, 0.9), "new": evaluation(0.9, 0.95)}
    models[other]["difference"] = {"retrieval": {"recall_at_1": {"value": -0.02, "interval": [-0.03, -0.01]}}}
    comparison = {"reference": reference, "models": models, "baselines": {"histogram": evaluation(0.4, 0.6)}}
    evaluations, differences = from_comparison(comparison, trained="new")
    assert list(evaluations) == ["new", "old", "histogram"]
    assert differences == {"old": {("retrieval", "recall_at_1"): expected}}
    with pytest.raises(ValueError, match="absent was not measured"):
        from_comparison(comparison, trained="absent")


def test_the_summary_tells_what_is_known(full):
    sentences = [sentence for sentence, _ in summary(full)]
    assert sentences[0] == "Trained: mildnet-lite, from mildnet-1, with the loss triplet hinge, in 1 h 6 min."
    assert sentences[1] == "Trained on 16,450 triplets of 3,568 photos."
    assert sentences[3].startswith("12 epochs, loss from 0.53 to ") and sentences[3].endswith("epoch 9 were kept.")
    assert summary(Report("Run", history=[{"epoch": 1, "seconds": 90}], run={"architecture": "ranknet"}))[0][0] == (
        "Trained: ranknet, in 1 min 30 s."
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (59.4, "59 s"), (59.7, "1 min 0 s"), (3599.9, "1 h 0 min"), (7260, "2 h 1 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_run_is_read_from_its_folder(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"architecture": "mildnet"}))
    lines = [{"epoch": 1, "loss": 3}, {"epoch": 2, "loss": 9}, {"epoch": 2, "loss": 2}]
    (tmp_path / "history.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"epoch": 3, "lo')
    (tmp_path / "evaluation.json").write_text(json.dumps({"models": {"new": evaluation(0.9, 0.95)}, "baselines": {}}))
    report = Report.of_folder(tmp_path, best_epoch=2)
    assert report.title == f"Training run {tmp_path.name}"
    assert report.history == [{"epoch": 1, "loss": 3}, {"epoch": 2, "loss": 2}], "half a line and a repeated epoch"
    assert list(report.evaluations) == ["new"] and report.best_epoch == 2
    assert HOSTILE not in write_report(tmp_path / "report.html", report).read_text(encoding="utf-8")


def test_a_test_set_stands_apart(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"data": {"test": {"triplets": 300, "images": 80}}}))
    for name, accuracy in (("evaluation", 0.95), ("test", 0.91)):
        models = {"trained": evaluation(0.9, accuracy), "start": evaluation(0.8, 0.9)}
        models["start"]["difference"] = {"triplets": {"accuracy": {"value": 0.9 - accuracy, "interval": [-0.1, 0.1]}}}
        comparison = {"reference": "trained", "models": models, "baselines": {}}
        (tmp_path / f"{name}.json").write_text(json.dumps(comparison))
    report = Report.of_folder(tmp_path)
    told = dict(summary(report))
    assert "Tested on 300 triplets of 80 photos." in told
    assert "Triplet accuracy of trained is 0.950 (0.935 to 0.965):" in told
    assert told["On the test set: Triplet accuracy of trained is 0.910 (0.895 to 0.925):"] == [
        "better than start (0.900; difference +0.010, -0.100 to +0.100: may be chance)"
    ]
    page = write_report(tmp_path / "report.html", report).read_text(encoding="utf-8")
    assert page.index(">Comparison</h2>") < page.index(">Test set</h2>") < page.index("0.910 (0.895 to 0.925)</td>")


def test_a_folder_that_is_no_run_or_is_damaged(tmp_path):
    with pytest.raises(ValueError, match="no training run"):
        Report.of_folder(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="can't be read as JSON"):
        Report.of_folder(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "history.jsonl").write_text('{"epoch": 1\n{"epoch": 2}\n')
    with pytest.raises(ValueError, match="line 1"):
        Report.of_folder(tmp_path)
