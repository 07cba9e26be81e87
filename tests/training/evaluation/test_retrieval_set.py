import shutil

import numpy as np
import pytest

from shop_similarity.training.evaluation.retrieval_set import RetrievalSet, RetrievalSetError
from tests.shop_similarity.drawn_photos import products

QUERIES = "query_id,image\nm0,images/mug-0.jpg\nnew,images/new.jpg\n"
GALLERY = "gallery_id,image\nm0,images/mug-0.jpg\nm1,images/mug-1.jpg\ncopy,images/new.jpg\ns0,images/shirt-0.jpg\n"
QRELS = "query_id,gallery_id,relevance\nm0,m0,2\nm0,m1,1\nnew,s0,2\nnew,m1,0\n"


@pytest.fixture
def folder(tmp_path):
    """A set beside its images, as a folder of data has it."""
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    for name, drawn in zip(("mug-0", "mug-1", "new", "shirt-0"), products(4), strict=True):
        (images / f"{name}.jpg").write_bytes(drawn.photo(size=(32, 32)))
    found = tmp_path / "data" / "check"
    write(found)
    return found


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in {"queries": QUERIES, "gallery": GALLERY, "qrels": QRELS, **files}.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")


def test_a_set_is_read(folder):
    found = RetrievalSet.read(folder)
    assert [path.name for path in found.paths] == ["mug-0.jpg", "new.jpg", "mug-1.jpg", "shirt-0.jpg"]
    assert found.queries.tolist() == [0, 1]
    assert found.gallery.tolist() == [0, 2, 1, 3]
    assert found.relevance.tolist() == [[2, 1, 0, 0], [0, 0, 0, 2]]
    assert found.relevance.dtype == np.int8
    # m0 by its id, new by its photo, which the gallery has under another id.
    assert found.left_out.tolist() == [[True, False, False, False], [False, False, True, False]]
    assert found.answerable() == 2
    # m0's exact hit is m0 itself.
    assert found.answerable(2) == 1


def test_images_may_lie_in_the_folder_beside_it_or_elsewhere(folder, tmp_path):
    inside = tmp_path / "inside"
    shutil.copytree(folder.parent / "images", inside / "images")
    write(inside)
    alone = tmp_path / "alone"
    write(alone)
    with pytest.raises(RetrievalSetError, match=r"4 of the 4 photos .*--images"):
        RetrievalSet.read(alone)
    found = [RetrievalSet.read(folder), RetrievalSet.read(inside), RetrievalSet.read(alone, images=folder.parent)]
    assert len({one.paths[0] for one in found}) == 2
    assert len({one.sha256 for one in found}) == 1


def test_the_name_follows_the_contents(folder):
    before = RetrievalSet.read(folder).sha256
    write(folder, qrels=QRELS.replace("m1,1", "m1,2"))
    judged = RetrievalSet.read(folder).sha256
    write(folder)
    assert RetrievalSet.read(folder).sha256 == before
    (folder.parent / "images" / "mug-1.jpg").write_bytes(products(9)[8].photo(size=(32, 32)))
    assert len({before, judged, RetrievalSet.read(folder).sha256}) == 3


def test_further_columns_blank_lines_and_a_byte_order_mark_do_no_harm(folder):
    write(
        folder,
        queries="\ufeff" + QUERIES.replace("\n", "\n\n"),
        gallery="kind,image,gallery_id\n" + "".join(f"x,{b},{a}\n" for a, b in pairs(GALLERY)),
    )
    assert RetrievalSet.read(folder).relevance.tolist() == [[2, 1, 0, 0], [0, 0, 0, 2]]


