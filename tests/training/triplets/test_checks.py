import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shop_similarity.photos.decoding import ImageLimits
from shop_similarity.training.photos.feature_cache import content_digests
from shop_similarity.training.triplets.checks import count_triplets, load_triplets
from shop_similarity.training.triplets.leakage import check_leakage
from shop_similarity.training.triplets.table import TripletError, Triplets, read_triplets, write_triplets
from tests.shop_similarity.drawn_photos import products

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "photos"


@pytest.fixture
def triplets(tmp_path):
    names = []
    for number, product in enumerate(products(6)):
        names.append(f"{number}.jpg")
        (tmp_path / names[-1]).write_bytes(product.photo((80 + number, 60)))
    return Triplets(
        tuple(names),
        np.array([(0, 1, 2), (0, 1, 3), (4, 5, 2), (1, 0, 5)]),
        positive_type=["instance_view", "similar", "similar", ""],
        negative_type=["in_class", "in_class_hard", "out_of_class", ""],
        root=tmp_path,
    )


def checked(triplets, *arguments, **options):
    """The same read from a file, and what is said of its photos."""
    path = triplets.root.parent / "checked.csv"
    write_triplets(triplets, path)
    return load_triplets(path, triplets.root, *arguments, **options)


def leakage(train, validation):
    (train, train_report), (validation, validation_report) = checked(train), checked(validation)
    return check_leakage(train, validation, train_report.sha256, validation_report.sha256)


def test_counts_by_class_and_type(triplets):
    counts = count_triplets(triplets)
    assert (counts.triplets, counts.images, counts.queries, counts.positives, counts.negatives) == (4, 6, 3, 3, 3)
    assert (counts.in_class, counts.out_of_class, counts.unknown_class, counts.positive_pairs) == (2, 1, 1, 3)
    assert counts.positive_types == {"similar": 2, "(none)": 1, "instance_view": 1}
    assert "2 in-class, 1 out-of-class, 1 not known" in str(counts)
    plain = replace(triplets, positive_type=None, negative_type=None)
    assert count_triplets(plain).negative_types == {}
    assert "in-class" not in str(count_triplets(plain))


