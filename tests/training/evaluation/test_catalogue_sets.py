"""Sets from a shop's catalogue, with a real Postgres and photos in a storage."""

import csv
import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog.models import Product, ProductPhoto
from shop_similarity.training.evaluation import catalogue_sets as module
from shop_similarity.training.evaluation.catalogue_sets import CatalogueSetError, write_catalogue_sets
from shop_similarity.training.evaluation.retrieval_set import RetrievalSet
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import add_photo, make_category, make_photos_without_files, make_product

pytestmark = pytest.mark.django_db

KINDS = ("mug", "shirt", "lamp")
SHADES = ("red", "blue", "green")


@pytest.fixture
def shop():
    """Three categories, in each three products of three colours, two photos of each: 27 products, 54 photos."""
    made = []
    for kind in KINDS:
        for pattern in ("plain", "striped", "dotted"):
            for shade in SHADES:
                product = make_product(
                    f"{pattern} {shade} {kind}", make_category(kind), description=f"{pattern} {kind}"
                )
                for seed in range(2):
                    add_photo(product, product_photo(kind, shade, pattern, (48, 48), seed), f"{seed}.jpg", seed)
                made.append(product)
    return made


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_both_sets_are_made_of_the_catalogue(shop, tmp_path):
    seen = []
    found = write_catalogue_sets(tmp_path, progress=lambda *call: seen.append(call))
    assert (found.products, found.photos, found.skipped, found.notices) == (27, 54, (), ())
    look_alike = RetrievalSet.read(found.look_alike, look_alike=True)
    assert look_alike.relevance.shape == (54, 54)
    # Of 18 photos of a category, those of two other products have the colour that most of the photo's middle has.
    assert ((look_alike.relevance > 0).sum(axis=1) == 18).all() and (look_alike.left_out.sum(axis=1) == 2).all()
    colours = {row["gallery_id"]: row["colour"] for row in rows(found.look_alike / "gallery.csv")}
    assert set(colours.values()) >= set(SHADES)
    instance = RetrievalSet.read(found.instance)
    assert instance.relevance.shape == (54, 54) and ((instance.relevance == 2).sum(axis=1) == 2).all()
    # One photo, one file, in both sets.
    assert set(look_alike.paths) == set(instance.paths) and len(look_alike.paths) == 54
    assert seen[0] == ("Fetching the shop's photos", 1, 54) and seen[-1] == ("Looking at their colours", 54, 54)


