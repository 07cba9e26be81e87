"""What a shop trains on, validates with and tests with: this month, the next, and when a run goes on."""

import csv
import io
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.management.base import CommandParser

from catalog.models import Product
from shop_similarity.training.commands.arguments import add_arguments
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.data import gather_data
from shop_similarity.training.commands.run_folder import make_folder
from shop_similarity.training.evaluation.retrieval_set import RetrievalSetError
from shop_similarity.training.learning.options import SamplingOptions
from shop_similarity.training.learning.setup import Setup
from shop_similarity.training.management.commands.train_mildnet import Command
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.triplets.table import TripletError
from tests.shop_similarity.drawn_photos import KINDS, product_photo, products
from tests.shop_similarity.factories import add_photo, make_category, make_product
from tests.training.drawn_triplets import write_photos, write_triplets
from tests.training.versions.test_first_version import storages_in_tmp  # noqa: F401

pytestmark = pytest.mark.django_db
FIRST = 5_000


def gather(*arguments):
    """The data of a run with these arguments, and what was said."""
    parser = CommandParser()
    add_arguments(parser)
    out = io.StringIO()
    options = {"verbosity": 1, **vars(parser.parse_args([str(each) for each in arguments]))}
    folder = Path(options["cache"] or tempfile.mkdtemp()) / "run"
    return gather_data(options, Console(out, out, quiet=False), folder).data, out.getvalue()


def fill(numbers, drawn):
    """Products with keys of their own, two photos of each."""
    for number in numbers:
        kind = make_category(f"C{number % 2}")
        product = make_product(category=kind, id=FIRST + number, description=f"style {number // 3}")
        for seed in range(2):
            add_photo(product, drawn[number].photo((32, 32), seed), f"{number}-{seed}.jpg", seed)


def keys_of(paths):
    """Keys of the products that photos show, by their bytes."""
    of = {}
    for product in Product.objects.prefetch_related("photos"):
        for photo in product.photos.all():
            with photo.file.open("rb") as file:
                of[file.read()] = product.pk
    return [of[path.read_bytes()] for path in paths]


def shown(triplets):
    return set(keys_of(triplets.paths()))


def test_no_product_that_is_validated_on_was_ever_trained_on(tmp_path):
    drawn = products(110)
    fill(range(80), drawn)
    arguments = ("--from-catalog", "--cache", tmp_path)
    first, _ = gather(*arguments)
    trained, validated = shown(first.train), shown(first.validation)
    assert not trained & validated and len(trained) > 60 and len(validated) >= 4

    # A month goes by.
    Product.objects.filter(pk__in=range(FIRST, FIRST + 80, 9)).delete()
    fill(range(80, 95), drawn)
    second, said = gather(*arguments, "--seed", "7")
    again = shown(second.validation)
    assert not trained & again
    assert not set(first.train.images) & set(second.validation.images)
    assert not validated & shown(second.train)
    assert second.sides == first.sides and second.sides.keys == "catalog.Product"
    assert "set aside by their keys" in said
    assert not any(second.shared)


