"""How the adapter reads Oscar's catalogue; pytest runs this inside the shop, without a worker and without files."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission
from django.core.management import call_command
from django.db import connection
from django.template import engines
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from oscar.apps.catalogue.categories import create_from_breadcrumbs
from oscar.core.loading import get_class, get_model

from shop_similarity.catalogue import get_catalogue
from shop_similarity.contrib.oscar import dashboard, products
from shop_similarity.contrib.oscar.checks import check_stock
from shop_similarity.embedding.outbox import Claim
from shop_similarity.embedding.writing import PhotoVector, write_embeddings
from shop_similarity.models import Heartbeat, ModelVersion, OutboxEntry
from shop_similarity.search import Filters, SearchOptions, similar_products
from shop_similarity.storefront.cards import widget_cards
from shop_similarity.visual_search.categories import category_choices

pytestmark = pytest.mark.django_db

Product = get_model("catalogue", "Product")
ProductClass = get_model("catalogue", "ProductClass")
ProductImage = get_model("catalogue", "ProductImage")
Partner = get_model("partner", "Partner")
StockRecord = get_model("partner", "StockRecord")
User = get_user_model()


class Shop:
    """Products by title, each of a class that tracks stock."""

    def __init__(self) -> None:
        self.goods = ProductClass.objects.create(name="Goods")
        self.partner = Partner.objects.create(name="Warehouse")
        self.version = ModelVersion.objects.create(
            name="v1", architecture="mildnet", weights_sha256="0", state=ModelVersion.State.ACTIVE
        )

    def add(self, title: str, *, parent=None, photo=True, price="10", stock=5, category="", partner=None, **values):
        """A product; one with ``price=None`` has no stock record, as parents have none."""
        structure = Product.CHILD if parent else Product.STANDALONE
        product_class = None if parent else values.pop("product_class", self.goods)
        product = Product(title=title, parent=parent, structure=structure, product_class=product_class, **values)
        product.save()
        if parent is not None and parent.structure != Product.PARENT:
            parent.structure = Product.PARENT
            parent.save()
            parent.stockrecords.all().delete()
        if price is not None:
            StockRecord.objects.create(
                product=product,
                partner=partner or self.partner,
                partner_sku=title,
                price=Decimal(price),
                num_in_stock=stock,
            )
        if photo:
            ProductImage.objects.create(product=product, original=f"{title}.jpg")
        if category:
            product.categories.add(create_from_breadcrumbs(category))
        return product

    def embed(self) -> None:
        """Vectors for all photos, none of which look like variants of one another."""
        catalogue = get_catalogue()
        rows = list(catalogue.rows(catalogue.images()))
        random = np.random.default_rng(0)
        vectors = random.standard_normal((len(rows), 4096)) + random.standard_normal(4096)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        photos = zip(rows, vectors.astype(np.float32), strict=True)
        write_embeddings(
            self.version.pk,
            [PhotoVector(Claim(row.image_id, (), 1), row, "1:1", str(row.image_id), vector) for row, vector in photos],
        )
        OutboxEntry.objects.all().delete()


@pytest.fixture
def shop() -> Shop:
    return Shop()


def titles(found) -> set[str]:
    return {product.title for product in found}


def visible(options: SearchOptions, asked) -> set[str]:
    return titles(similar_products(asked, options=options))


def test_the_checks_have_nothing_to_say(shop, settings):
    # The weights that find objects are fetched by a command of their own.
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "VISUAL_SEARCH_OBJECTS": False}
    shop.add("lamp", category="Home")
    call_command(
        "check", "--database", "default", "--fail-level", "INFO", "--tag", "shop_similarity", "--tag", "database"
    )


def test_a_shop_in_which_nothing_can_be_bought_is_told(shop):
    shop.add("lamp", price=None)
    assert [message.id for message in check_stock(["default"])] == ["shop_similarity_oscar.W002"]
    shop.add("vase", stock=1)
    assert check_stock(["default"]) == []


def test_parents_are_found_by_their_childrens_photos_and_children_ask_with_their_parents(shop):
    asked = shop.add("asked", photo=False, price=None)
    red, bare = shop.add("red", parent=asked), shop.add("bare", parent=asked, photo=False)
    shirt = shop.add("shirt", photo=False, price=None)
    shop.add("blue shirt", parent=shirt)
    shop.add("lamp")
    shop.embed()
    for product in (asked, red, bare):
        assert titles(similar_products(product)) == {"shirt", "lamp"}
    (card,) = [card for card in widget_cards(asked, SearchOptions()) if card.product == shirt]
    assert card.image.name == "blue shirt.jpg"


def test_children_that_are_not_public_neither_speak_nor_cost_nor_sell(shop):
    asked, shirt = shop.add("asked"), shop.add("shirt", photo=False, price=None)
    shop.add("shown", parent=shirt, price="50", photo=False)
    shop.add("secret", parent=shirt, price="5", is_public=False)
    shop.embed()
    assert titles(similar_products(asked)) == set()
    ProductImage.objects.create(product=shirt, original="shirt.jpg")
    shop.embed()
    (found,) = similar_products(asked)
    assert [photo.file.name for photo in get_catalogue().product_photos(found)] == ["shirt.jpg"]
    assert visible(SearchOptions(filters=Filters(price_max=20)), asked) == set()
    assert visible(SearchOptions(filters=Filters(price_max=50)), asked) == {"shirt"}
    StockRecord.objects.filter(product__title="shown").update(num_in_stock=0)
    assert titles(similar_products(asked)) == set()


def test_a_parents_price_is_that_of_any_child(shop):
    asked, shirt = shop.add("asked"), shop.add("shirt", price=None)
    shop.add("small", parent=shirt, price="30", photo=False)
    shop.add("large", parent=shirt, price="60", photo=False)
    shop.add("lamp", price="45")
    shop.embed()
    for low, high, found in ((None, 29, set()), (None, 30, {"shirt"}), (46, None, {"shirt"}), (31, 59, {"lamp"})):
        assert visible(SearchOptions(filters=Filters(price_min=low, price_max=high)), asked) == found


def test_what_oscar_does_not_sell_is_not_recommended(shop):
    asked = shop.add("asked")
    shop.add("in stock")
    shop.add("sold out", stock=0)
    shop.add("no record", price=None)
    allocated = shop.add("allocated", stock=2)
    StockRecord.objects.filter(product=allocated).update(num_allocated=2)
    digital = ProductClass.objects.create(name="Digital", track_stock=False)
    shop.add("digital", stock=None, product_class=digital)
    course = shop.add("course", price=None, product_class=digital)
    shop.add("evening course", parent=course, stock=None, photo=False)
    shop.embed()
    strategy = get_class("partner.strategy", "Selector")().strategy()
    infos = {
        product: strategy.fetch_for_parent(product) if product.is_parent else strategy.fetch_for_product(product)
        for product in Product.objects.browsable()
    }
    buyable = {product.title for product, info in infos.items() if info.availability.is_available_to_buy}
    assert titles(similar_products(asked)) == buyable - {"asked"} == {"in stock", "digital", "course"}


def test_categories_are_those_that_the_shop_shows(shop):
    asked = shop.add("asked", category="Clothing > Shirts")
    parent = shop.add("parent", category="Clothing > Trousers", price=None)
    child = shop.add("child", parent=parent, photo=False)
    shop.add("secret", category="Staff picks")
    get_model("catalogue", "Category").objects.filter(name="Staff picks").update(is_public=False)
    shop.add("other", category="Home")
    shop.embed()
    assert [label for _value, label in category_choices()] == [
        "Clothing",
        "Clothing › Shirts",
        "Clothing › Trousers",
        "Home",
    ]
    clothing = parent.categories.get().get_parent()
    assert visible(SearchOptions(filters=Filters((clothing.pk,))), asked) == {"parent"}
    assert list(
        Product.objects.filter(pk=child.pk).annotate(one=products.category()).values_list("one", flat=True)
    ) == [parent.categories.get().pk]


def test_products_that_are_not_public_are_not_shown(shop):
    asked = shop.add("asked")
    shop.add("secret", is_public=False)
    shop.add("lamp")
    shop.embed()
    assert titles(similar_products(asked)) == {"lamp"}


def card_queries(shop: Shop, asked, limit: int) -> tuple[int, str]:
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    request.strategy = get_class("partner.strategy", "Selector")().strategy(request=request)
    template = engines["django"].from_string("{% load shop_similarity %}{% similar_products product limit=limit %}")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        html = template.render({"product": asked, "limit": limit}, request)
    return len(queries), html


def test_prices_are_the_strategys_and_cost_no_statement_for_each_card(shop, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": "run_catalogue.no_copies"}
    asked = shop.add("asked")
    for number in range(4):
        shop.add(f"single {number}", price=f"{10 + number}")
        shirt = shop.add(f"parent {number}", price=None)
        for size in range(3):
            shop.add(f"child {number} {size}", parent=shirt, price=f"{20 + number}", photo=False)
    shop.embed()
    card_queries(shop, asked, 2)
    few, _html = card_queries(shop, asked, 2)
    many, html = card_queries(shop, asked, 8)
    assert many == few
    for number in range(4):
        assert f"£{10 + number}.00" in html and f"£{20 + number}.00" in html
    assert html.count("In stock") + html.count("Available") >= 8


def no_copies(file, widths):
    return [(file.url, width, width) for width in widths]


def test_the_widgets_own_address_is_for_one_visitor(shop, client, settings):
    """Prices of a strategy are for one customer, so no cache may keep them for another."""
    settings.SHOP_SIMILARITY = {
        **settings.SHOP_SIMILARITY,
        "RECORD_EVENTS": False,
        "THUMBNAILS": "run_catalogue.no_copies",
    }
    asked = shop.add("asked")
    shop.add("lamp")
    shop.embed()
    response = client.get(reverse("shop_similarity:similar-products", args=[asked.pk]))
    assert "£10.00" in response.content.decode()
    assert "no-store" in response["Cache-Control"] and "private" in response["Cache-Control"]


def request_of(user) -> object:
    request = RequestFactory().get("/dashboard/")
    request.user = user
    return request


@pytest.fixture
def partner_user(shop) -> User:
    user = User.objects.create_user("partner", "partner@example.com", "x")
    user.user_permissions.add(Permission.objects.get(codename="dashboard_access"))
    Partner.objects.create(name="Theirs").users.add(user)
    return user


def test_the_panel_shows_partners_their_own_photos_alone(shop, partner_user, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": "run_catalogue.no_copies"}
    theirs = partner_user.partners.get()
    shirt = shop.add("shirt", price=None)
    mine = shop.add("mine", parent=shirt, partner=theirs)
    other = shop.add("other", parent=shirt)
    shop.add("lamp")
    shop.embed()
    for product, failed in ((mine, False), (other, True), (shirt, True)):
        image = product.images.get()
        OutboxEntry.objects.create(
            version=shop.version,
            product_id=shirt.pk,
            image_id=image.pk,
            failed_at=timezone.now() if failed else None,
            last_error="The file is damaged." if failed else "",
            file_name=image.original.name,
        )
    staff = User.objects.create_user("staff", "staff@example.com", "x", is_staff=True)
    everything = dashboard.photo_status(request_of(staff))
    assert (everything.embedded, everything.waiting, everything.failed) == (4, 1, 2)
    own = dashboard.photo_status(request_of(partner_user))
    # The parent is theirs to edit, for a child is.
    assert (own.embedded, own.waiting, own.failed) == (2, 1, 1)
    assert [failure.entry.file_name for failure in own.failures] == ["shirt.jpg"]
    assert {photo.name for photo in dashboard.product_photos(request_of(staff), shirt)} == {
        "shirt.jpg",
        "mine.jpg",
        "other.jpg",
    }
    assert {photo.name for photo in dashboard.product_photos(request_of(partner_user), shirt)} == {
        "shirt.jpg",
        "mine.jpg",
    }
    customer = User.objects.create_user("customer", "customer@example.com", "x")
    assert dashboard.photo_status(request_of(customer)) is None
    assert dashboard.product_photos(request_of(customer), shirt) == []


def test_the_panel_says_whether_a_worker_is_there(shop):
    staff = request_of(User.objects.create_user("staff", "staff@example.com", "x", is_staff=True))
    assert dashboard.photo_status(staff).worker_seen_at is None
    product = shop.add("lamp")
    assert dashboard.photo_status(staff).waiting == 1 and dashboard.photo_status(staff).is_quiet
    now = timezone.now()
    Heartbeat.objects.create(worker="w", started_at=now, seen_at=now)
    assert not dashboard.photo_status(staff).is_quiet
    Heartbeat.objects.update(seen_at=now - timedelta(hours=1))
    assert dashboard.photo_status(staff).is_quiet
    (photo,) = dashboard.product_photos(staff, product)
    assert photo.state.progress.value == "waiting"
    ModelVersion.objects.update(state=ModelVersion.State.RETIRED)
    assert dashboard.photo_status(staff).version is None
    (photo,) = dashboard.product_photos(staff, product)
    assert photo.state is None


def test_dashboard_pages_open_for_staff_and_partners(shop, partner_user, client, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": "run_catalogue.no_copies"}
    settings.OSCAR_THUMBNAIL_DEBUG = False
    shirt = shop.add("shirt", price=None)
    mine = shop.add("mine", parent=shirt, partner=partner_user.partners.get())
    lamp = shop.add("lamp")
    client.force_login(partner_user)
    assert "similar_products_status" in client.get(reverse("dashboard:index")).content.decode()
    page = client.get(reverse("dashboard:catalogue-product", args=[mine.pk])).content.decode()
    assert 'href="#similar_products"' in page and "mine.jpg" in page
    assert client.get(reverse("dashboard:catalogue-product", args=[lamp.pk])).status_code == 404
    client.force_login(User.objects.create_user("staff", "staff@example.com", "x", is_staff=True))
    assert "similar_products_status" in client.get(reverse("dashboard:index")).content.decode()
    create = reverse("dashboard:catalogue-product-create", args=[shop.goods.slug])
    assert "similar_products" not in client.get(create).content.decode()