def test_they_can_be_taken_elsewhere_and_are_not_made_twice(shop, tmp_path):
    write_catalogue_sets(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert RetrievalSet.read(tmp_path / "there" / "look_alike", look_alike=True).answerable() == 54
    with pytest.raises(
        CatalogueSetError, match=r"holds sets already.*--look-alike .*look_alike --retrieval .*instance"
    ):
        write_catalogue_sets(tmp_path / "there")


def test_the_same_catalogue_gives_the_same_sets(shop, tmp_path):
    drawer = tmp_path / "drawer"
    names = []
    for place, seed in enumerate((0, 0, 1)):
        found = write_catalogue_sets(tmp_path / str(place), seed, max_photos=20, drawer=drawer)
        names.append(RetrievalSet.read(found.look_alike, drawer, look_alike=True).sha256)
    assert names[0] == names[1] != names[2]
    # Photos are fetched once, whatever set they stand in.
    lines = (drawer / "photos" / "index.jsonl").read_text().splitlines()
    assert len({json.loads(line)["name"] for line in lines}) == len(lines) <= 40


def test_a_sample_takes_categories_in_turn_and_keeps_what_stays(shop, tmp_path):
    def sampled(folder, **options):
        return {row["product_id"] for row in rows(write_catalogue_sets(folder, **options).look_alike / "gallery.csv")}

    before = sampled(tmp_path / "before", max_photos=24)
    assert len(before) == 12
    categories = Product.objects.filter(pk__in=before).values_list("category__name", flat=True)
    assert sorted(map(list(categories).count, KINDS)) == [4, 4, 4]
    gone = Product.objects.get(pk=sorted(before)[0])
    gone.delete()
    after = sampled(tmp_path / "after", max_photos=24)
    assert len(before & after) == 11


def test_variants_belong_together_and_colours_may_be_the_shop_s(shop, tmp_path, settings):
    """Each pattern of a kind is one product in three colours, each a variant of its own."""
    for product in shop:
        Product.objects.filter(pk=product.pk).update(stock=SHADES.index(product.name.split()[1]))
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VARIANT_GROUP": "description", "COLOUR": "stock"}
    found = write_catalogue_sets(tmp_path)
    gallery = rows(found.look_alike / "gallery.csv")
    assert {row["colour"] for row in gallery} == {"0", "1", "2"}
    assert {row["product_id"] for row in gallery} == {f"description={p.description}" for p in shop}
    look_alike = RetrievalSet.read(found.look_alike, look_alike=True)
    open_pairs = ~look_alike.left_out
    # Of a category's 18 photos six are of the query's own variants; four of the others have its colour.
    assert ((look_alike.relevance == 2) & open_pairs).sum(axis=1).tolist() == [4] * 54
    assert ((look_alike.relevance > 0) & open_pairs).sum(axis=1).tolist() == [12] * 54
    instance = RetrievalSet.read(found.instance)
    assert (instance.relevance == 2).sum(axis=1).tolist() == [2] * 54
    assert (instance.relevance == 1).sum(axis=1).tolist() == [4] * 54


def test_only_some_products_may_ask(shop, tmp_path):
    asking = {str(product.pk) for product in shop[::3]}
    found = write_catalogue_sets(tmp_path, asks=lambda name: name in asking)
    assert {row["product_id"] for row in rows(found.look_alike / "queries.csv")} == asking
    assert len(rows(found.look_alike / "gallery.csv")) == 54 and len(rows(found.instance / "queries.csv")) == 18
    few = write_catalogue_sets(tmp_path / "few", max_queries=9, asks=lambda name: name in asking)
    # One photo of each product before a second one of any.
    assert {row["product_id"] for row in rows(few.look_alike / "queries.csv")} == asking
    with pytest.raises(CatalogueSetError, match="no product that may ask"):
        write_catalogue_sets(tmp_path / "none", asks=lambda name: False)


def test_hidden_products_are_not_searched(shop, tmp_path):
    Product.objects.filter(pk__in=[product.pk for product in shop[:9]]).update(is_published=False)
    found = write_catalogue_sets(tmp_path)
    assert found.products == 18 and {row["category"] for row in rows(found.look_alike / "gallery.csv")} == {
        str(product.category_id) for product in shop[9:]
    }


def test_photos_that_cannot_be_used_are_left_out(shop, tmp_path):
    gone, broken = ProductPhoto.objects.order_by("pk")[:2]
    gone.file.storage.delete(gone.file.name)
    broken.file.storage.delete(broken.file.name)
    broken.file.storage.save(broken.file.name, type(product_file())(b"no photo"))
    found = write_catalogue_sets(tmp_path)
    assert found.photos == 52 and found.products == 26
    assert {name for name, _why in found.skipped} == {gone.file.name, broken.file.name}


def product_file():
    from django.core.files.base import ContentFile

    return ContentFile(b"")


def test_without_categories_instances_are_looked_for_all_the_same(shop, tmp_path, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": None}
    found = write_catalogue_sets(tmp_path)
    assert found.look_alike is None and found.instance is not None
    assert "CATEGORY" in found.notices[-1]


def test_a_product_of_several_categories_counts_in_the_smallest(shop, tmp_path, settings, monkeypatch):
    """A path to many values: here the positions of a product's photos stand for its categories."""
    extra = shop[0]
    add_photo(extra, product_photo("mug", "red", "plain", (48, 48), 5), "5.jpg", 5)
    add_photo(shop[1], product_photo("mug", "blue", "plain", (48, 48), 5), "6.jpg", 5)
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "CATEGORY": "photos__position"}
    found = write_catalogue_sets(tmp_path)
    gallery = rows(found.look_alike / "gallery.csv")
    assert len(gallery) == 56
    categories = {row["product_id"]: row["category"] for row in gallery}
    assert categories[str(extra.pk)] == categories[str(shop[1].pk)] == "5"
    assert len(categories) == 27


def test_a_shop_without_photos_is_told_so(tmp_path, db):
    with pytest.raises(CatalogueSetError, match="No product that may be shown has a photo"):
        write_catalogue_sets(tmp_path)
    make_photos_without_files([make_product(), make_product()])
    with pytest.raises(CatalogueSetError, match=r"None of the 2 photos .* The first one, none/"):
        write_catalogue_sets(tmp_path)


def test_what_is_kept_in_memory_does_not_grow_with_the_shop(tmp_path, db, monkeypatch):
    categories = [make_category(f"C{number}") for number in range(5)]
    Product.objects.bulk_create(
        Product(name=f"n{n}", slug=f"s{n}", sku=f"k{n}", category=categories[n % 5]) for n in range(3_000)
    )
    kept = []
    pop = module.heapq.heappop
    monkeypatch.setattr(module.heapq, "heappop", lambda heap: kept.append(len(heap)) or pop(heap))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        products = module._sample(100, 0)
    # 2 x 100 photos, a fifth of them from each category, and one that goes.
    assert max(kept) == 42 and len(products) == 5 * 41
    # One statement counts the categories, one reads the products.
    assert len(queries) <= 2 + sum("FETCH" in query["sql"] for query in queries)
