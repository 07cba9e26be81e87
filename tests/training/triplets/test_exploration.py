"""Data sets with known faults, and the command that reports on them."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from shop_similarity.training.report.exploration_page import write_exploration
from shop_similarity.training.triplets.exploration import Products, explore
from shop_similarity.training.triplets.leakage import overlap, usable
from shop_similarity.training.triplets.table import TripletError
from tests.shop_similarity.drawn_photos import products
from tests.training.report_runs import HOSTILE

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "photos"
HEADER = ("query", "positive", "negative", "positive_type", "negative_type", "query_group", "negative_group")


def write_csv(path, rows, header=HEADER):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def folder(tmp_path):
    """Two photos of each of eight products as 0-0.jpg, 0-1.jpg, 1-0.jpg and so on, and two CSV files with faults."""
    for place, product in enumerate(products(8)):
        for seed in range(2):
            (tmp_path / f"{place}-{seed}.jpg").write_bytes(product.photo((120, 240 if place == 7 else 120), seed))
    shutil.copy(tmp_path / "0-0.jpg", tmp_path / "copy.jpg")
    with Image.open(tmp_path / "1-0.jpg") as photo:
        photo.resize((100, 100)).save(tmp_path / "resized.jpg", quality=80)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no photo")
    train = [
        ("0-0.jpg", "0-1.jpg", "1-0.jpg", "view", "in_class", "g0", "g1"),
        ("0-0.jpg", "0-1.jpg", "2-0.jpg", "view", "out_of_class", "g0", "g2"),
        ("1-0.jpg", "1-1.jpg", "2-1.jpg", "view", "out_of_class", "g1", "g2"),
        ("2-0.jpg", "2-1.jpg", "3-0.jpg", "view", "in_class", "g2", "g3"),
        ("copy.jpg", "0-0.jpg", "3-0.jpg", "view", "in_class", "g0", "g3"),
        ("3-0.jpg", "broken.jpg", "2-0.jpg", "view", "in_class", "g3", "g2"),
        ("3-0.jpg", "absent.jpg", "2-0.jpg", "view", "in_class", "g3", "g2"),
        ("3-0.jpg", "3-0.jpg", "2-0.jpg", "view", "in_class", "g3", "g2"),
    ]
    validation = [
        ("4-0.jpg", "4-1.jpg", "5-0.jpg", "view", "in_class", "g4", "g5"),
        ("5-0.jpg", "5-1.jpg", "0-1.jpg", "view", "in_class", "g5", "g0"),
        ("6-0.jpg", "6-1.jpg", "resized.jpg", "view", "in_class", "g6", "g1b"),
        ("7-0.jpg", "7-1.jpg", "5-0.jpg", "view", "in_class", "g7", "g5"),
    ]
    write_csv(tmp_path / "train.csv", train)
    write_csv(tmp_path / "validation.csv", validation)
    images = [f"{place}-{seed}.jpg" for place in range(8) for seed in range(2)]
    kinds = [(name, products(8)[int(name[0])].kind, f"p{int(name[0]) % 7}") for name in images]
    write_csv(tmp_path / "products.csv", kinds, ("image", "category", "group_id"))
    return tmp_path


def test_counts_faults_and_balance(folder):
    seen = []
    found = explore(
        folder / "train.csv", products=Products.read(folder / "products.csv"), progress=lambda *step: seen.append(step)
    )
    figures = found.to_dict()
    assert (figures["triplets"], figures["in_class"], figures["out_of_class"]) == (7, 5, 2)
    assert figures["unreadable_photos"] == 2, "a broken and a missing one"
    assert figures["problems"] == {"the query is its own positive": 1, "photo that can't be used": 2}
    assert figures["categories"]["(none)"] == 3, "copy, broken and absent are not in the products' file"
    assert figures["categories"][products(8)[0].kind] == 2
    assert figures["query_categories"][products(8)[0].kind] == 2
    assert figures["per_query"]["triplets"] == {"smallest": 1, "median": 1.0, "largest": 2}
    assert figures["per_query"]["positives"]["largest"] == 2
    assert figures["duplicates"] == {"same_bytes": 1, "near": 0, "triplets_with_one_picture_twice": 1}
    assert figures["small_photos"] == 8 == figures["aspect_ratios"]["about square"]
    assert seen[-1] == ("train", 10, 10)
    json.dumps(figures)
    told = "\n".join(found.lines())
    assert "the query is its own positive" in told and "“broken.jpg”" in told and "“0-0.jpg” = “copy.jpg”" in told


def test_without_faults_and_without_products(folder):
    rows = [("0-0.jpg", "0-1.jpg", "1-0.jpg"), ("1-0.jpg", "1-1.jpg", "7-0.jpg")]
    found = explore(write_csv(folder / "plain.csv", rows, ("query", "positive", "negative")))
    assert found.problems == () and found.categories == {} == found.groups
    assert found.to_dict()["aspect_ratios"] == {"upright": 1, "about square": 4, "wide": 0, "very narrow or wide": 0}
    assert "No photo stands there twice" in found.lines()[-1]


def test_what_leaks_from_training_into_validation(folder):
    known = Products.read(folder / "products.csv")
    train, validation = (explore(folder / f"{name}.csv", products=known, name=name) for name in ("train", "validation"))
    shared = overlap(usable(train), usable(validation), known)
    assert shared.leakage.same_file == (("0-1.jpg", "0-1.jpg"),)
    assert shared.leakage.same_group == ("g0",)
    assert shared.near == (("1-0.jpg", "resized.jpg"),) and shared.near_triplets == 1
    assert shared.product_groups == ("p0",), "products 0 and 7 are of one group"
    assert shared.to_dict()["near_duplicates"] == 1 and shared
    assert "“1-0.jpg” ~ “resized.jpg”" in "\n".join(shared.lines())
    other = explore(write_csv(folder / "v.csv", [("4-0.jpg", "4-1.jpg", "5-0.jpg", *[""] * 4)]))
    clean = overlap(usable(train), usable(other))
    assert not clean and clean.lines() == ["No photo stands in both the training and the validation set."]


def test_a_file_of_which_nothing_can_be_used(folder):
    path = write_csv(folder / "bad.csv", [("a.jpg", "a.jpg", "b.jpg")], ("query", "positive", "negative"))
    with pytest.raises(TripletError, match="its own positive"):
        explore(path)
    found = explore(write_csv(folder / "none.csv", [("a.jpg", "b.jpg", "c.jpg")], ("query", "positive", "negative")))
    assert found.to_dict()["unreadable_photos"] == 3, "all missing is told, not raised"
    assert not overlap(usable(found), usable(found)).near
    assert "3 x photo that can't be used" in "\n".join(found.lines())


@pytest.mark.parametrize("content", ["image\n", "picture,category\na,b\n", ""])
def test_products_without_the_columns(tmp_path, content):
    (tmp_path / "products.csv").write_text(content)
    with pytest.raises(TripletError, match="columns image and category"):
        Products.read(tmp_path / "products.csv")
    with pytest.raises(TripletError, match="can't be read"):
        Products.read(tmp_path / "absent.csv")


def run(*arguments):
    out = io.StringIO()
    call_command("explore_triplets", *map(str, arguments), stdout=out)
    return out.getvalue()


def test_the_command(folder, capsys):
    files = ("--triplets", folder / "train.csv", "--validation", folder / "validation.csv")
    page = folder / "out" / "page.html"
    out = run(*files, "--products", folder / "products.csv", "--html", page, "--json")
    figures = json.loads(out.splitlines()[-1])
    assert figures["train"]["triplets"] == 7 and figures["overlap"]["same_file"] == 1
    assert "Between the two" in out and "too good" in out
    assert "10/10" in capsys.readouterr().err, "the progress bar"
    text = page.read_text(encoding="utf-8")
    assert "Photos on both sides" in text and text.count("data:image/jpeg") >= 8


def test_the_command_says_what_is_wrong(folder):
    with pytest.raises(CommandError, match="There is no file"):
        run("--triplets", folder / "absent.csv")
    with pytest.raises(CommandError, match="can't be read"):
        run("--triplets", folder / "train.csv", "--products", folder / "absent.csv")
    with pytest.raises(CommandError, match="could not be written"):
        run("--triplets", folder / "train.csv", "--html", folder / "train.csv" / "page.html")


@pytest.mark.browser
def test_the_page_opens_from_a_file(folder, chromium, tmp_path):
    name = HOSTILE.replace("/", "∕") + ".jpg"
    shutil.copy(folder / "0-0.jpg", folder / name)
    rows = [(name, "0-1.jpg", "1-0.jpg"), ("0-0.jpg", "2-0.jpg", "3-0.jpg")]
    found = explore(write_csv(folder / "hostile.csv", rows, ("query", "positive", "negative")))
    page = write_exploration(tmp_path / "page.html", [found])
    tab = chromium.new_page()
    trouble = []
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("dialog", lambda dialog: (trouble.append("alert"), dialog.dismiss()))
    tab.goto(page.as_uri())
    assert tab.locator("img").count() == 3, "two triplets and a pair of equal bytes"
    assert tab.locator("img").evaluate_all("all => all.every(img => img.complete && img.naturalWidth > 100)")
    assert trouble == []
    tab.close()


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared photos are not here")
def test_real_photos():
    train = explore(SHARED / "triplets_train.csv", products=Products.read(SHARED / "products.csv"))
    validation = explore(SHARED / "triplets_val.csv")
    assert (train.counts.triplets, validation.counts.triplets) == (16450, 1638)
    assert train.problems == () and not overlap(usable(train), usable(validation))
    assert 0 < len(train.near) < 30
    assert np.all(train.sizes().max(axis=1) <= 320)
