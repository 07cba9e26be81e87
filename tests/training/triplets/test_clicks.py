"""From beacons of shoppers to a trained version: recorded events, roll-up, triplets, train_mildnet."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from catalog.models import ProductPhoto
from shop_similarity.feedback.daily_sums import today
from shop_similarity.feedback.roll_up import roll_up
from shop_similarity.models import ModelVersion
from shop_similarity.training.triplets.clicks import certain_preferences, shop_click_triplets
from shop_similarity.training.triplets.table import TripletError, read_triplets
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import add_photo, make_product, make_version
from tests.shop_similarity.feedback.lists import show
from tests.training.commands.test_train_command import small, train  # noqa: F401
from tests.training.small_run import history_of
from tests.training.versions.test_first_version import storages_in_tmp  # noqa: F401

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def drawn():
    """The CSV that tests of other sources train on; none is needed here."""
    from pathlib import Path

    return Path("nowhere")


@pytest.fixture
def shop(storages_in_tmp):  # noqa: F811
    """Thirty products, the photo of each one drawn."""
    made = []
    for number, each in enumerate(products(30)):
        # Keys decide what is set aside.
        product = make_product(name=each.name, id=9_000 + number)
        # The first by the shop's order is not the first that was added.
        add_photo(product, products(31)[30].photo((32, 32), number), f"{number}-back.jpg", position=2)
        add_photo(product, each.photo((32, 32)), f"{number}.jpg", position=1)
        made.append(product)
    return made


def shoppers_choose(shop, times=3):
    """On the look-alikes of each product, shoppers take the third, the next of the catalogue, and pass over two."""
    version = make_version("shown")
    for number, product in enumerate(shop):
        shown = [shop[(number + step) % len(shop)].pk for step in (7, 11, 1, 13)]
        for time in range(times):
            # Partly from days that are closed, partly from raw events.
            day = today() - timedelta(days=2 * time)
            show(version, shown, product=product.pk, clicks=[shown[2]], day=day, visitor=time)


def test_few_clicks_say_nothing_and_contradictions_cancel():
    ahead, behind = ("q", "a", "b"), ("q", "b", "a")
    assert certain_preferences({ahead: 2}, 3, 0.75) == []
    assert certain_preferences({ahead: 2}, 2, 0.75) == [ahead]
    assert certain_preferences({ahead: 5, behind: 4}, 3, 0.75) == []
    assert certain_preferences({ahead: 9, behind: 3}, 3, 0.75) == [ahead]
    assert certain_preferences({ahead: 3, behind: 9}, 3, 0.75) == [behind]
    # On the look-alikes of another product the choice was another one.
    assert certain_preferences({ahead: 3, ("p", "b", "a"): 9}, 3, 0.75) == [ahead, ("p", "b", "a")]
    for limits in ((0, 0.75), (3, 0.5), (3, 1.1)):
        with pytest.raises(ValueError, match=r"min_(clicks|share)"):
            certain_preferences({}, *limits)


def test_clicks_become_triplets_of_local_photos(shop, tmp_path):
    shoppers_choose(shop)
    roll_up()
    found = shop_click_triplets(tmp_path / "photos")
    assert (found.choices, found.preferences, found.products, found.skipped) == (180, 60, 30, ())
    triplets = found.triplets
    assert len(triplets) == 60 and set(triplets.negative_type) == {"skipped"}
    names = {}
    for product in shop:
        photo = ProductPhoto.objects.get(product=product, position=1)
        with photo.file.open("rb") as file:
            names[file.read()] = product.pk
    keys = [names[path.read_bytes()] for path in triplets.paths()]
    place = {product.pk: number for number, product in enumerate(shop)}
    steps = {
        tuple((place[keys[other]] - place[keys[row[0]]]) % len(shop) for other in row[1:])
        for row in triplets.rows.tolist()
    }
    assert steps == {(1, 7), (1, 11)}
    assert {keys[row[0]] for row in triplets.rows.tolist()} == {int(group) for group in triplets.query_group}


def test_too_few_clicks_are_told_with_what_was_found(shop, tmp_path):
    with pytest.raises(TripletError, match="No click is recorded that says anything"):
        shop_click_triplets(tmp_path)
    shoppers_choose(shop, times=2)
    with pytest.raises(
        TripletError, match=r"give 0 triplets, and it takes 30: 120 choices .* 60 pairs .* 0 were made 3 times or more"
    ):
        shop_click_triplets(tmp_path)
    with pytest.raises(TripletError, match="0 were made 2 times or more by different clients, on 3 days or more"):
        shop_click_triplets(tmp_path, min_clicks=2)
    assert len(shop_click_triplets(tmp_path, min_clicks=2, min_days=2).triplets) == 60
    with pytest.raises(ValueError, match="min_days"):
        shop_click_triplets(tmp_path, min_days=0)
    with pytest.raises(ValueError, match="min_share"):
        shop_click_triplets(tmp_path, min_share=0.5)


def test_products_that_are_gone_or_look_the_same_are_left_out(shop, tmp_path):
    shoppers_choose(shop)
    shop[0].delete()
    ProductPhoto.objects.filter(product=shop[5]).delete()
    same = ProductPhoto.objects.get(product=shop[10], position=1)
    with same.file.open("rb") as file:
        content = file.read()
    ProductPhoto.objects.filter(product=shop[11]).delete()
    add_photo(shop[11], content, "same.jpg")
    broken = add_photo(shop[20], b"no photo", "broken.jpg", position=0)
    found = shop_click_triplets(tmp_path)
    assert [name for name, _why in found.skipped] == [broken.file.name]
    # Each product is in six triplets, twice as query and clicked together, and stands for one of the others twice.
    gone = {place % 30 for lost in (0, 5, 20) for place in (lost, lost - 1)}
    kept = sum(
        2 - sum((number + step) % 30 in (0, 5, 20) for step in (7, 11))
        for number in range(30)
        if number not in gone and number != 10
    )
    assert len(found.triplets) == kept


def test_the_command_writes_a_csv_that_can_be_trained_on(shop, tmp_path, capsys):
    shoppers_choose(shop)
    call_command("export_clicks", str(tmp_path / "out" / "clicks.csv"), verbosity=0)
    said = capsys.readouterr().out
    assert "60 triplets of 30 products, from 180 choices" in said and "train_mildnet --triplets" in said
    triplets = read_triplets(tmp_path / "out" / "clicks.csv", tmp_path / "out" / "photos")
    assert len(triplets) == 60 and all(path.exists() for path in triplets.paths())
    with pytest.raises(CommandError, match="and it takes 1: 180 choices"):
        call_command("export_clicks", str(tmp_path / "none.csv"), "--min-clicks", "4", verbosity=0)
    assert not (tmp_path / "none.csv").exists()


def test_training_without_clicks_says_so(train, tmp_path):  # noqa: F811
    with pytest.raises(CommandError, match=r"No click is recorded .*--from-catalog"):
        train("--from-clicks", csv=None)
    assert not (tmp_path / "run").exists()


def test_what_shoppers_chose_is_trained_on(train, shop, tmp_path, monkeypatch):  # noqa: F811
    """A run that is stopped goes on with the clicks that it began with, while more are recorded."""
    from shop_similarity.training.photos.feature_cache import FeatureCache

    shoppers_choose(shop)
    roll_up()

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeatureCache, "fill", stopped)
        with pytest.raises(CommandError, match="--resume"):
            train("--from-clicks", "--epochs", "2", "--name", "chosen", csv=None)
    shown = [shop[place].pk for place in (1, 2, 3)]
    for number in range(3):
        # The day before yesterday is closed by now.
        day = today() - timedelta(days=number % 2)
        show(ModelVersion.objects.get(), shown, product=shop[0].pk, clicks=[shown[2]], day=day, visitor=number)
    assert len(shop_click_triplets(tmp_path / "c" / "photos", min_days=2).triplets) == 62
    folder = tmp_path / "run"
    call_command("train_mildnet", "--resume", str(folder), verbosity=0)
    assert len(history_of(folder)) == 3
    trained = ModelVersion.objects.get(name="chosen").metrics["training"]
    # Three products are set aside: two triplets ask for each, and twelve show one of them beside another query.
    assert (trained["triplets"], trained["validation_triplets"]) == (42, 6)
    assert trained["sides"] == {**trained["sides"], "share": 0.1, "keys": "catalog.Product"}
    assert "leak" not in ModelVersion.objects.get(name="chosen").metrics["evaluation"]
    counts = json.loads((folder / "run.json").read_text())["data"]["train"]
    assert set(counts["positive_types"]) == {"clicked"} and set(counts["negative_types"]) == {"skipped"}
    kept = [len(read_triplets(folder / f"{name}.csv", tmp_path / "c" / "photos")) for name in ("train", "validation")]
    assert kept == [42, 6]
