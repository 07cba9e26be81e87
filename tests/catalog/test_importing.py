"""Bringing a folder into the shop: completely, once, and through the ORM."""

import re
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models.signals import post_save

from catalog.importing import believable_stock, load_folder
from catalog.models import Category, LoadedCatalogue, Product, ProductPhoto
from catalog.product_csv import CatalogueError
from shop_similarity.models import ModelVersion, OutboxEntry
from tests.catalog.photos import draw, encoded

pytestmark = pytest.mark.django_db

CSV = (
    "sku,name,category,price,stock,images\n"
    "A,Mug,Kitchen / Cups,12.50,3,a.jpg|b.jpg\n"
    "B,Bowl,Kitchen / Bowls,8,0,c.jpg\n"
    "C,Bowl,Kitchen / Bowls,9,,\n"
)
PHOTOS = ("a.jpg", "b.jpg", "c.jpg")


@pytest.fixture
def saves():
    """How often products and photos are saved."""
    heard = []

    def listen(sender, instance, **kwargs):
        if sender in (Product, ProductPhoto):
            heard.append(instance)

    post_save.connect(listen)
    yield heard
    post_save.disconnect(listen)


def test_loads_products_categories_and_photos(folder):
    report = load_folder(folder(CSV, *PHOTOS))
    assert (report.created, report.photos_added, report.left_out) == (3, 3, 0)
    mug = Product.objects.get(sku="A")
    assert (mug.name, mug.slug, mug.price, mug.stock, mug.is_published) == ("Mug", "mug", Decimal("12.50"), 3, True)
    assert [step.name for step in (mug.category.parent, mug.category)] == ["Kitchen", "Cups"]
    assert mug.category.slug == "kitchen-cups"
    photos = list(mug.photos.all())
    assert [(photo.position, photo.width, photo.height) for photo in photos] == [(0, 400, 300), (1, 400, 300)]
    assert re.fullmatch(r"products/a/a-[\w-]{22}\.jpg", photos[0].file.name)
    assert Product.objects.get(sku="C").slug == "bowl-c"
    assert Product.objects.get(sku="C").stock == believable_stock("C")
    assert LoadedCatalogue.objects.get().description == "Products loaded from the folder “shop”."


def test_a_second_load_saves_nothing(folder, saves):
    place = folder(CSV, *PHOTOS)
    load_folder(place)
    assert len(saves) == 6
    before = list(ProductPhoto.objects.values_list("pk", "file"))
    saves.clear()
    report = load_folder(place)
    assert (report.created, report.updated, report.unchanged, report.photos_added) == (0, 0, 3, 0)
    assert saves == []
    assert list(ProductPhoto.objects.values_list("pk", "file")) == before
    assert Category.objects.count() == 3


def test_only_what_changed_is_saved(folder, saves, django_capture_on_commit_callbacks):
    place = folder(CSV, *PHOTOS)
    load_folder(place)
    old = ProductPhoto.objects.get(product__sku="B")
    storage, old_name = old.file.storage, old.file.name
    Product.objects.filter(sku="C").update(stock=77)
    (place / "c.jpg").write_bytes(encoded(draw(colour=(1, 2, 3))))
    (place / "products.csv").write_text(CSV.replace("12.50", "13.50").replace("a.jpg|b.jpg", "b.jpg|a.jpg"))
    saves.clear()
    with django_capture_on_commit_callbacks(execute=True):
        report = load_folder(place)
    assert (report.updated, report.unchanged) == (2, 1)
    assert (report.photos_added, report.photos_removed) == (1, 1)
    mug = Product.objects.get(sku="A")
    assert mug.price == Decimal("13.50")
    assert [photo.file.name[:13] for photo in mug.photos.all()] == ["products/a/b-", "products/a/a-"]
    assert sorted(type(item).__name__ for item in saves) == ["Product", "ProductPhoto", "ProductPhoto", "ProductPhoto"]
    assert not ProductPhoto.objects.filter(pk=old.pk).exists()
    assert not storage.exists(old_name)
    assert Product.objects.get(sku="C").stock == 77, "a stock that the file does not tell stays"


def test_a_stored_photo_that_is_lost_is_stored_again(folder):
    place = folder(CSV, *PHOTOS)
    load_folder(place)
    lost = ProductPhoto.objects.get(product__sku="B")
    lost.file.storage.delete(lost.file.name)
    report = load_folder(place)
    assert (report.photos_added, report.photos_removed) == (1, 1)
    photo = ProductPhoto.objects.get(product__sku="B")
    assert photo.file.storage.exists(photo.file.name)


def test_the_plugin_hears_of_every_photo(folder):
    ModelVersion.objects.create(
        name="drawn", architecture="mildnet", state=ModelVersion.State.ACTIVE, weights="none", weights_sha256="0" * 64
    )
    place = folder(CSV, *PHOTOS)
    load_folder(place)
    assert OutboxEntry.objects.count() == 3
    OutboxEntry.objects.all().delete()
    load_folder(place)
    assert not OutboxEntry.objects.exists(), "nothing changed, so there is nothing to embed"


