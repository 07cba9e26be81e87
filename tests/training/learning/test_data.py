"""What a run trains on, over one list of photos: copies are one, and photos of one product are never negatives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shop_similarity.training.learning.data import join
from shop_similarity.training.learning.options import SamplingOptions
from shop_similarity.training.learning.relations import NEGATIVES
from shop_similarity.training.triplets.building import ProductPhoto, build_triplets
from shop_similarity.training.triplets.table import Triplets

PER_PRODUCT = 6


def files(root: Path, contents: str, prefix: str = "") -> tuple[str, ...]:
    root.mkdir(exist_ok=True)
    names = tuple(f"{prefix}{place}.jpg" for place in range(len(contents)))
    for name, content in zip(names, contents, strict=True):
        (root / name).write_text(content)
    return names


def test_copies_are_one_photo_across_sources_and_folders(tmp_path):
    train = Triplets(files(tmp_path / "a", "qpn"), [[0, 1, 2]], None, None, tmp_path / "a")
    # The old triplets know the positive under another name, as a negative of something else.
    old = Triplets(files(tmp_path / "b", "xyp"), [[0, 1, 2]], None, None, tmp_path / "b")
    validation = Triplets(files(tmp_path / "c", "uvw"), [[0, 1, 2]], None, None, tmp_path / "c")
    data = join(train, validation, old)
    assert len(data.paths) == len(set(data.digests)) == 8
    assert data.old_rows[0, 2] == data.train_rows[0, 1] == data.places[(tmp_path / "b" / "2.jpg").resolve()]
    assert data.paths[data.train_rows[0, 1]] == (tmp_path / "a" / "1.jpg").resolve()
    assert [path.read_text() for path in data.paths] == list("qpnuvwxy")
    positive, negative = data.relations(SamplingOptions()).masks(np.arange(8))
    assert positive[0, 1] and not negative[0, 1] and negative[1, 6]
    assert len(data.measured_photos()) == 3 and len(data.training_photos()) == 5


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A drawn shop of 300 products with six photos each, as the catalogue's triplets show it."""
    root = tmp_path_factory.mktemp("shop")
    generator = np.random.default_rng(0)
    photos = []
    for product in range(300):
        look = generator.standard_normal(16)
        for view in range(PER_PRODUCT):
            vector = look + 0.3 * generator.standard_normal(16)
            name = f"{product}-{view}"
            (root / name).write_text(name)
            photos.append(ProductPhoto(name, str(product), str(product % 3), vector / np.linalg.norm(vector)))
    triplets = build_triplets(photos, root, 2_000).triplets
    return join(triplets, triplets.select(np.arange(3)))


def same_product(data):
    products = np.array([int(path.name.split("-")[0]) for path in data.paths])
    mask = products[:, None] == products
    np.fill_diagonal(mask, False)
    return mask


@pytest.mark.parametrize("negatives", NEGATIVES)
def test_no_photos_of_one_product_are_negatives(shop, negatives):
    positive, negative = shop.relations(SamplingOptions(negatives=negatives)).masks(np.arange(len(shop.paths)))
    pairs = same_product(shop)
    assert pairs.sum() > 3_000
    assert (negative & pairs).sum() == 0
    # Others still are, and what triplets name as positives stays.
    assert (positive & pairs).any() and (negative & ~pairs).any()


def test_nor_are_they_in_the_batches_and_the_validation(shop):
    pairs = same_product(shop)
    for options in (SamplingOptions(), SamplingOptions(per_instance=3)):
        for batch in shop.sampler(options, 0).epoch(1)[:10]:
            query, positive, negative = batch.photos[batch.rows].T
            assert not pairs[query, negative].any() and not pairs[positive, negative].any()
    _, negative = shop.to_validate(SamplingOptions()).relations.masks(np.arange(len(shop.paths)))
    named = np.zeros(len(shop.paths), dtype=bool)
    named[shop.validation_rows] = True
    assert not (negative & pairs)[np.ix_(named, named)].any()


def test_a_shop_of_few_triplets_trains_as_many_steps_as_a_larger_one(tmp_path):
    names = files(tmp_path, "abcdef")
    few = Triplets(names, [[0, 1, 4], [2, 3, 4], [0, 5, 3]], ["similar"] * 3, ["out_of_class"] * 3, tmp_path)
    data = join(few, few)
    for options in (SamplingOptions(batch_size=2), SamplingOptions(batch_size=2, per_instance=2)):
        steps = len(data.sampler(options, 0).epoch(1))
        single = len(data.sampler(replace(options, epoch_batches=1), 0).epoch(1))
        assert 75 <= steps < 75 + single and single < 4


def test_a_style_in_another_colour_is_a_negative_only_where_the_table_says_so(tmp_path):
    # 0 and 1 are one product; 2 and 3 are other colours of its style; 4 and 5 are another style.
    names = files(tmp_path, "abcdef")
    rows, style = [[0, 1, 4], [2, 3, 4], [0, 5, 3]], ["s", "s", "s"]
    kinds = ["instance_view", "instance_colour", "similar"]
    triplets = Triplets(
        names, rows, kinds, ["out_of_class"] * 3, tmp_path, query_group=style, negative_group=["t", "t", "s"]
    )
    data = join(triplets, triplets)
    _, negative = data.relations(SamplingOptions()).masks(np.arange(6))
    style_pairs = {(one, other) for one in range(4) for other in range(one) if negative[one, other]}
    assert style_pairs == {(3, 0)}


def test_categories_are_the_shops_where_triplets_name_them_and_chains_of_one_class_elsewhere(tmp_path):
    images = files(tmp_path, "abcdefghi")
    # A chain of negatives of one class links all photos.
    rows = [[place, place + 1, place + 2] for place in range(7)]
    kinds = ["instance_view"] * 7, ["in_class"] * 7
    chained = Triplets(images, rows, *kinds, tmp_path)
    photos = np.arange(9)
    assert len(set(join(chained, chained).relations(SamplingOptions()).categories_of(photos))) == 1
    shop = ["men", "men", "men", "", "women", "women", "women", "women", "women"]
    names = np.array(shop)[np.array(rows)].T
    named = Triplets(
        images,
        rows,
        *kinds,
        tmp_path,
        query_category=names[0],
        positive_category=names[1],
        negative_category=names[2],
    )
    found = join(named, named).relations(SamplingOptions()).categories_of(photos)
    assert found[3] == -1 and len(set(found[:3])) == len(set(found[4:])) == 1 and len(set(found)) == 3
    # Another source may mean something else by the same name.
    (tmp_path / "old").mkdir()
    old = Triplets(files(tmp_path / "old", "xyz"), [[0, 1, 2]], None, None, tmp_path / "old", query_category=["men"])
    data = join(named, named, old)
    mixed = data.relations(SamplingOptions()).categories_of(np.arange(len(data.paths)))
    place = data.places[(tmp_path / "old" / "0.jpg").resolve()]
    assert mixed[place] >= 0 and mixed[place] not in set(mixed[:9])
