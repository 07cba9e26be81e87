"""What train_mildnet says and keeps of figures that can't be trusted."""

import io

import numpy as np
import pytest

from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.leaks import SAID, leak_of_run, leak_of_version, look_for_leaks
from shop_similarity.training.versions.lineage import LEAK, SEEN, Seen
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import make_version
from tests.training.commands.test_data import fill, gather

pytestmark = pytest.mark.django_db


def found(data, fine_tune=None):
    """What a run keeps, after a look that it said the same."""
    out = io.StringIO()
    record = look_for_leaks(data, {"fine_tune": fine_tune}, Console(out, out, quiet=True))
    assert out.getvalue() == "".join(record[SAID])
    return record


@pytest.fixture
def catalogue(tmp_path):
    fill(range(50), products(50))
    return gather("--from-catalog", "--cache", tmp_path, "--validation-share", "0.3")[0]


def test_a_run_after_a_run_is_fair_and_one_after_another_origin_is_not(catalogue, tmp_path):
    first = found(catalogue)
    assert first[SAID] == [] and first[LEAK] is None
    spring = make_version("spring", metrics={"training": {}, SEEN: first[SEEN]})
    again = found(catalogue, "spring")
    assert again[SAID] == [] and again[LEAK] is None and again[SEEN] == first[SEEN]
    assert not leak_of_version(catalogue, spring)

    # A run with a smaller share trained on some of what this one sets aside, and not the other way round.
    smaller, _ = gather("--from-catalog", "--cache", tmp_path, "--validation-share", "0.1")
    assert found(smaller, "spring")[LEAK] is None
    make_version("winter", metrics={"training": {}, SEEN: found(smaller)[SEEN]}, state="candidate")
    later = found(catalogue, "winter")
    assert later[LEAK]["is_certain"] and later[LEAK]["other_origin"]
    assert later[SAID][0].startswith("The comparison leaks: winter was trained on")

    old = make_version("old", metrics={"training": {"triplets": 5}}, state="candidate")
    assert "it is not recorded what old was trained on" in leak_of_version(catalogue, old).about("old")
    # What a version has seen stays with all that are made of it.
    later = found(catalogue, "old")
    assert later[LEAK]["unknown"] == later[SEEN]["unknown"] == ["old"] and not later[LEAK]["is_certain"]


def test_photos_of_a_retrieval_set_that_are_trained_on_are_told(catalogue, tmp_path):
    folder = tmp_path / "retrieval"
    folder.mkdir()
    places = catalogue.training_photos()[:4].tolist() + np.unique(catalogue.validation_rows)[:4].tolist()
    for number, place in enumerate(places):
        (folder / f"{number}.jpg").write_bytes(catalogue.paths[place].read_bytes())
    (folder / "queries.csv").write_text("query_id,image\n1,1.jpg\n")
    (folder / "gallery.csv").write_text("gallery_id,image\n" + "".join(f"{n},{n}.jpg\n" for n in range(8)))
    (folder / "qrels.csv").write_text("query_id,gallery_id,relevance\n1,2,2\n")
    data, _ = gather(
        *("--from-catalog", "--cache", tmp_path, "--validation-share", "0.3", "--retrieval", folder),
    )
    leak = leak_of_run(data, Seen())
    # What asks and what should be found; the two others are there to be passed over.
    assert leak.photos[0] == 2 and leak.is_certain
    (line,) = found(data)[SAID]
    assert "the model of this run was trained on what it is validated on here (2 of" in line
