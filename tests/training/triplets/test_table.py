import unicodedata
from pathlib import Path

import numpy as np
import pytest

from shop_similarity.training.triplets.exploration import Products
from shop_similarity.training.triplets.photo_hashes import Picture
from shop_similarity.training.triplets.table import (
    TripletError,
    Triplets,
    components,
    read_triplets,
    without_copies,
    write_triplets,
)

NAMES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "shoes/e é.jpg", "shoes/f, g.jpg")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "photos"
    (folder / "shoes").mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(b"a file")
    return folder


@pytest.fixture
def read(root, tmp_path):
    def read(content):
        path = tmp_path / "train.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_triplets(path, root)

    return read


def named(triplets):
    return [tuple(triplets.images[place] for place in row) for row in triplets.rows]


def test_the_papers_form_has_no_header(read, root):
    triplets = read("a.jpg,b.jpg,c.jpg\na.jpg,b.jpg,d.jpg\n")
    assert named(triplets) == [("a.jpg", "b.jpg", "c.jpg"), ("a.jpg", "b.jpg", "d.jpg")]
    assert triplets.rows.dtype == np.int32
    assert triplets.paths() == [root / name for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")]
    assert not triplets.in_class().any() and not triplets.out_of_class().any()


def test_a_header_names_columns_in_any_order_and_others_are_ignored(read):
    triplets = read(
        "note,Negative,query,positive,negative_type,positive_type,query_group,negative_group\n"
        "x,c.jpg,a.jpg,b.jpg,in_class_hard,instance_view,g1,g2\n"
        "y,d.jpg,a.jpg,b.jpg,out_of_class,similar,g1,g3\n"
    )
    assert named(triplets) == [("a.jpg", "b.jpg", "c.jpg"), ("a.jpg", "b.jpg", "d.jpg")]
    assert triplets.in_class().tolist() == [True, False]
    assert triplets.out_of_class().tolist() == [False, True]
    assert triplets.positive_type.tolist() == ["instance_view", "similar"]
    assert triplets.negative_group.tolist() == ["g2", "g3"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa.jpg,b.jpg,c.jpg\n",
        b"\xef\xbb\xbfquery,positive,negative\r\na.jpg,b.jpg,c.jpg\r\n",
        b"\r\n\r\na.jpg,b.jpg,c.jpg\r\n\r\n,,\r\n",
        b"a.jpg,b.jpg,c.jpg",
        b'"a.jpg", "b.jpg",c.jpg \n',
        b"./a.jpg,.//b.jpg,c.jpg\n",
    ],
)
def test_marks_blank_lines_quotes_and_line_ends_do_not_matter(read, content):
    assert named(read(content)) == [("a.jpg", "b.jpg", "c.jpg")]


def test_names_may_hold_commas_and_accents(read):
    assert named(read('a.jpg,"shoes/f, g.jpg",shoes/e é.jpg\n')) == [("a.jpg", "shoes/f, g.jpg", "shoes/e é.jpg")]


def test_a_first_row_of_real_names_is_never_taken_for_a_header(read, root):
    for name in ("query", "positive", "negative"):
        (root / name).write_bytes(b"a file")
    assert named(read("query,positive,negative\na.jpg,b.jpg,c.jpg\n")) == [
        ("query", "positive", "negative"),
        ("a.jpg", "b.jpg", "c.jpg"),
    ]