def pairs(text):
    return [line.split(",") for line in text.splitlines()[1:]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"queries": QUERIES.replace("query_id", "id")}, "queries.csv lacks the column query_id"),
        ({"qrels": "m0,m1,1\n"}, "lacks the column query_id and gallery_id and relevance"),
        ({"gallery": ""}, "gallery.csv lacks the column"),
        ({"gallery": "gallery_id,image\n"}, "no rows"),
        ({"queries": QUERIES + "x\n"}, "line 4"),
        ({"gallery": GALLERY + "m1,images/mug-1.jpg\n"}, "ids more than once: m1"),
        ({"qrels": QRELS + "m7,m1,1\n"}, "queries that queries.csv lacks: m7"),
        ({"qrels": QRELS + "m0,m7,1\nm0,m8,1\n"}, "gallery ids that gallery.csv lacks: m7, m8"),
        ({"qrels": QRELS + "m0,s0,3\n"}, "relevance must be 2 .* not 3"),
        ({"qrels": QRELS + "m0,s0,yes\n"}, "not yes"),
        ({"qrels": QRELS + "m0,m1,2\n"}, "twice and differently: m0 and m1"),
        ({"gallery": GALLERY + "s9,images/gone.jpg\n"}, r"1 of the 5 photos .*images/gone.jpg"),
        ({"qrels": "query_id,gallery_id,relevance\nm0,m0,2\n"}, "nothing to find"),
        ({"qrels": "query_id,gallery_id,relevance\nnew,copy,2\nm0,m1,0\n"}, "nothing to find"),
    ],
)
def test_what_is_wrong_is_said(folder, files, message):
    write(folder, **files)
    with pytest.raises(RetrievalSetError, match=message):
        RetrievalSet.read(folder)


def test_missing_folders_files_and_text_that_is_none(folder):
    with pytest.raises(RetrievalSetError, match="There is no folder"):
        RetrievalSet.read(folder / "none")
    (folder / "qrels.csv").write_bytes(b"query_id,gallery_id,relevance\n\x81\xfe,m1,1\n")
    with pytest.raises(RetrievalSetError, match="UTF-8"):
        RetrievalSet.read(folder)
    (folder / "qrels.csv").unlink()
    with pytest.raises(RetrievalSetError, match=r"no qrels.csv in"):
        RetrievalSet.read(folder)


def test_long_lists_of_trouble_are_cut(folder):
    write(folder, qrels=QRELS + "".join(f"q{number},m1,1\n" for number in range(20)))
    with pytest.raises(RetrievalSetError, match="q4 and 15 more"):
        RetrievalSet.read(folder)


COLUMNS = "image,product_id,category,colour\n"
LOOKS = """m0,images/mug-0.jpg,mug,cup,red
m1,images/mug-1.jpg,mug,cup,red
n,images/new.jpg,new mug,cup,red
s0,images/shirt-0.jpg,shirt,cup,blue
"""


@pytest.fixture
def looks(folder):
    """Three photos of red cups, two of them of one product, and one of a blue cup; each asks."""
    (folder / "qrels.csv").unlink()
    write_looks(folder)
    return folder


def write_looks(folder, rows=LOOKS, columns=COLUMNS):
    (folder / "queries.csv").write_text(f"query_id,{columns}{rows}", encoding="utf-8")
    (folder / "gallery.csv").write_text(f"gallery_id,{columns}{rows}", encoding="utf-8")


def test_look_alikes_are_other_products_of_the_category_and_exact_ones_of_its_colour(looks):
    found = RetrievalSet.read(looks, look_alike=True)
    assert found.relevance.tolist() == [[2, 2, 2, 1], [2, 2, 2, 1], [2, 2, 2, 1], [1, 1, 1, 2]]
    # m0 and m1 are photos of one product: neither hit nor miss for each other.
    assert found.left_out.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert (found.answerable(), found.answerable(2)) == (4, 3)


def test_what_is_not_known_is_nothing_s_like(looks):
    write_looks(looks, LOOKS.replace("new mug,cup,red", ",cup,").replace("shirt,cup", ","))
    with pytest.raises(RetrievalSetError, match="no exact hit"):
        RetrievalSet.read(looks, look_alike=True)
    write_looks(looks, LOOKS.replace("mug,cup,red", ",cup,red").replace("shirt,cup", ","))
    found = RetrievalSet.read(looks, look_alike=True)
    # Rows without a product are of different ones, rows without a category of none.
    assert found.left_out.tolist() == np.eye(4, dtype=bool).tolist()
    assert found.relevance[3].tolist() == [0, 0, 0, 0]


