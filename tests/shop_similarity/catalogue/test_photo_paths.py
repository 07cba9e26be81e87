"""Photos that hang on products by foreign keys to shared images, many-to-many fields and generic relations."""

from __future__ import annotations

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext

from shop_similarity.catalogue import get_catalogue
from shop_similarity.checks import check_settings
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import Embedding, OutboxEntry
from shop_similarity.search import similar_products
from tests.relation_shops.models import (
    Album,
    Attachment,
    Bowl,
    BowlPhoto,
    GalleryItem,
    Image,
    Lamp,
    Piece,
    Print,
    Shade,
    Vase,
)
from tests.relation_shops.shops import embed_all, image, some_file, the_shop, waiting
from tests.shop_similarity.factories import make_version

pytestmark = pytest.mark.django_db


def _print(name: str) -> tuple[Print, int]:
    product = Print.objects.create(photo=image(name))
    return product, product.pk


def _piece(name: str) -> tuple[Piece, int]:
    product = Piece.objects.create()
    return product, GalleryItem.objects.create(piece=product, image=image(name)).pk


def _vase(name: str) -> tuple[Vase, int]:
    product = Vase.objects.create()
    product.photos.add(image(name))
    return product, Vase.photos.through.objects.get(vase=product).pk


def _bowl(name: str) -> tuple[Bowl, int]:
    product = Bowl.objects.create()
    return product, BowlPhoto.objects.create(bowl=product, image=image(name)).pk


def _lamp_of_an_album(name: str) -> tuple[Lamp, int]:
    product = Lamp.objects.create()
    album = Album.objects.create(file=some_file(name))
    album.lamps.add(product)
    return product, Album.lamps.through.objects.get(lamp=product).pk


def _lamp(name: str) -> tuple[Lamp, int]:
    product = Lamp.objects.create()
    return product, Attachment.objects.create(target=product, number=product.pk, file=some_file(name)).pk


SHOPS = {
    "foreign key": ("Print", "photo.file", _print),
    "gallery": ("Piece", "gallery.image.file", _piece),
    "many to many": ("Vase", "photos.file", _vase),
    "many to many by a table of the shop's": ("Bowl", "photos.file", _bowl),
    "rows of that table": ("Bowl", "bowlphoto_set.image.file", _bowl),
    "many to many from the other side": ("Lamp", "photos.file", _lamp_of_an_album),
    "generic, keys as text": ("Lamp", "attachments.file", _lamp),
    "generic, keys as numbers": ("Lamp", "numbered.file", _lamp),
}


@pytest.fixture(params=SHOPS)
def shop(request):
    model, images, make = SHOPS[request.param]
    with the_shop(model, images):
        yield make


def test_photos_are_queued_found_shown_and_forgotten(shop):
    version = make_version()
    # Keys of products and of photo rows that are not the same by chance.
    Image.everything.create(file="unused.jpg")
    made = [shop(f"{number}.jpg") for number in range(4)]
    assert check_settings() == []
    expected = {(row, product.pk) for product, row in made}
    assert waiting() == expected
    assert set(embed_all(version)) == expected
    assert sweep(files=False).enqueued == 0
    first = made[0][0]
    found = similar_products(first, 3)
    assert {product.pk for product in found} == {product.pk for product, _row in made[1:]}
    rows = {product.pk: row for product, row in made}
    with CaptureQueriesContext(connection) as queries:
        products = get_catalogue().with_images(get_catalogue().all_products())
        photos = {product.pk: get_catalogue().product_photos(product) for product in products}
    assert len(queries) <= 2
    assert {key: [photo.image_id for photo in several] for key, several in photos.items()} == {
        key: [row] for key, row in rows.items()
    }
    assert all(several[0].file.name.endswith(".jpg") for several in photos.values())
    assert all(product.similar_image_id == rows[product.pk] for product in found)
    # A product's end takes along what hangs on it.
    key = first.pk
    first.delete()
    assert not Embedding.objects.filter(product_id=key).exists()
    assert sweep(files=False).removed == 0