def test_repeated_rows_are_dropped_and_mentioned(read):
    triplets = read("a.jpg,b.jpg,c.jpg\na.jpg,b.jpg,d.jpg\na.jpg,b.jpg,c.jpg\n./a.jpg,b.jpg,c.jpg\n")
    assert len(triplets) == 2
    assert triplets.notices == ("2 rows of train.csv repeated an earlier one and were dropped (lines 3, 4).",)
    assert read("a.jpg,b.jpg,c.jpg\n").notices == ()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        (" \r\n\n", "is empty"),
        ("query,positive,negative\n", "holds no triplet"),
        ("a.jpg,b.jpg\n", r"1 x 2 columns instead of 3: line 1 “a.jpg,b.jpg”\. Write three columns"),
        ("query,positive\na.jpg,b.jpg\n", r"Name the columns query, positive and negative in the first line"),
        ("a.jpg b.jpg c.jpg\n", r"1 column instead of 3: .*with commas between"),
        ("a.jpg,b.jpg,c.jpg,d.jpg\n", "4 columns instead of 3"),
        ("a.jpg,,c.jpg\n", r"an empty cell: line 1 \(positive\)"),
        ("a.jpg,a.jpg,c.jpg\n", "the query is its own positive: line 1 “a.jpg”"),
        ("a.jpg,./a.jpg,c.jpg\n", "the query is its own positive"),
        ("a.jpg,b.jpg,a.jpg\n", "the query is its own negative"),
        ("a.jpg,b.jpg,b.jpg\n", "the positive is the negative too"),
        ("a.jpg,b.jpg,../photos/c.jpg\n", "leaves the folder of the photos: line 1"),
        ("/etc/passwd,b.jpg,c.jpg\n", "leaves the folder of the photos: line 1"),
        ("C:\\photos\\a.jpg,b.jpg,c.jpg\n", "leaves the folder of the photos: line 1"),
        ("a.jpg,b.jpg,z.jpg\n", "no such file below .*: line 1 “z.jpg”"),
        ("a.jpg,b.jpg,shoes\n", "no such file below .*: line 1 “shoes”"),
        ("a.jpg,b.jpg," + "z" * 5000 + "\n", "no such file"),
        ("a.jpg,b.jpg,\0.jpg\n", "no such file"),
        ('a.jpg,"b.jpg,c.jpg\nd.jpg,a.jpg,b.jpg\n', "Close every quotation mark"),
        ('a.jpg,"b\n.jpg",c.jpg\n', r"spans several lines: line 1"),
        (b"\xff\xd8\xff\xe0" + bytes(range(256)), "not UTF-8"),
    ],
)
def test_what_is_wrong_is_said(read, content, sentence):
    with pytest.raises(TripletError, match=sentence):
        read(content)


def test_everything_wrong_in_a_file_is_in_one_report(read):
    rows = ["a.jpg,b.jpg,c.jpg", "a.jpg,b.jpg", "a.jpg,,c.jpg", "a.jpg,a.jpg,c.jpg"]
    rows += [f"a.jpg,b.jpg,gone-{number}.jpg" for number in range(1200)]
    with pytest.raises(TripletError) as caught:
        read("\n".join(rows))
    report = str(caught.value)
    assert "1,204 triplets were read" in report
    assert [problem.count for problem in caught.value.problems] == [1, 1, 1, 1200]
    assert "1,200 x no such file" in report
    assert "line 5 “gone-0.jpg”" in report and "gone-5.jpg" not in report
    assert len(report.splitlines()) == 5


def test_a_line_number_counts_lines_not_rows(read):
    with pytest.raises(TripletError, match=r"line 4 “z\.jpg”"):
        read("query,positive,negative\n\n\na.jpg,b.jpg,z.jpg\n")


def test_missing_file_and_folder_are_said(tmp_path):
    with pytest.raises(TripletError, match=r"no file .*none\.csv"):
        read_triplets(tmp_path / "none.csv")
    with pytest.raises(TripletError, match="no folder"):
        read_triplets(tmp_path / "none.csv", tmp_path / "none")
    with pytest.raises(TripletError, match="can't be read"):
        read_triplets(tmp_path)


def test_what_is_written_is_read_back(read, root, tmp_path):
    for content in (
        'a.jpg,"shoes/f, g.jpg",shoes/e é.jpg\n',
        "query,positive,negative,negative_type,query_group\na.jpg,b.jpg,c.jpg,in_class,g1\nb.jpg,a.jpg,d.jpg,,\n",
    ):
        triplets = read(content)
        write_triplets(triplets, tmp_path / "out.csv")
        again = read_triplets(tmp_path / "out.csv", root)
        assert again.images == triplets.images
        assert np.array_equal(again.rows, triplets.rows)
        assert again.negative_type.tolist() == triplets.negative_type.tolist()
        assert again.query_group.tolist() == triplets.query_group.tolist()


