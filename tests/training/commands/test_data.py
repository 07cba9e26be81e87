"""The data of a run: of the shop as it was when the run began, and a test set beside it."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
from django.core.files.base import ContentFile

from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.data import gather_data
from shop_similarity.training.commands.run_folder import make_folder
from shop_similarity.training.evaluation.retrieval_set import RetrievalSetError
from shop_similarity.training.learning.setup import Setup
from shop_similarity.training.management.commands.train_mildnet import Command
from shop_similarity.training.networks.preprocessing import Preprocessing
from tests.shop_similarity.drawn_photos import KINDS, product_photo, products
from tests.shop_similarity.factories import add_photo, make_category, make_product
from tests.training.drawn_triplets import write_photos, write_triplets
from tests.training.versions.test_first_version import storages_in_tmp  # noqa: F401


@pytest.fixture
def shop(db, storages_in_tmp):  # noqa: F811
    """Forty-four products in two categories, two photos of each."""
    made = []
    for number, drawn in enumerate(products(44)):
        product = make_product(category=make_category(f"C{KINDS.index(drawn.kind) % 2}"))
        for seed in range(2):
            add_photo(product, drawn.photo((24, 24), seed), f"{number}-{seed}.jpg", seed)
        made.append(product)
    return made


def change(shop):
    """What happens in a shop from one day to the next."""
    shop[0].delete()
    photo = shop[1].photos.first()
    photo.file.save("better.jpg", ContentFile(product_photo("mug", "black", size=(24, 24), seed=9)))
    add_photo(shop[2], product_photo("mug", "red", size=(24, 24), seed=9), "third.jpg", 2)
    add_photo(make_product(category=shop[3].category), product_photo("vase", "red", size=(24, 24), seed=5))


def options_of(*arguments):
    return vars(Command().create_parser("manage.py", "train_mildnet").parse_args(list(map(str, arguments))))


def console_of(out=None):
    return Console(io.StringIO(), out or io.StringIO(), quiet=True)


@pytest.mark.parametrize("own_validation", [False, True])
def test_a_run_goes_on_with_the_triplets_of_the_shop_as_it_was(shop, tmp_path, own_validation):
    arguments = ["--from-catalog", "--cache", tmp_path / "cache"]
    if own_validation:
        names = write_photos(tmp_path / "photos", colours=2, kinds=2)
        validation = write_triplets(tmp_path / "validation.csv", names, 8)
        arguments += ["--validation", validation, "--images", tmp_path / "photos"]
    options = options_of(*arguments)
    before = gather_data(options, console_of(), None)
    folder = tmp_path / "run"
    make_folder(
        SimpleNamespace(folder=folder, data=before.data, setup=Setup("mildnet", {}, Preprocessing())), before, options
    )
    change(shop)
    after = gather_data(options, console_of(), folder)
    for name in ("paths", "digests"):
        assert getattr(after.data, name) == getattr(before.data, name)
    for name in ("train_rows", "validation_rows"):
        assert np.array_equal(getattr(after.data, name), getattr(before.data, name))
    assert np.array_equal(after.data.train.query_group, before.data.train.query_group)
    # The shop itself would give others by now.
    assert gather_data(options, console_of(), None).data.sha256() != before.data.sha256()


def test_a_test_set_is_read_before_anything_is_computed_and_must_be_new(tmp_path):
    names = write_photos(tmp_path / "photos", colours=6, kinds=2)
    unseen, known = ({name: names.pop(name) for name in sorted(names)[:2]} for _ in range(2))
    write_triplets(tmp_path / "train.csv", names, 30)
    for name, photos in (("validation", known), ("test", unseen)):
        write_triplets(tmp_path / f"{name}.csv", photos, 10)
    arguments = ["--images", tmp_path / "photos"]
    for name, source in (("triplets", "train"), ("validation", "validation"), ("test", "test")):
        arguments += [f"--{name}", tmp_path / f"{source}.csv"]
    said = io.StringIO()
    gathered = gather_data(options_of(*arguments), console_of(said), None)
    assert len(gathered.test.triplets) == 10 and gathered.test.retrieval is None
    assert not set(gathered.test.paths) & set(gathered.data.paths)
    assert said.getvalue() == ""

    leaking = [*arguments[:-1], tmp_path / "validation.csv"]
    gather_data(options_of(*leaking), console_of(said), None)
    assert "8 of the 8 photos of the test set are among those" in said.getvalue()
    with pytest.raises(RetrievalSetError, match="no folder"):
        gather_data(options_of(*arguments, "--test-retrieval", tmp_path / "gone"), console_of(), None)


def test_a_test_set_may_be_for_retrieval(tmp_path):
    names = write_photos(tmp_path / "photos", colours=3, kinds=2)
    unseen = names.pop(sorted(names)[0])
    write_triplets(tmp_path / "train.csv", names, 20)
    for name, rows in (
        ("queries", [("query_id", "image"), ("0", unseen[0])]),
        ("gallery", [("gallery_id", "image"), *((str(number), each) for number, each in enumerate(unseen))]),
        ("qrels", [("query_id", "gallery_id", "relevance"), ("0", "1", "2")]),
    ):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    arguments = ["--triplets", tmp_path / "train.csv", "--validation", tmp_path / "train.csv"]
    arguments += ["--images", tmp_path / "photos", "--test-retrieval", tmp_path]
    test = gather_data(options_of(*arguments), console_of(), None).test
    assert test.triplets is None and len(test.retrieval.gallery) == len(unseen)