@pytest.mark.parametrize("shop", [name for name in SHOPS if "generic" not in name], indirect=True)
def test_a_shared_image_that_changes_is_noticed(shop):
    version = make_version()
    product, row = shop("a.jpg")
    shop("b.jpg")
    embed_all(version)
    photo = get_catalogue().product_photos(product)[0]
    holder = photo.file.instance
    # Another file.
    holder.file.save("other.jpg", some_file("other.jpg"))
    assert waiting() == {(row, product.pk)}
    assert OutboxEntry.objects.get().priority == OutboxEntry.Priority.SAVED
    OutboxEntry.objects.all().delete()
    # Something else about it.
    if isinstance(holder, Image):
        holder.title = "New"
        holder.save(update_fields=["title"])
    # No file.
    holder.file = ""
    holder.save()
    assert not Embedding.objects.filter(image_id=row).exists()
    assert get_catalogue().product_photos(type(product).objects.get(pk=product.pk)) == []
    # What happened past the signals.
    type(holder)._base_manager.filter(pk=holder.pk).update(file="later.jpg")
    assert sweep(files=False).enqueued == 1
    embed_all(version)
    holder.delete()
    assert not Embedding.objects.filter(image_id=row).exists()
    assert Embedding.objects.count() == 1


@pytest.mark.parametrize(
    "shop", ["many to many", "many to many by a table of the shop's", "rows of that table"], indirect=True
)
def test_links_that_are_removed_are_noticed(shop):
    version = make_version()
    product, _row = shop("a.jpg")
    product.photos.add(image("b.jpg"), image("c.jpg"))
    assert len(waiting()) == 3
    embed_all(version)
    product.photos.remove(product.photos.first())
    assert Embedding.objects.count() == 2
    product.photos.set([image("d.jpg")])
    assert not Embedding.objects.exists()
    assert len(waiting()) == 1
    product.photos.clear()
    assert not waiting()


def test_links_that_are_made_from_the_images_side_are_noticed():
    with the_shop("Bowl", "photos.file"):
        version = make_version()
        bowls, shared = [Bowl.objects.create() for _ in range(2)], image()
        shared.bowls.set(bowls)
        assert {product for _row, product in waiting()} == {bowl.pk for bowl in bowls}
        embed_all(version)
        shared.bowls.remove(bowls[0])
        assert list(Embedding.objects.values_list("product_id", flat=True)) == [bowls[1].pk]
        shared.bowls.clear()
        assert not Embedding.objects.exists()


def test_photos_come_in_the_order_of_their_links():
    with the_shop("Bowl", "photos.file"):
        version = make_version()
        bowl = Bowl.objects.create()
        rows = [BowlPhoto.objects.create(bowl=bowl, image=image(), place=place) for place in (2, 0, 1)]
        embed_all(version)
        assert [photo.image_id for photo in get_catalogue().product_photos(bowl)] == [
            row.pk for row in sorted(rows, key=lambda row: row.place)
        ]


def test_attachments_of_other_models_are_no_photos_of_products():
    with the_shop("Lamp", "attachments.file"):
        make_version()
        other = ContentType.objects.get_for_model(Image)
        lamp, shade = Lamp.objects.create(), Shade.objects.create()
        for text in (str(lamp.pk), "no number", ""):
            Attachment.objects.create(content_type=other, object_id=text, file=some_file())
        kept = Attachment.objects.create(target=lamp, file=some_file())
        of_a_subtype = Attachment.objects.create(target=shade, file=some_file())
        # Whose product is gone, or never was.
        here = ContentType.objects.get_for_model(Lamp)
        for text in ("987654321", "x", "9" * 40):
            Attachment.objects.create(content_type=here, object_id=text, file=some_file())
        expected = {(kept.pk, lamp.pk), (of_a_subtype.pk, shade.pk)}
        assert waiting() == expected
        assert {(row.image_id, row.product_id) for row in get_catalogue().rows(get_catalogue().images())} == expected


@pytest.mark.parametrize(
    ("model", "path", "message", "hint"),
    [
        ("Piece", "galery.image.file", "has no relation 'galery'", "gallery"),
        ("Piece", "gallery.picture.file", "has no foreign key 'picture'", "image, piece"),
        ("Piece", "gallery.sort_order.file", "has no foreign key 'sort_order'", "image"),
        ("Piece", "gallery.image.title", "is a CharField", "file"),
        ("Piece", "gallery.image", "is a ForeignKey", "gallery.image.file"),
        ("Piece", "gallery.image.fil", "has no field 'fil'", "file"),
        ("Print", "photo", "is a ForeignKey", "photo.file"),
        ("Print", "foto.file", "has no relation 'foto'", "photo"),
        ("Bowl", "photos.imagefile", "has no field 'imagefile'", "file"),
        ("Piece", "gallery..file", "has no foreign key ''", "image"),
    ],
)
def test_a_broken_path_is_refused_by_what_exists(model, path, message, hint, settings):
    settings.SHOP_SIMILARITY = {"PRODUCT_MODEL": f"relation_shops.{model}", "IMAGES": path}
    (found,) = check_settings()
    assert found.id == "shop_similarity.E002"
    assert message in found.msg
    assert hint in found.hint