def made(rows, **labels):
    rows = np.array(rows)
    labels = {"positive_type": None, "negative_type": None} | labels
    return Triplets(tuple(f"{place}.jpg" for place in range(rows.max() + 1)), rows, root=None, **labels)


def test_positive_pairs_are_unique_in_order_of_appearance():
    triplets = made([(4, 1, 0), (2, 3, 0), (4, 1, 2), (1, 4, 0)])
    assert triplets.positive_pairs().tolist() == [[4, 1], [2, 3], [1, 4]]
    assert triplets.positive_pairs().dtype == np.int32


def test_groups_are_the_components_of_query_and_positive():
    triplets = made([(0, 4, 1), (4, 2, 1), (3, 5, 6)])
    assert triplets.groups().tolist() == [0, 1, 0, 2, 0, 2, 3]
    assert triplets.groups().dtype == np.int32


def test_components_by_brute_force():
    generator = np.random.default_rng(0)
    for _ in range(20):
        pairs = generator.integers(0, 30, (18, 2))
        reach = np.eye(30, dtype=bool)
        for one, other in pairs:
            reach[one, other] = reach[other, one] = True
        for _ in range(5):
            reach = (reach.astype(int) @ reach.astype(int)) > 0
        found = components(30, pairs)
        assert np.array_equal(found[:, None] == found, reach)
        # Numbered in the order of their first members.
        first = [found.tolist().index(number) for number in range(found.max() + 1)]
        assert first == sorted(first)


def test_selecting_rows_keeps_labels_and_drops_photos_that_nothing_names():
    triplets = made([(0, 1, 2), (3, 1, 4), (5, 6, 0)], negative_type=["in_class", "out_of_class", ""])
    some = triplets.select(np.array([False, True, True]))
    assert named(some) == [("3.jpg", "1.jpg", "4.jpg"), ("5.jpg", "6.jpg", "0.jpg")]
    assert some.images == ("0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg")
    assert some.negative_type.tolist() == ["out_of_class", ""]
    assert named(triplets.select([2, 0])) == [("5.jpg", "6.jpg", "0.jpg"), ("0.jpg", "1.jpg", "2.jpg")]


def test_impossible_triplets_are_refused():
    with pytest.raises(ValueError, match="places in images"):
        Triplets(("a",), np.array([[0, 1, 2]]), None, None, None)
    with pytest.raises(ValueError, match="negative_type"):
        made([(0, 1, 2)], negative_type=["in_class", "in_class"])


def of_bytes(contents, rows, **columns):
    """Triplets of photos, each with its bytes."""
    names = tuple(f"{place}.jpg" for place in range(len(contents)))
    return Triplets(
        names,
        np.array(rows),
        columns.pop("positive_type", None),
        None,
        Path("/photos"),
        pictures=tuple(Picture(content, b"", b"") for content in contents),
        **columns,
    )


def test_photos_of_equal_bytes_are_one_photo():
    # 1 and 4 are copies, as are 2 and 5.
    rows = [[0, 1, 2], [0, 4, 5], [0, 3, 4], [1, 4, 3], [3, 1, 4]]
    found = without_copies(of_bytes("abcdbc", rows, query_group=["g"] * 5))
    assert found.images == ("0.jpg", "1.jpg", "2.jpg", "3.jpg")
    # The second says what the first says; in the last two a photo stands twice.
    assert named(found) == [("0.jpg", "1.jpg", "2.jpg"), ("0.jpg", "3.jpg", "1.jpg")]
    assert [picture.sha256 for picture in found.pictures] == list("abcd") and found.notices == ()
    assert found.query_group.tolist() == ["g", "g"]


def test_a_photo_of_the_very_product_is_no_negative():
    rows = [[0, 1, 4], [1, 2, 4], [0, 3, 2], [3, 0, 1], [3, 4, 2]]
    kinds = ["instance_view", "instance_view", "similar", "instance_colour", "similar"]
    found = without_copies(of_bytes("abcde", rows, positive_type=kinds))
    # 0, 1 and 2 are one product by two rows: it is no negative of 0, nor beside 0 as a positive.
    assert named(found) == [("0.jpg", "1.jpg", "4.jpg"), ("1.jpg", "2.jpg", "4.jpg"), ("3.jpg", "4.jpg", "2.jpg")]
    assert found.notices == (
        "2 triplets were left out: the negative is a photo of the product that the query or the positive shows.",
    )