def test_variants_stay_on_one_side(tmp_path, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VARIANT_GROUP": "description"}
    fill(range(60), products(60))
    data, _ = gather("--from-catalog", "--cache", tmp_path, "--validation-share", "0.3")
    sides = [{(key - FIRST) // 3 for key in shown(triplets)} for triplets in (data.train, data.validation)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]
    assert data.sides.keys == "catalog.Product by description" and data.sides.share == 0.3
    assert data.train.group_names() <= {f"description=style {number}" for number in range(20)}
    # None is pushed apart from another one.
    photos = data.training_photos()
    _, negative = data.relations(SamplingOptions(negatives="batch")).masks(photos)
    of = {key: (key - FIRST) // 3 for key in shown(data.train)}
    style = np.array([of[key] for key in keys_of([data.paths[place] for place in photos.tolist()])])
    same = style[:, None] == style
    assert same.sum() > len(photos) and negative.any() and not (negative & same).any()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    names = write_photos(folder / "photos", colours=6, kinds=4, seeds=2)
    unseen = {name: names.pop(name) for name in sorted(names)[:2]}
    write_triplets(folder / "train.csv", names, 60)
    write_triplets(folder / "validation.csv", unseen, 20)
    return folder


def test_what_training_and_a_given_validation_set_share_is_found(drawn, tmp_path):
    given = ("--triplets", drawn / "train.csv", "--images", drawn / "photos")
    data, _ = gather(*given, "--validation", drawn / "validation.csv")
    assert data.sides is None and not any(data.shared)
    photos = tmp_path / "photos"
    photos.mkdir()
    rows = (drawn / "train.csv").read_text().splitlines()[:3]
    for name in {name for row in rows for name in row.split(",")}:
        (photos / f"copy-{name}").write_bytes((drawn / "photos" / name).read_bytes())
    copies = tmp_path / "copies.csv"
    copies.write_text("\n".join(",".join(f"copy-{name}" for name in row.split(",")) for row in rows))
    everything = _both(drawn / "photos", photos, tmp_path / "all")
    leaking, _ = gather(*given[:2], "--images", everything, "--validation", copies)
    (shared,) = leaking.shared
    assert shared.leakage.same_bytes and shared.leakage.validation_triplets == 3
    assert leaking.measured_photos() < {leaking.digests[place] for place in leaking.training_photos()}


def _both(one: Path, other: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in (*one.iterdir(), *other.iterdir()):
        (folder / path.name).hardlink_to(path)
    return folder


def test_old_triplets_of_what_is_set_aside_are_left_out(tmp_path):
    fill(range(60), products(60))
    arguments = ("--from-catalog", "--cache", tmp_path, "--validation-share", "0.3")
    data, _ = gather(*arguments)
    photos = [data.paths[place] for place in np.unique(data.validation_rows)[:3].tolist()]
    others = [data.paths[place] for place in data.training_photos()[:3].tolist()]
    old = tmp_path / "old"
    old.mkdir()
    for number, path in enumerate([*photos, *others]):
        (old / f"{number}.jpg").write_bytes(path.read_bytes())
    mixed = tmp_path / "old.csv"
    mixed.write_text("0.jpg,3.jpg,4.jpg\n5.jpg,3.jpg,4.jpg\n")
    data, said = gather(*arguments, "--mix", mixed, "--mix-images", old)
    assert len(data.old) == 1 and "1 of the old triplets are left out" in said
    assert not any(data.shared)
    mixed.write_text("0.jpg,1.jpg,2.jpg\n")
    with pytest.raises(TripletError, match="All triplets of --mix show products that are set aside"):
        gather(*arguments, "--mix", mixed, "--mix-images", old)


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
    before = gather_data(options, console_of(), tmp_path / "run")
    folder = tmp_path / "run"
    make_folder(
        SimpleNamespace(folder=folder, data=before.data, setup=Setup("mildnet", {}, Preprocessing())),
        before,
        {},
        options,
    )
    change(shop)
    after = gather_data(options, console_of(), folder, resumed=True)
    for name in ("paths", "digests"):
        assert getattr(after.data, name) == getattr(before.data, name)
    for name in ("train_rows", "validation_rows"):
        assert np.array_equal(getattr(after.data, name), getattr(before.data, name))
    assert np.array_equal(after.data.train.query_group, before.data.train.query_group)
    assert (after.data.sides, after.data.by_query) == (before.data.sides, before.data.by_query)
    assert [each.to_dict() for each in after.data.shared] == [each.to_dict() for each in before.data.shared]
    assert after.data.measured_groups() == before.data.measured_groups()
    # The shop itself would give others by now.
    assert gather_data(options, console_of(), tmp_path / "other").data.sha256() != before.data.sha256()


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
    gathered = gather_data(options_of(*arguments), console_of(said), tmp_path)
    assert len(gathered.test.triplets) == 10 and gathered.test.retrieval is None
    assert not set(gathered.test.paths) & set(gathered.data.paths)
    assert said.getvalue() == ""

    leaking = [*arguments[:-1], tmp_path / "validation.csv"]
    gather_data(options_of(*leaking), console_of(said), tmp_path)
    assert "8 of the 8 photos of the test set are among those" in said.getvalue()
    with pytest.raises(RetrievalSetError, match="no folder"):
        gather_data(options_of(*arguments, "--test-retrieval", tmp_path / "gone"), console_of(), tmp_path)


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
    test = gather_data(options_of(*arguments), console_of(), tmp_path).test
    assert test.triplets is None and len(test.retrieval.gallery) == len(unseen)