def test_nobody_has_opened_a_photo_before(triplets):
    """Pillow knows no format until it is told to."""
    path = triplets.root.parent / "first.csv"
    write_triplets(triplets, path)
    said = subprocess.run(
        [sys.executable, "-m", "tests.training.triplets.first_photos", str(path), str(triplets.root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.stdout.split() == ["6", "photos,", "81", "x", "60"], said.stderr


def test_good_photos_are_measured(triplets):
    seen = []
    _, report = checked(triplets, lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]
    assert report.sizes.tolist() == [[80 + number, 60] for number in range(6)]
    assert report.file_bytes.tolist() == [path.stat().st_size for path in triplets.paths()]
    assert len(set(report.sha256)) == 6 and report.sound.all() and report.notices == ()
    assert "longest sides from 80 to 85 pixels" in str(report)


def spoil(triplets):
    """One photo of each kind that can't be used: 0 missing, 1 cut off, 2 no photo, 3 too large, 4 empty."""
    root = triplets.root
    (root / "0.jpg").unlink()
    (root / "1.jpg").write_bytes((root / "1.jpg").read_bytes()[:500])
    (root / "2.jpg").write_text("<html>not found</html>")
    Image.new("RGB", (400, 300)).save(root / "3.jpg")
    (root / "4.jpg").write_bytes(b"")


def test_all_that_is_missing_or_unreadable_is_in_one_report(triplets):
    spoil(triplets)
    with pytest.raises(TripletError) as caught:
        checked(triplets, limits=ImageLimits(max_pixels=50_000))
    report = str(caught.value)
    assert "5 of 6 photos" in report and "4 of 4 triplets need them" in report
    assert {problem.what: problem.count for problem in caught.value.problems} == {
        "photo that is not there": 1,
        "photo that can't be decoded": 2,
        "file that is no photo of an allowed type": 1,
        "photo that is too large": 1,
    }
    for number in range(5):
        assert f"“{number}.jpg”" in report
    assert "“5.jpg”" not in report


def test_bad_rows_and_bad_photos_are_reported_together_with_their_lines(triplets):
    spoil(triplets)
    path = triplets.root / "train.csv"
    path.write_text("0.jpg,1.jpg,2.jpg\n0.jpg,1.jpg\n3.jpg,4.jpg,5.jpg\n5.jpg,5.jpg,1.jpg\n")
    with pytest.raises(TripletError) as caught:
        load_triplets(path)
    report = str(caught.value)
    assert "4 triplets were read" in report and "4 of 6 photos" in report
    for part in ("2 columns instead of 3: line 2", "its own positive: line 4", "line 1 “0.jpg”", "line 3 “4.jpg”"):
        assert part in report
    (triplets.root / "good.csv").write_text("3.jpg,5.jpg,6.jpg\n")
    (triplets.root / "6.jpg").write_bytes(products(9)[7].photo())
    loaded, images = load_triplets(triplets.root / "good.csv")
    assert loaded.images == ("3.jpg", "5.jpg", "6.jpg") and images.counts.triplets == 1


def test_equal_bytes_under_two_names_are_noticed(triplets):
    (triplets.root / "1.jpg").write_bytes((triplets.root / "0.jpg").read_bytes())
    _, report = checked(triplets)
    assert len(set(report.sha256)) == 5
    assert report.sound.tolist() == [False, False, True, False]
    assert "1 photo has the same bytes as another: “1.jpg” = “0.jpg”." in report.notices
    assert any(notice.startswith("In 3 triplets two of the three photos") for notice in report.notices)


def test_statements_that_work_against_each_other_are_noticed(triplets):
    against = replace(triplets, rows=np.array([(0, 1, 2), (0, 2, 3), (4, 5, 2), (1, 3, 0)]))
    notices = " ".join(checked(against)[1].notices)
    assert "In 2 triplets the negative is a positive of the same query elsewhere" in notices
    grouped = replace(triplets, query_group=["a", "a", "b", ""], negative_group=["a", "c", "c", ""])
    assert "In 1 triplets query and negative are of the same group, such as “a”" in " ".join(
        checked(grouped)[1].notices
    )


def test_leakage_by_path_bytes_and_group(triplets, tmp_path):
    train, validation = triplets.select([0]), triplets.select([2])
    assert train.images == ("0.jpg", "1.jpg", "2.jpg") and validation.images == ("2.jpg", "4.jpg", "5.jpg")
    (triplets.root / "4.jpg").write_bytes((triplets.root / "1.jpg").read_bytes())
    (triplets.root / "link").symlink_to(triplets.root, target_is_directory=True)
    validation = replace(validation, root=triplets.root / "link", query_group=["g"])
    train = replace(train, negative_group=["g"])
    found = leakage(train, validation)
    assert found.same_file == (("2.jpg", "2.jpg"),)
    assert found.same_bytes == (("1.jpg", "4.jpg"),)
    assert found.same_group == ("g",)
    assert found and found.validation_triplets == 1
    assert "1 of 1 validation triplets" in str(found) and "“1.jpg” = “4.jpg”" in str(found)


def test_sets_without_a_common_photo_do_not_leak(triplets):
    train, validation = triplets.select([0]), replace(triplets, rows=[(3, 4, 5)] * 4).select([0])
    assert validation.images == ("3.jpg", "4.jpg", "5.jpg")
    found = leakage(train, validation)
    assert not found
    assert str(found) == "No photo stands in both the training and the validation set."


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared photos are not here")
def test_thousands_of_real_photos():
    train = read_triplets(SHARED / "triplets_train.csv")
    assert (len(train), len(train.images)) == (16_450, 3_653)
    plain = read_triplets(SHARED / "mildnet_train.csv")
    assert np.array_equal(plain.rows, train.rows) and plain.images == train.images
    _, report = load_triplets(SHARED / "triplets_train.csv")
    assert (report.counts.in_class, report.counts.out_of_class) == (9_330, 7_120)
    validation = read_triplets(SHARED / "triplets_val.csv")
    digests = [content_digests(each.paths()) for each in (train, validation)]
    assert not check_leakage(train, validation, *digests)