def test_judgements_of_a_look_alike_set_may_be_given(looks):
    (looks / "qrels.csv").write_text("query_id,gallery_id,relevance\nm0,m1,2\nm0,s0,2\nn,m0,1\n")
    found = RetrievalSet.read(looks, look_alike=True)
    assert found.relevance.tolist() == [[0, 2, 0, 2], [0] * 4, [1, 0, 0, 0], [0] * 4]
    assert found.left_out[0].tolist() == [True, True, False, False]


def test_a_look_alike_set_must_name_products(folder):
    with pytest.raises(RetrievalSetError, match=r"lacks the column product_id: .*query_id,image,product_id"):
        RetrievalSet.read(folder, look_alike=True)


def test_an_instance_set_does_not_care_about_products(looks):
    """The same files serve both questions: there, photos of the query's product are what is looked for."""
    (looks / "qrels.csv").write_text("query_id,gallery_id,relevance\nm0,m1,2\n")
    found = RetrievalSet.read(looks)
    assert found.left_out.tolist() == np.eye(4, dtype=bool).tolist() and found.answerable() == 1
    with pytest.raises(RetrievalSetError, match=r"no qrels\.csv"):
        (looks / "qrels.csv").unlink()
        RetrievalSet.read(looks)


def test_the_name_follows_products_categories_and_colours(looks):
    names = set()
    for rows in (LOOKS, LOOKS.replace("shirt,", "tee,"), LOOKS.replace("blue", "green"), LOOKS.replace("m0", "m9")):
        write_looks(looks, rows)
        names.add(RetrievalSet.read(looks, look_alike=True).sha256)
    assert len(names) == 4


def test_queries_that_share_hits_are_one_group(folder):
    write(
        folder,
        queries="query_id,image\na,images/mug-0.jpg\nb,images/mug-1.jpg\nc,images/new.jpg\n",
        gallery="gallery_id,image\na,images/mug-0.jpg\nb,images/mug-1.jpg\nc,images/new.jpg\nd,images/shirt-0.jpg\n",
        qrels="query_id,gallery_id,relevance\na,d,2\nb,d,1\nc,c,2\n",
    )
    found = RetrievalSet.read(folder)
    assert found.groups().tolist() == [0, 0, 1]
    # Where only exact hits count, a and b have none in common.
    assert found.groups(2).tolist() == [0, 1, 2]
    # A query that is another one's hit stands and falls with it.
    write(folder, queries=QUERIES, qrels="query_id,gallery_id,relevance\nm0,copy,2\n")
    assert RetrievalSet.read(folder).groups().tolist() == [0, 0]


def test_groups_may_be_named(folder):
    write(folder, queries=QUERIES.replace("image\n", "image,group\n").replace(".jpg\n", ".jpg,g\n"))
    found = RetrievalSet.read(folder)
    assert found.groups().tolist() == [0, 0]
    write(folder, queries=QUERIES.replace("image\n", "image,group\n").replace("mug-0.jpg\n", "mug-0.jpg,new\n"))
    # A query without a group is alone, whatever others are called.
    assert RetrievalSet.read(folder).groups().tolist() == [0, 1]
    assert RetrievalSet.read(folder).sha256 != found.sha256


def test_a_set_that_a_spreadsheet_has_saved_is_read(folder):
    for name, text in {"queries": QUERIES, "gallery": GALLERY, "qrels": QRELS}.items():
        saved = "sep=;\r\n" + text.replace(",", ";").replace("mug-0.jpg", "Mug-0.JPG").replace("\n", "\r\n")
        (folder / f"{name}.csv").write_bytes(saved.encode("utf-16"))
    found = RetrievalSet.read(folder)
    assert [path.name for path in found.paths] == ["mug-0.jpg", "new.jpg", "mug-1.jpg", "shirt-0.jpg"]
    (folder / "qrels.csv").write_text("sep=;\nquery_id;gallery_id;relevance\nm0;;1\n", encoding="utf-8")
    with pytest.raises(RetrievalSetError, match="line 3"):
        RetrievalSet.read(folder)