def test_a_bad_product_leaves_nothing_behind(folder):
    place = folder(CSV.replace("c.jpg", "gone.jpg"), *PHOTOS)
    report = load_folder(place)
    assert [str(problem) for problem in report.problems] == ["line 3: photo gone.jpg is not in the folder."]
    assert (report.created, report.left_out) == (2, 1)
    assert not Product.objects.filter(sku="B").exists()


def test_a_failure_in_the_middle_of_a_product_leaves_neither_rows_nor_files(folder, media_folder):
    place = folder(CSV, *PHOTOS)

    def fail(sender, instance, **kwargs):
        if instance.position == 1:
            raise RuntimeError("full")

    post_save.connect(fail, sender=ProductPhoto)
    try:
        with pytest.raises(RuntimeError):
            load_folder(place)
    finally:
        post_save.disconnect(fail, sender=ProductPhoto)
    assert not Product.objects.exists()
    assert not ProductPhoto.objects.exists()
    assert not [path for path in media_folder.rglob("*") if path.is_file()]
    assert load_folder(place).created == 3


def test_strict_loads_nothing_when_a_line_is_bad(folder):
    with pytest.raises(CatalogueError, match=r"Nothing was loaded\.\nline 3: photo gone\.jpg"):
        load_folder(folder(CSV.replace("c.jpg", "gone.jpg"), *PHOTOS), strict=True)
    assert not Product.objects.exists()


def test_clear_removes_what_the_folder_does_not_name(folder, make_product, django_capture_on_commit_callbacks):
    old = make_product("Old", category="Attic / Boxes")
    photo = old.photos.get()
    place = folder(CSV, *PHOTOS)
    load_folder(place)
    assert Product.objects.filter(pk=old.pk).exists()
    with django_capture_on_commit_callbacks(execute=True):
        report = load_folder(place, clear=True)
    assert (report.removed, report.photos_removed, report.unchanged) == (1, 1, 3)
    assert not Product.objects.filter(pk=old.pk).exists()
    assert not photo.file.storage.exists(photo.file.name)
    assert set(Category.objects.values_list("name", flat=True)) == {"Kitchen", "Cups", "Bowls"}


def test_names_that_give_no_slug_or_the_same_one(folder):
    load_folder(folder("sku,name,category\n1,猫,動物\n2,猫,動物 / 猫\n3,A b,C d / e\n4,A-B,C / d e\n"))
    slugs = set(Product.objects.values_list("slug", flat=True))
    assert len(slugs) == 4
    assert all(slugs)
    categories = set(Category.objects.values_list("slug", flat=True))
    assert len(categories) == Category.objects.count() == 6
    assert all(categories)


def test_the_command_tells_what_it_did(folder):
    out, err = StringIO(), StringIO()
    place = folder(CSV.replace("c.jpg", "gone.jpg"), *PHOTOS)
    call_command("load_catalog", place, stdout=out, stderr=err)
    assert out.getvalue() == ("2 products new, 0 changed, 0 as they were, 1 left out; photos: 2 stored, 0 removed.\n")
    assert err.getvalue() == "products.csv line 3: photo gone.jpg is not in the folder.\n"


def test_the_command_explains_a_folder_that_is_no_catalogue(tmp_path):
    with pytest.raises(CommandError, match=r"holds no products\.csv"):
        call_command("load_catalog", tmp_path)


def test_the_command_keeps_a_long_list_of_problems_short(folder):
    err = StringIO()
    lines = "".join(f"S{number},Thing,free\n" for number in range(25))
    call_command("load_catalog", folder(f"sku,name,price\nOK,Fine,1\n{lines}"), stdout=StringIO(), stderr=err)
    assert len(err.getvalue().splitlines()) == 21
    assert err.getvalue().endswith("... and 5 more; --verbosity 2 shows all.\n")


def test_believable_stock_is_stable_and_varied():
    stocks = [believable_stock(f"SKU-{number}") for number in range(600)]
    assert stocks == [believable_stock(f"SKU-{number}") for number in range(600)]
    assert 20 < stocks.count(0) < 90
    assert 50 < sum(0 < stock < 5 for stock in stocks) < 160
    assert max(stocks) <= 60


@pytest.mark.long
@pytest.mark.shared
@pytest.mark.slow
def test_the_shared_shop(shared_folder):
    place = shared_folder("shops/luma")
    report = load_folder(place)
    assert (report.created, report.photos_added, report.problems) == (181, 458, [])
    assert not ProductPhoto.objects.filter(width=None).exists()
    again = load_folder(place)
    assert (again.unchanged, again.photos_added) == (181, 0)
