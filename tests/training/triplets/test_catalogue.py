import hashlib
import json

import numpy as np
import pytest
from django.core.files.storage import FileSystemStorage

from catalog.models import ProductPhoto
from shop_similarity.catalogue import Catalogue, get_catalogue
from shop_similarity.photos.decoding import content_sha256
from shop_similarity.training.triplets import catalogue as module
from shop_similarity.training.triplets.catalogue import PhotoStore, catalogue_triplets
from shop_similarity.training.triplets.checks import count_triplets
from shop_similarity.training.triplets.table import TripletError
from tests.shop_similarity.drawn_photos import KINDS, product_photo, products
from tests.shop_similarity.factories import add_photo, make_category, make_product

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    """Fifty-two products in two categories, two photos of each."""
    made = []
    for number, drawn in enumerate(products(52)):
        product = make_product(category=make_category(f"C{KINDS.index(drawn.kind) % 2}"))
        for seed in range(2):
            add_photo(product, drawn.photo((48, 48), seed), f"{number}-{seed}.jpg", seed)
        made.append(product)
    return made


class CountingStorage(FileSystemStorage):
    """Stands for a remote storage: counts what is read from it."""

    def __init__(self, location):
        super().__init__(location)
        self.opened = []
        self.broken = False

    def _open(self, name, mode="rb"):
        self.opened.append(name)
        if self.broken:
            raise ConnectionError("the bucket does not answer")
        return super()._open(name, mode)


@pytest.fixture
def remote(shop, monkeypatch, tmp_path_factory):
    """The same shop with its photos in a remote storage."""
    storage = CountingStorage(tmp_path_factory.mktemp("bucket"))
    for photo in ProductPhoto.objects.all():
        with photo.file.open("rb") as file:
            storage.save(photo.file.name, file)
    monkeypatch.setattr(Catalogue, "storage", property(lambda self: storage))
    return storage


def test_a_catalogue_becomes_triplets_of_local_files(shop, tmp_path):
    seen = []
    result = catalogue_triplets(tmp_path, 500, progress=lambda *call: seen.append(call))
    assert (result.products, result.photos, result.without_category, result.skipped) == (52, 104, 0, ())
    triplets = result.triplets
    assert 300 < len(triplets) <= 500 and triplets.root == tmp_path
    assert set(triplets.positive_type) == {"instance_view", "similar"}
    counts = count_triplets(triplets)
    assert counts.in_class and counts.out_of_class
    for path in triplets.paths():
        assert path.name == hashlib.sha256(path.read_bytes()).hexdigest()
    assert seen[0] == ("Fetching the shop's photos", 1, 104)
    assert ("Fetching the shop's photos", 104, 104) in seen
    assert seen[-1] == ("Choosing triplets", 104, 104)
    # Groups are the shop's products, categories its own.
    product_of = {}
    for photo in ProductPhoto.objects.select_related("product"):
        with photo.file.open("rb") as file:
            product_of[content_sha256(file.read())] = photo.product
    for row, group, kind in zip(triplets.rows, triplets.query_group, triplets.negative_type, strict=True):
        query, positive, negative = (product_of[triplets.images[place].split("/")[1]] for place in row)
        assert group == str(query.pk) and query.category == positive.category
        assert (query.category == negative.category) == (kind != "out_of_class")


def test_a_remote_storage_is_read_once(remote, tmp_path):
    first = catalogue_triplets(tmp_path, 300).triplets
    assert len(remote.opened) == 104
    again = catalogue_triplets(tmp_path, 300).triplets
    assert len(remote.opened) == 104
    assert first.images == again.images and np.array_equal(first.rows, again.rows)
    assert len((tmp_path / "index.jsonl").read_text().splitlines()) == 104


def test_a_replaced_photo_and_a_damaged_copy_are_fetched_again(remote, tmp_path):
    catalogue_triplets(tmp_path, 300)
    photo = ProductPhoto.objects.first()
    remote.delete(photo.file.name)
    remote.save(photo.file.name, products(90)[80].photo_file())
    name = ProductPhoto.objects.last().file.name
    lines = [json.loads(line) for line in (tmp_path / "index.jsonl").read_text().splitlines()]
    copy = next(tmp_path / line["copy"] for line in lines if line["name"] == name)
    copy.write_bytes(copy.read_bytes()[:100])
    remote.opened.clear()
    result = catalogue_triplets(tmp_path, 300)
    assert sorted(remote.opened) == sorted([photo.file.name, name])
    assert result.photos == 104
    assert content_sha256(copy.read_bytes()) == copy.name


def test_a_run_that_was_killed_goes_on_where_it_stopped(remote, tmp_path):
    rows = list(get_catalogue().rows(get_catalogue().images()))
    fetching = PhotoStore(tmp_path, remote).fetch(rows)
    for _ in range(40):
        next(fetching)
    fetching.close()
    with (tmp_path / "index.jsonl").open("a") as index:
        index.write('{"name": "half a li')
    fetched = len(remote.opened)
    assert 40 <= fetched < 104
    assert catalogue_triplets(tmp_path, 300).photos == 104
    # What was read ahead of the kill but not yet noted may be read twice.
    assert len(remote.opened) <= 104 + fetched - 40
    remote.opened.clear()
    assert catalogue_triplets(tmp_path, 300).photos == 104
    assert remote.opened == []


def test_photos_that_cannot_be_used_are_told_and_left_out(shop, tmp_path):
    broken, missing = ProductPhoto.objects.all()[:2]
    with broken.file.storage.open(broken.file.name, "wb") as file:
        file.write(b"no photo")
    missing.file.storage.delete(missing.file.name)
    result = catalogue_triplets(tmp_path, 300)
    assert result.photos == 102
    reasons = dict(result.skipped)
    assert "not an image" in reasons[broken.file.name]
    assert "not in the storage" in reasons[missing.file.name]


def test_a_storage_that_fails_is_said(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    remote.broken = True
    with pytest.raises(TripletError, match=r"storage of the photos fails again and again \(ConnectionError"):
        catalogue_triplets(tmp_path, 300)
    remote.broken = False
    assert catalogue_triplets(tmp_path, 300).photos == 104


def test_too_small_a_shop_is_said(db, tmp_path):
    with pytest.raises(TripletError, match="at least 40 products with a usable photo, and no product has any"):
        catalogue_triplets(tmp_path)
    add_photo(make_product(), product_photo("mug", "red"))
    with pytest.raises(TripletError, match=r"at least 40 products .* and there is 1"):
        catalogue_triplets(tmp_path)


def test_a_large_catalogue_is_sampled_from_all_categories(shop, tmp_path):
    result = catalogue_triplets(tmp_path, 300, max_photos=40, min_products=15)
    assert result.photos == 40 and result.products == 20
    categories = {product.pk: product.category_id for product in shop}
    # Some of them may ask for nothing themselves.
    chosen = {
        int(name) for place in ("query", "positive", "negative") for name in getattr(result.triplets, f"{place}_group")
    }
    counts = np.unique([categories[key] for key in chosen], return_counts=True)[1]
    assert len(counts) == 2 and counts.max() - counts.min() <= 1
    other = catalogue_triplets(tmp_path, 300, seed=1, max_photos=40, min_products=15)
    assert set(other.triplets.query_group) != set(result.triplets.query_group)


def test_without_the_category_setting_instances_remain(shop, tmp_path, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": None}
    result = catalogue_triplets(tmp_path, 300)
    assert result.without_category == 52
    assert set(result.triplets.positive_type) == {"instance_view"}
    assert set(result.triplets.negative_type) == {""}
