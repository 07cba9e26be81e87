"""Which photos there are of a product: filters, soft deletion, parents and children, other columns, subtypes."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from shop_similarity import database
from shop_similarity.catalogue import get_catalogue
from shop_similarity.checks import check_database, check_settings
from shop_similarity.embedding import outbox
from shop_similarity.embedding.photo_states import Progress, photo_states
from shop_similarity.embedding.reembedding import reembed
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import Embedding, MerchandisingRule, OutboxEntry
from shop_similarity.search import SearchOptions, similar_products, similar_to_several
from shop_similarity.storefront import fragments
from shop_similarity.storefront.cards import widget_cards
from tests.relation_shops.models import (
    Book,
    Coded,
    CodedPhoto,
    GalleryItem,
    Garment,
    GarmentPhoto,
    Item,
    ItemPhoto,
    Novelty,
    Piece,
    Print,
)
from tests.relation_shops.shops import embed_all, image, some_file, the_shop, waiting
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.shops import mixed

pytestmark = pytest.mark.django_db

PARENTS = {"PARENT": "parent", "VARIANT_GROUP": "parent", "PRODUCTS": "tests.relation_shops.models.parents_alone"}


def _garment(title: str, parent: Garment | None = None, photos: int = 1) -> Garment:
    garment = Garment.objects.create(title=title, parent=parent)
    for number in range(photos):
        GarmentPhoto.objects.create(product=garment, original=some_file(f"{title}-{number}.jpg"), display_order=number)
    return garment


def _titles(products: list) -> list[str]:
    return [product.title for product in products]


@pytest.mark.parametrize(
    "wanted",
    [{"kind": "photo"}, {"kind__in": ["photo"]}, "tests.relation_shops.models.photos_alone"],
    ids=["lookup", "lookup with a list", "callable"],
)
def test_what_the_filter_leaves_out_is_no_photo(wanted):
    with the_shop("Garment", "images.original", IMAGE_FILTER=wanted):
        version = make_version()
        first, second = _garment("First"), _garment("Second")
        manual = GarmentPhoto.objects.create(product=first, original=some_file("manual.pdf"), kind="manual")
        photos = {(photo.pk, photo.product_id) for photo in GarmentPhoto.objects.exclude(pk=manual.pk)}
        assert check_settings() == []
        assert waiting() == photos
        assert set(embed_all(version)) == photos
        assert sweep(files=False).enqueued == 0
        assert [photo.image_id for photo in get_catalogue().product_photos(first)] == [first.images.first().pk]
        assert similar_products(second) == [first]
        # What becomes none is forgotten, and the other way round.
        photo = first.images.first()
        photo.kind, photo.original.name = "manual", "a.pdf"
        photo.save(update_fields=["kind", "original"])
        assert set(Embedding.objects.values_list("product_id", flat=True)) == {second.pk}
        manual.kind, manual.original.name = "photo", "b.jpg"
        manual.save(update_fields=["kind", "original"])
        assert waiting() == {(manual.pk, first.pk)}


def test_a_filter_over_several_rows_gives_each_photo_once():
    with the_shop("Piece", "gallery.image.file", IMAGE_FILTER={"piece__gallery__sort_order__gte": 0}):
        piece = Piece.objects.create()
        rows = [GalleryItem.objects.create(piece=piece, image=image()) for _ in range(3)]
        assert [row.image_id for row in get_catalogue().rows(get_catalogue().images())] == [row.pk for row in rows]


@pytest.mark.parametrize(
    ("value", "code", "message", "hint"),
    [
        ({"sort": "photo"}, "E002", "Cannot resolve keyword 'sort'", "lookups of the rows"),
        ({"kind__near": "photo"}, "E002", "near", "lookups of the rows"),
        ("nowhere.at_all", "E003", "can't be imported", "dotted path"),
        ("tests.relation_shops.models.__name__", "E003", "no callable", "IMAGE_FILTER"),
        (3, "E001", "is 3", "dict or str"),
    ],
)
def test_a_filter_that_can_not_be_is_refused(settings, value, code, message, hint):
    settings.SHOP_SIMILARITY = {
        "PRODUCT_MODEL": "relation_shops.Garment",
        "IMAGES": "images.original",
        "IMAGE_FILTER": value,
    }
    (found,) = check_settings()
    assert found.id == f"shop_similarity.{code}"
    assert message in found.msg
    assert hint in found.hint


@pytest.mark.parametrize(
    ("path", "message"), [("builtins.list", "returned list"), ("builtins.float", "raised TypeError: float()")]
)
def test_a_filter_that_returns_something_else_is_said(settings, path, message):
    settings.SHOP_SIMILARITY = {
        "PRODUCT_MODEL": "relation_shops.Garment",
        "IMAGES": "images.original",
        "IMAGE_FILTER": path,
    }
    (found,) = check_database(databases=[database.write_alias()])
    assert found.id == "shop_similarity.E003"
    assert message in found.msg
    assert "filtered" in found.hint


def test_a_photo_that_was_deleted_softly_is_gone_everywhere():
    with the_shop("Garment", "images.original"):
        version = make_version()
        first, second = _garment("First", photos=2), _garment("Second")
        embed_all(version)
        photo = first.images.first()
        photo.is_deleted = True
        photo.save(update_fields=["is_deleted"])
        assert not Embedding.objects.filter(image_id=photo.pk).exists()
        assert waiting() == set()
        first.save()
        assert waiting() == set()
        assert sweep(files=False).enqueued == 0
        assert reembed([first.pk]) == 1
        # Past the signals, the sweep finds it.
        GarmentPhoto.everything.filter(product=second).update(is_deleted=True)
        assert sweep(files=False).removed == 1
        assert get_catalogue().product_photos(second) == []
        photo.is_deleted = False
        photo.save(update_fields=["is_deleted"])
        assert (photo.pk, first.pk) in waiting()


def test_a_shared_image_that_was_deleted_softly_is_gone_everywhere():
    with the_shop("Print", "photo.file"):
        version = make_version()
        products = [Print.objects.create(photo=image()) for _ in range(3)]
        embed_all(version)
        shared = products[0].photo
        shared.is_deleted = True
        shared.save()
        assert Embedding.objects.count() == 2
        assert waiting() == set()
        products[0].save()
        assert waiting() == set()
        assert get_catalogue().product_photos(products[0]) == []
        assert products[0] not in similar_products(products[1])


def test_photos_of_a_child_speak_for_its_parent():
    with the_shop("Garment", "images.original", **PARENTS):
        version = make_version()
        shirt, trousers = _garment("Shirt", photos=0), _garment("Trousers")
        red, blue = _garment("Red", shirt), _garment("Blue", shirt)
        assert check_settings() == []
        assert {product for _row, product in waiting()} == {shirt.pk, trousers.pk}
        embed_all(version)
        (found,) = similar_products(trousers)
        assert found == shirt
        photos = get_catalogue().product_photos(found)
        assert [photo.image_id for photo in photos] == [red.images.get().pk, blue.images.get().pk]
        assert found.similar_image_id in {photo.image_id for photo in photos}
        assert _titles(similar_products(shirt)) == ["Trousers"]
        (card,) = widget_cards(trousers, SearchOptions())
        assert card.image.instance.product in (red, blue)
        # The panel of the admin, the button to embed again, and the sweep see them with their parent too.
        assert [row.states[0].progress for row in photo_states(shirt)] == [Progress.EMBEDDED] * 2
        assert [row.states[0].progress for row in photo_states(red)] == [Progress.EMBEDDED]
        assert sweep(files=False).enqueued == 0
        assert reembed([shirt.pk]) == 2
        assert reembed([red.pk]) == 1


def test_a_child_asks_with_its_own_photos_or_else_with_its_parents():
    with the_shop("Garment", "images.original", **PARENTS):
        version = make_version()
        shirt, _near_shirt, near_red = (_garment(title) for title in ("Shirt", "Near the shirt", "Near red"))
        red, bare = _garment("Red", shirt), _garment("Bare", shirt, photos=0)
        vectors = {"Shirt": {"s": 1}, "Near the shirt": {"s": 0.9}, "Near red": {"r": 0.9}, "Red": {"r": 1}}
        titles = [photo.product.title for photo in GarmentPhoto.objects.order_by("pk")]
        embed_all(version, np.stack([mixed(vectors[title], title) for title in titles]))
        assert _titles(similar_products(red)) == ["Near red", "Near the shirt"]
        assert _titles(similar_products(bare)) == ["Near the shirt", "Near red"]
        assert _titles(similar_to_several([bare, near_red])) == ["Near the shirt"]
        assert get_catalogue().product_photos(bare) == get_catalogue().product_photos(shirt)
        # Neither is the parent a look-alike of its own child where variants are shown.
        everyone = SearchOptions(limit=8, collapse=False)
        assert "Shirt" not in _titles(similar_products(bare, options=everyone))
        with CaptureQueriesContext(connection) as queries:
            products = get_catalogue().with_images(Garment.objects.all())
            photos = {product.title: len(get_catalogue().product_photos(product)) for product in products}
        assert len(queries) == 2
        assert photos == {"Shirt": 2, "Near the shirt": 1, "Near red": 1, "Red": 1, "Bare": 2}


def test_a_child_of_a_product_that_is_shown_may_be_asked_for(client):
    with the_shop("Garment", "images.original", **PARENTS):
        version = make_version()
        shirt, coat = _garment("Shirt"), _garment("Coat")
        bare = _garment("Bare", shirt, photos=0)
        grandchild = _garment("Grandchild", bare, photos=0)
        embed_all(version)
        for product in (shirt, bare):
            answer = client.get(f"/api/similarity/v1/products/{product.pk}/similar/").json()
            assert [row["id"] for row in answer["results"]] == [str(coat.pk)]
            assert fragments._visible_product(str(product.pk)) == product
        assert client.get(f"/api/similarity/v1/products/{grandchild.pk}/similar/").status_code == 404


def test_the_rules_of_a_parent_hold_for_its_children():
    with the_shop("Garment", "images.original", CATEGORY="title", **PARENTS):
        version = make_version()
        shirt, first, second = (_garment(title) for title in ("Shirt", "First", "Second"))
        bare = _garment("Bare", shirt, photos=0)
        embed_all(version)
        MerchandisingRule.objects.create(kind="hide", product_id=shirt.pk, target_product_id=first.pk)
        assert similar_products(bare) == [second]
        MerchandisingRule.objects.create(kind="hide", category="Shirt", target_product_id=second.pk)
        assert similar_products(bare) == []


def test_a_child_that_moves_takes_its_photos_to_the_other_parent():
    with the_shop("Garment", "images.original", **PARENTS):
        version = make_version()
        shirt, coat = _garment("Shirt"), _garment("Coat")
        red = _garment("Red", shirt)
        embed_all(version)
        red.parent = coat
        red.save(update_fields=["parent"])
        assert waiting() == {(red.images.get().pk, coat.pk)}
        OutboxEntry.objects.all().delete()
        assert sweep(files=False).enqueued == 1
        red.parent = None
        red.save()
        assert sweep(files=False).enqueued == 0
        claims = outbox.claim(version.pk, 10, "w")
        assert [claim.image_id for claim in claims] == [red.images.get().pk]
        red.delete()
        assert set(Embedding.objects.values_list("product_id", flat=True)) == {shirt.pk, coat.pk}


@pytest.mark.parametrize(("value", "message"), [("title", "no foreign key"), ("mother", "no foreign key")])
def test_a_parent_that_can_not_be_is_refused(settings, value, message):
    settings.SHOP_SIMILARITY = {"PRODUCT_MODEL": "relation_shops.Garment", "IMAGES": "images.original", "PARENT": value}
    (found,) = check_settings()
    assert found.id == "shop_similarity.E002"
    assert message in found.msg
    assert "parent" in found.hint


def test_children_that_are_shown_but_never_found_are_said():
    with the_shop("Garment", "images.original", **PARENTS):
        _garment("Red", _garment("Shirt"))
        assert check_database(databases=[database.write_alias()]) == []
    with the_shop("Garment", "images.original", PARENT="parent"):
        (found,) = check_database(databases=[database.write_alias()])
        assert found.id == "shop_similarity.W006"
        assert "Leave children out of PRODUCTS" in found.hint


def test_a_parent_is_in_the_group_of_its_children():
    with the_shop("Garment", "images.original", VARIANT_GROUP="parent"):
        version = make_version()
        shirt, other = _garment("Shirt"), _garment("Other")
        red, blue = _garment("Red", shirt), _garment("Blue", shirt)
        embed_all(version)
        assert similar_products(shirt) == [other]
        assert similar_products(red) == [other]
        found = similar_products(other)
        assert len(found) == 1
        assert found[0] in (shirt, red, blue)


def test_groups_of_another_kind_are_not_taken_for_products():
    with the_shop("Garment", "images.original", VARIANT_GROUP="parent__title"):
        version = make_version()
        twins = [_garment("Shirt"), _garment("Shirt")]
        embed_all(version)
        assert similar_products(twins[0]) == [twins[1]]


def test_photos_that_point_to_another_column_than_the_key():
    with the_shop("Coded", "photos.file"):
        version = make_version()
        # Codes that are keys of other products.
        Coded.objects.create(code="before")
        products = []
        for _ in range(3):
            product = Coded.objects.create(code="new")
            product.code = str(product.pk - 1)
            product.save()
            products.append(product)
        wordy = Coded.objects.create(code="red-shirt")
        photos = [CodedPhoto.objects.create(product=product, file=some_file()) for product in [*products, wordy]]
        expected = {(photo.pk, photo.product.pk) for photo in photos}
        assert waiting() == expected
        assert set(embed_all(version)) == expected
        assert set(similar_products(wordy)) == set(products)
        assert get_catalogue().with_images([wordy])[0] == wordy
        assert [photo.image_id for photo in get_catalogue().product_photos(wordy)] == [photos[3].pk]
        wordy.delete()
        assert not Embedding.objects.filter(image_id=photos[3].pk).exists()


def test_children_that_point_to_another_column_than_the_key():
    with the_shop("Coded", "photos.file", PARENT="parent", VARIANT_GROUP="parent"):
        version = make_version()
        parent, other = Coded.objects.create(code="parent"), Coded.objects.create(code="other")
        child, bare = (Coded.objects.create(code=code, parent=parent) for code in ("child", "bare"))
        photos = [CodedPhoto.objects.create(product=product, file=some_file()) for product in (parent, other, child)]
        assert set(embed_all(version)) == set(
            zip([p.pk for p in photos], [parent.pk, other.pk, parent.pk], strict=True)
        )
        for product in (parent, child, bare):
            assert similar_products(product) == [other]
            assert parent not in similar_products(product, options=SearchOptions(collapse=False))


def test_photos_of_the_parents_table_are_those_of_products_alone():
    with the_shop("Book", "photos.file"):
        version = make_version()
        Item.objects.create(title="No book")
        books = [Book.objects.create(title=str(number)) for number in range(2)]
        toy = Item.objects.create(title="Toy")
        photos = [ItemPhoto.objects.create(item=item, file=some_file()) for item in [*books, toy]]
        expected = {(photo.pk, book.pk) for photo, book in zip(photos, books, strict=False)}
        assert waiting() == expected
        assert set(embed_all(version)) == expected
        assert sweep(files=False).enqueued == 0
        assert similar_products(books[0]) == [books[1]]
        assert [photo.image_id for photo in get_catalogue().product_photos(books[1])] == [photos[1].pk]
        # Saved by the parent's class: a cheap moment to notice what no signal told.
        ItemPhoto.objects.bulk_create([ItemPhoto(item=books[0], file="unseen.jpg")])
        Item.objects.get(pk=books[0].pk).save()
        assert len(waiting()) == 1
        toy.save()
        Item.objects.get(pk=books[1].pk).delete()
        assert list(Embedding.objects.values_list("product_id", flat=True)) == [books[0].pk]


@pytest.mark.parametrize("model", ["Book", "Novelty"])
def test_a_product_saved_by_its_parents_class_is_noticed(model):
    with the_shop(model, "cover"):
        version = make_version()
        product = (Book if model == "Book" else Novelty).objects.create(title="A")
        by_parent = Item.objects.get(pk=product.pk)
        by_parent.cover = some_file("cover.jpg")
        by_parent.save()
        assert waiting() == {(product.pk, product.pk)}
        assert OutboxEntry.objects.get().priority == OutboxEntry.Priority.SAVED
        embed_all(version)
        by_parent.cover = ""
        by_parent.save(update_fields=["cover"])
        assert not Embedding.objects.exists()
        # A row of the parent's that is no product.
        other = Item.objects.create(title="B", cover=some_file())
        assert len(waiting()) == (model == "Novelty")
        other.delete()
        by_parent.delete()
        assert waiting() == set()
