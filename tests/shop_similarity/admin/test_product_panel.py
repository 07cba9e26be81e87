"""The look-alikes of a product: on the shop's own page and on the plugin's."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from catalog.models import Product
from shop_similarity.embedding import outbox
from shop_similarity.models import Embedding, MerchandisingRule, ModelVersion, OutboxEntry
from shop_similarity.search import similar_products
from shop_similarity.search.options import SearchOptions
from tests.shop_similarity.shops import names
from tests.shop_similarity.storefront.test_widget import store_any_basis

pytestmark = pytest.mark.django_db

VIEW = "catalog.view_product"
CHANGE = "catalog.change_product"
ADD = "shop_similarity.add_merchandisingrule"
DELETE = "shop_similarity.delete_merchandisingrule"
REEMBED = "shop_similarity.reembed_product"


def own_page(product: Product) -> str:
    return reverse("admin:shop_similarity_product", args=[product.pk])


def shop_page(product: Product) -> str:
    return reverse("admin:catalog_product_change", args=[product.pk])


def action(name: str, product: Product) -> str:
    return reverse(f"admin:shop_similarity_{name}", args=[product.pk])


def cards(html: str) -> list[str]:
    found = re.findall(r'shop-similarity-name">([^<]+)<', html)
    return [name.strip() for name in found]


@pytest.mark.parametrize("address", [own_page, shop_page])
def test_look_alikes_with_scores_stand_on_both_pages(staff, shop, address):
    html = staff(VIEW).get(address(shop["Asked"])).content.decode()
    assert cards(html) == ["Near", "Middle", "Far", "Farthest"]
    similarity = similar_products(shop["Asked"])[0].similarity
    assert f"{similarity:.2f}" in html
    assert "mildnet" not in html
    assert 'style="' not in re.sub(r".*data-shop-similarity-panel", "", html, flags=re.S).split("</form>")[0]


def test_who_may_not_see_products_sees_no_look_alikes(staff, shop):
    client = staff("shop_similarity.view_dashboard")
    for url in (own_page(shop["Asked"]), reverse("admin:shop_similarity_products")):
        assert client.get(url).status_code == 403


def test_buttons_need_their_permissions(staff, shop):
    MerchandisingRule.objects.create(kind="hide", product_id=shop["Asked"].pk, target_product_id=shop["Far"].pk)
    looking = staff(VIEW).get(own_page(shop["Asked"])).content.decode()
    assert "<button" not in looking.split("data-shop-similarity-panel")[1].split("</form>")[0]
    deciding = staff(VIEW, ADD).get(own_page(shop["Asked"])).content.decode()
    assert ">Pin<" in deciding and ">Hide<" in deciding
    assert ">Take back<" not in deciding and "Embed the photos again" not in deciding
    assert ">Take back<" in staff(VIEW, DELETE).get(own_page(shop["Asked"])).content.decode()
    assert "Embed the photos again" in staff(VIEW, REEMBED).get(own_page(shop["Asked"])).content.decode()


@pytest.mark.parametrize(
    ("name", "values"), [("pin", "target"), ("hide", "target"), ("take_back", "rule"), ("reembed", "reembed")]
)
def test_actions_are_refused_without_permission_by_get_and_without_a_csrf_token(staff, shop, name, values):
    everything = (VIEW, CHANGE, ADD, DELETE, REEMBED)
    needed = {"pin": ADD, "hide": ADD, "take_back": DELETE, "reembed": REEMBED}[name]
    data = {values: shop["Far"].pk}
    url = action(name, shop["Asked"])
    others = [permission for permission in everything if permission != needed]
    assert staff(*others).post(url, data).status_code == 403
    assert staff(*everything).get(url).status_code == 405
    assert staff(*everything, csrf=True).post(url, data).status_code == 403
    assert not MerchandisingRule.objects.exists() and not OutboxEntry.objects.exists()
    assert not LogEntry.objects.exists()


def test_pinned_products_come_first_in_the_order_in_which_they_were_pinned(staff, shop):
    client = staff(VIEW, ADD)
    for name in ("Far", "Farthest"):
        response = client.post(action("pin", shop["Asked"]), {"target": shop[name].pk})
        assert response.url == own_page(shop["Asked"])
    assert names(similar_products(shop["Asked"])) == ["Far", "Farthest", "Near", "Middle"]
    assert list(MerchandisingRule.objects.order_by("position").values_list("kind", "position")) == [
        ("pin", 1),
        ("pin", 2),
    ]
    html = client.get(own_page(shop["Asked"])).content.decode()
    assert html.count('shop-similarity-badge">pinned') == 2
    sentences = LogEntry.objects.filter(object_id=shop["Asked"].pk).values_list("change_message", flat=True)
    assert "Pinned Far among the look-alikes of Asked." in sentences


def test_the_last_decision_about_a_pair_counts(staff, shop):
    client = staff(VIEW, ADD)
    for name in ("pin", "hide", "hide"):
        client.post(action(name, shop["Asked"]), {"target": shop["Far"].pk})
    rule = MerchandisingRule.objects.get()
    assert (rule.kind, rule.position) == ("hide", None)
    assert names(similar_products(shop["Asked"])) == ["Near", "Middle", "Farthest"]


def test_a_rule_is_taken_back_and_the_way_back_is_kept(staff, shop):
    rule = MerchandisingRule.objects.create(kind="hide", product_id=shop["Asked"].pk, target_product_id=shop["Far"].pk)
    elsewhere = MerchandisingRule.objects.create(
        kind="hide", product_id=shop["Near"].pk, target_product_id=shop["Far"].pk
    )
    client = staff(VIEW, DELETE)
    url = f"{action('take_back', shop['Asked'])}?next={shop_page(shop['Asked'])}"
    client.post(url, {"rule": elsewhere.pk})
    assert MerchandisingRule.objects.count() == 2, "a rule about another product's look-alikes is no business of here"
    assert client.post(url, {"rule": rule.pk}).url == shop_page(shop["Asked"])
    assert list(MerchandisingRule.objects.all()) == [elsewhere]
    foreign = f"{action('take_back', shop['Asked'])}?next=https://example.com/"
    assert client.post(foreign, {"rule": 1}).url == own_page(shop["Asked"])


def test_what_a_rule_does_and_when_is_told(staff, shop):
    day, make = timedelta(days=1), MerchandisingRule.objects.create
    asked, others = shop["Asked"], [shop[name] for name in ("Near", "Middle", "Far")]
    coming = make(
        kind="boost", product_id=asked.pk, target_product_id=others[0].pk, boost=0.2, starts_at=timezone.now() + day
    )
    make(kind="hide", product_id=asked.pk, target_product_id=others[1].pk, ends_at=timezone.now() - day)
    make(kind="pin", product_id=asked.pk, target_product_id=others[2].pk, position=2, is_on=False)
    page = own_page(asked)
    rule = reverse("admin:shop_similarity_merchandisingrule_change", args=[coming.pk])
    html = staff(VIEW).get(page).content.decode()
    for words in ("+0.2, coming ", ">ended ", "position 2, switched off"):
        assert words in html, words
    assert f'href="{rule}"' not in html
    assert f'href="{rule}"' in staff(VIEW, "shop_similarity.view_merchandisingrule").get(page).content.decode()


@pytest.mark.parametrize("target", ["", "nonsense", "999999999", "9" * 40])
def test_an_unknown_product_is_not_found(staff, shop, target):
    assert staff(VIEW, ADD).post(action("pin", shop["Asked"]), {"target": target}).status_code == 404


def test_a_product_is_no_look_alike_of_itself(staff, shop):
    response = staff(VIEW, ADD).post(action("pin", shop["Asked"]), {"target": shop["Asked"].pk}, follow=True)
    assert "A product is no look-alike of itself." in response.content.decode()
    assert not MerchandisingRule.objects.exists()


def test_the_script_gets_the_panel_alone(staff, shop):
    response = staff(VIEW, ADD).post(
        f"{action('pin', shop['Asked'])}?next={shop_page(shop['Asked'])}",
        {"target": shop["Far"].pk},
        headers={"X-Shop-Similarity-Panel": "1"},
    )
    html = response.content.decode()
    assert html.strip().startswith("<div") and "<html" not in html
    assert cards(html)[0] == "Far"
    assert "Far is pinned now." in html
    assert f"next={shop_page(shop['Asked'])}".replace("/", "%2F") in html


def test_every_state_of_a_photo_is_told(staff, shop):
    product = shop["Asked"]
    waiting, failed, unknown = (
        product.photos.create(file=f"none/{name}.jpg", position=number)
        for number, name in enumerate(("waiting", "failed", "unknown"), start=1)
    )
    OutboxEntry.objects.exclude(image_id__in=[waiting.pk, failed.pk]).delete()
    entry = OutboxEntry.objects.get(image_id=failed.pk)
    outbox.fail(outbox.Claim(failed.pk, (entry.pk,), 1), "The file is cut off.")
    html = staff(VIEW).get(own_page(product)).content.decode()
    assert re.findall(r"shop-similarity-state--([a-z-]+)", html) == ["embedded", "waiting", "failed", "not-queued"]
    assert "The file is cut off." in html
    assert unknown.file.name in html


def test_photos_are_queued_again_and_keep_their_look_alikes_meanwhile(staff, shop):
    product = shop["Asked"]
    response = staff(VIEW, REEMBED).post(action("reembed", product), follow=True)
    assert "1 photo is queued to be embedded again." in response.content.decode()
    assert list(OutboxEntry.objects.values_list("product_id", "priority")) == [(product.pk, 0)]
    # A worker that knew the file would find nothing to do.
    assert Embedding.objects.get(product_id=product.pk).content_sha256 == ""
    assert len(similar_products(product)) == 4
    staff(VIEW, REEMBED).post(action("reembed", product))
    assert OutboxEntry.objects.count() == 1, "what waits already is not queued twice"
    assert LogEntry.objects.filter(object_id=product.pk).count() == 2


def test_a_failed_photo_gets_all_its_tries_back(staff, shop):
    product = shop["Asked"]
    staff(REEMBED).post(action("reembed", product))
    entry = OutboxEntry.objects.get()
    outbox.fail(outbox.Claim(entry.image_id, (entry.pk,), 5), "Given up.", keep_embedding=True)
    staff(REEMBED).post(action("reembed", product))
    entry = OutboxEntry.objects.get()
    assert (entry.failed_at, entry.attempts, entry.last_error) == (None, 0, "")


def test_the_list_action_needs_its_permission(staff, shop):
    url = reverse("admin:catalog_product_changelist")
    data = {"action": "reembed_photos", "_selected_action": [shop["Near"].pk, shop["Far"].pk]}
    without = staff(VIEW, CHANGE)
    assert "Embed the photos again" not in without.get(url).content.decode()
    without.post(url, data)
    assert not OutboxEntry.objects.exists()
    allowed = staff(VIEW, CHANGE, REEMBED)
    assert "Embed the photos again" in allowed.get(url).content.decode()
    assert "2 photos are queued" in allowed.post(url, data, follow=True).content.decode()
    assert OutboxEntry.objects.count() == 2


def test_the_search_finds_products_by_the_shops_own_fields(staff, shop):
    url = reverse("admin:shop_similarity_products")
    client = staff(VIEW)
    assert set(cards(client.get(url).content.decode())) == set(shop)
    assert cards(client.get(url, {"q": shop["Near"].sku}).content.decode()) == ["Near"]
    assert "No product was found" in client.get(url, {"q": "zzz"}).content.decode()


def test_adding_a_product_and_popups_show_no_panel(staff, shop):
    client = staff(VIEW, CHANGE, "catalog.add_product")
    for url in (reverse("admin:catalog_product_add"), f"{shop_page(shop['Asked'])}?_popup=1"):
        response = client.get(url)
        assert response.status_code == 200
        assert "data-shop-similarity-panel" not in response.content.decode()


@pytest.mark.parametrize("address", [own_page, shop_page])
def test_queries_do_not_grow_with_photos_products_and_rules(staff, shop, address):
    def pin(name: str) -> None:
        MerchandisingRule.objects.create(kind="pin", product_id=shop["Asked"].pk, target_product_id=shop[name].pk)

    client = staff(VIEW, CHANGE, ADD, DELETE, REEMBED)
    pin("Near")
    client.get(address(shop["Asked"]))
    with CaptureQueriesContext(connection) as few:
        client.get(address(shop["Asked"]))
    for number in range(3):
        shop["Asked"].photos.create(file=f"none/more-{number}.jpg", position=number + 5)
    for name in ("Far", "Middle", "Farthest"):
        pin(name)
    with CaptureQueriesContext(connection) as many:
        client.get(address(shop["Asked"]))
    assert len(many) == len(few), [query["sql"] for query in many.captured_queries]
    assert len(many) <= 26


def test_why_they_are_similar_is_told_where_the_version_has_aspects(staff, shop):
    client = staff(VIEW)
    assert "shop-similarity-why" not in client.get(own_page(shop["Asked"])).content.decode()
    store_any_basis(ModelVersion.objects.get())
    found = similar_products(shop["Asked"], options=SearchOptions(explain=True))
    html = client.get(own_page(shop["Asked"])).content.decode()
    assert [unescape(text) for text in re.findall(r'shop-similarity-why">([^<]+)<', html)] == [
        sentence for product in found if (sentence := product.explanation.sentence())
    ]
    assert "shop-similarity-why" in html