def test_a_photo_is_of_the_groups_that_its_rows_name():
    triplets = of_bytes(
        "abcdef",
        [[0, 1, 2], [0, 3, 4], [4, 5, 0]],
        positive_type=["instance_view", "similar", "instance_colour"],
        query_group=["g", "g", "h"],
        positive_group=["", "k", "m"],
        negative_group=["k", "", "g"],
    )
    memberships, names = triplets.memberships
    found = {(triplets.images[photo][0], names[group]) for photo, group in memberships.tolist()}
    assert found == {("0", "g"), ("1", "g"), ("2", "k"), ("3", "k"), ("4", "h"), ("5", "m")}
    assert triplets.group_names() == {"g", "h", "k", "m"}
    assert len(of_bytes("abc", [[0, 1, 2]]).memberships[0]) == 0
    assert len(triplets.select([]).memberships[0]) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"sep=;\r\nquery;positive;negative\r\na.jpg;b.jpg;sub/c.jpg\r\n",
        b"sep=;\na.jpg;b.jpg;sub/c.jpg\n",
        b'"sep=,"\na.jpg,b.jpg,sub/c.jpg\n',
        b"a.jpg\tb.jpg\tsub/c.jpg\n",
        b"a.jpg;b.jpg;sub/c.jpg\n",
        "sep=\t\nquery\tpositive\tnegative\na.jpg\tb.jpg\tsub/c.jpg\n".encode("utf-16"),
        b"query;positive;negative;a,note\na.jpg;b.jpg;sub/c.jpg;x,y\n",
        b"\xef\xbb\xbfsep=;\na.jpg;b.jpg;sub/c.jpg\n",
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, content):
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        (tmp_path / name).touch()
    path = tmp_path / "triplets.csv"
    path.write_bytes(content)
    triplets = read_triplets(path)
    assert triplets.images == ("a.jpg", "b.jpg", "sub/c.jpg")
    assert triplets.rows.tolist() == [[0, 1, 2]]


def test_line_numbers_count_the_line_that_names_the_delimiter(tmp_path):
    path = tmp_path / "triplets.csv"
    path.write_bytes(b"sep=;\nquery;positive;negative\na.jpg;b.jpg;c.jpg\n")
    with pytest.raises(TripletError, match=r"line 3 .a\.jpg"):
        read_triplets(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_photos_are_found_however_their_names_are_written(tmp_path, encoding, form):
    named, on_disk = ("caf\u00e9/gr\u00fcn.jpg", "Stra\u00dfe.JPG", "c.jpg"), []
    for name in named:
        path = tmp_path / unicodedata.normalize(form, name)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        on_disk.append(path.relative_to(tmp_path).as_posix())
    path = tmp_path / "triplets.csv"
    path.write_bytes("caf\u00e9/gr\u00fcn.jpg;stra\u00dfe.jpg;C.JPG\n".encode(encoding))
    triplets = read_triplets(path)
    assert triplets.images == tuple(on_disk)
    products = Products({"CAF\u00c9/gr\u00fcn.jpg": "cups"}, {}).below(tmp_path)
    assert products.category == {on_disk[0]: "cups"}


def test_of_two_photos_that_differ_in_case_the_exact_one_counts_and_none_is_guessed(tmp_path):
    for name in ("a.jpg", "A.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    path = tmp_path / "triplets.csv"
    path.write_text("A.jpg,b.jpg,c.jpg\na.jpg,b.jpg,c.jpg\n", encoding="utf-8")
    assert read_triplets(path).images == ("A.jpg", "b.jpg", "c.jpg", "a.jpg")
    path.write_text("A.JPG,b.jpg,c.jpg\n", encoding="utf-8")
    with pytest.raises(TripletError, match="no such file"):
        read_triplets(path)
    path.write_text("B.jpg,b.jpg,c.jpg\n", encoding="utf-8")
    with pytest.raises(TripletError, match="its own positive"):
        read_triplets(path)
