"""The admin in a real browser: what is pinned there stands first in the shop, with and without JavaScript; axe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from catalog.models import Product
from shop_similarity.models import MerchandisingRule, ModelVersion, OutboxEntry
from tests.shop_similarity.drawn_photos import products
from tests.shop_similarity.factories import make_product, make_version, store_vectors
from tests.shop_similarity.shops import mixed

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PICTURES = os.environ.get("SHOP_TEST_PICTURES")
DESK = {"viewport": {"width": 1280, "height": 900}}
_COSINES = (0.95, 0.8, 0.7, 0.6, 0.5)


@pytest.fixture
def drawn_shop(settings, tmp_path) -> list[Product]:
    """Five products with drawn photos; the first one's look-alikes are the others in their order."""
    settings.MEDIA_ROOT = tmp_path / "media"
    versions = [make_version(), make_version("second", "candidate")]
    shop, photos = [], []
    for item in products(len(_COSINES)):
        product = make_product(item.name, stock=3, price=9)
        photos.append(product.photos.create(file=item.photo_file((200, 200)), position=0))
        shop.append(product)
    for version in versions:
        vectors = [mixed({"a": cosine}, f"{version} {number}") for number, cosine in enumerate(_COSINES)]
        store_vectors(version, photos, vectors)
    ModelVersion.objects.get(name="second").outbox.all().delete()
    return shop


@pytest.fixture
def open_page(chromium, live_server, db):
    """open_page(path, **context) -> a page of a logged-in superuser; at the end nothing may have gone wrong in it."""
    contexts, faults = [], []

    def visit(path: str, *, watched: bool = True, **how) -> Page:
        User.objects.filter(username="boss").exists() or User.objects.create_superuser("boss", password="secret")
        context = chromium.new_context(base_url=live_server.url, **(DESK | how))
        contexts.append(context)
        page = context.new_page()
        if watched:
            page.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"/admin/login/?next={path}")
        page.get_by_label("Username").fill("boss")
        page.get_by_label("Password").fill("secret")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_load_state("networkidle")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []


def _is_fault(message) -> bool:
    # Browsers ask for an icon by themselves, and the shop has none.
    return message.type == "error" and not message.location["url"].endswith("/favicon.ico")


def change_page(product: Product) -> str:
    return reverse("admin:catalog_product_change", args=[product.pk])


@pytest.mark.parametrize("javascript", [True, False])
def test_what_is_pinned_in_the_admin_stands_first_in_the_shop(open_page, drawn_shop, javascript):
    asked, last = drawn_shop[0], drawn_shop[-1]
    page = open_page(change_page(asked), java_script_enabled=javascript)
    panel = page.locator("[data-shop-similarity-panel]")
    expect(panel.get_by_role("link", name=drawn_shop[1].name).first).to_be_visible()
    page.locator("#id_description").fill("Not saved yet.")
    panel.get_by_role("button", name=f"Pin {last.name}").click()
    if javascript:
        expect(panel.get_by_role("status")).to_have_text(f"{last.name} is pinned now.")
        expect(page.locator("#id_description")).to_have_value("Not saved yet.")
    else:
        expect(page.get_by_text(f"{last.name} is pinned now.")).to_be_visible()
        assert page.url.endswith(change_page(asked))
    cards = panel.locator(".shop-similarity-card")
    expect(cards.first).to_contain_text(last.name)
    expect(cards.first).to_contain_text("pinned")
    page.goto(asked.get_absolute_url())
    first = page.get_by_role("region", name="Similar products").get_by_role("listitem").first
    expect(first).to_contain_text(last.name)


def test_a_rule_is_looked_at_before_it_is_saved(open_page, drawn_shop, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ATTRIBUTES": {"brand": "description"}}
    Product.objects.filter(pk__in=[drawn_shop[0].pk, drawn_shop[3].pk]).update(description="ours")
    # axe writes inline styles.
    page = open_page(reverse("admin:index"), watched=False, bypass_csp=True)
    page.get_by_role("link", name="Dashboard", exact=True).first.click()
    page.wait_for_url(f"**{reverse('admin:shop_similarity_dashboard')}")
    page.goto(f"{reverse('admin:shop_similarity_merchandisingrule_add')}?kind=share&product_id={drawn_shop[0].pk}")
    expect(page.locator(".form-row.field-target_product_id")).to_be_hidden()
    page.get_by_label("What they share").select_option("brand")
    page.get_by_label("How much").fill("0.9")
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Preview before and after").click()
    preview = opened.value
    lists = preview.locator(".shop-similarity-strip")
    expect(lists).to_have_count(2)
    expect(lists.nth(0).locator("li").first).to_contain_text(drawn_shop[1].name)
    expect(lists.nth(1).locator("li").first).to_contain_text(drawn_shop[3].name)
    assert not MerchandisingRule.objects.exists()
    ours = [".field-kind", ".field-attribute", ".shop-similarity-buttons"]
    for shown, name, parts in ((page, "form", ours), (preview, "preview", ["#content-main"])):
        violations = Axe().run(shown, context={"include": parts}).response["violations"]
        serious = [fault for fault in violations if fault["impact"] in ("serious", "critical")]
        assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in serious] == []
        if PICTURES:
            shown.screenshot(path=Path(PICTURES) / f"admin-rule-{name}.png", full_page=True)
    preview.get_by_role("button", name="Save the rule").click()
    expect(preview.get_by_text("was added successfully")).to_be_visible()
    assert MerchandisingRule.objects.get().attribute == "brand"


@pytest.mark.parametrize("javascript", [True, False])
def test_a_mode_is_looked_at_before_a_template_has_it(open_page, drawn_shop, settings, javascript):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ATTRIBUTES": {"brand": "description"}}
    Product.objects.filter(pk__in=[drawn_shop[0].pk, drawn_shop[3].pk]).update(description="ours")
    # axe writes inline styles.
    page = open_page(
        reverse("admin:shop_similarity_product", args=[drawn_shop[0].pk]),
        watched=False,
        bypass_csp=True,
        java_script_enabled=javascript,
    )
    page.get_by_role("link", name="Preview of modes").click()
    page.get_by_label("Mode").select_option("same")
    page.get_by_label("What they share").select_option("brand")
    page.get_by_role("button", name="Show").click()
    lists = page.locator(".shop-similarity-strip")
    expect(lists).to_have_count(2)
    expect(lists.nth(0).locator("li")).to_have_count(4)
    expect(lists.nth(1).locator("li")).to_have_count(1)
    expect(lists.nth(1).locator("li")).to_contain_text(drawn_shop[3].name)
    page.get_by_label("Mode").select_option("share")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".errorlist")).to_contain_text("Say how much")
    if javascript:
        violations = Axe().run(page, context={"include": ["#content-main"]}).response["violations"]
        assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in violations] == []
    page.get_by_label("How much").fill("0.9")
    page.get_by_role("button", name="Show").click()
    expect(lists.nth(1).locator("li").first).to_contain_text(drawn_shop[3].name)
    if PICTURES and javascript:
        page.screenshot(path=Path(PICTURES) / "admin-modes.png", full_page=True)
        page.set_viewport_size({"width": 390, "height": 844})
        page.screenshot(path=Path(PICTURES) / "admin-modes-phone.png", full_page=True)
    assert not MerchandisingRule.objects.exists()


def test_enter_in_a_field_saves_the_product_and_pins_nothing(open_page, drawn_shop):
    page = open_page(change_page(drawn_shop[0]))
    page.locator("#id_name").fill("Another name")
    page.locator("#id_name").press("Enter")
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    drawn_shop[0].refresh_from_db()
    assert drawn_shop[0].name == "Another name"
    assert not MerchandisingRule.objects.exists()


def test_a_rule_is_made_by_searching_for_products(open_page, drawn_shop):
    page = open_page(reverse("admin:shop_similarity_merchandisingrule_add"))
    page.locator("#id_kind").select_option("hide")
    expect(page.locator(".form-row.field-position")).to_be_hidden()
    for field, product in (("target_product_id", drawn_shop[2]), ("product_id", drawn_shop[0])):
        page.locator(f".form-row.field-{field} .select2-selection").click()
        page.locator(".select2-search__field").fill(product.name)
        page.locator(".select2-results__option", has_text=product.name).click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    rule = MerchandisingRule.objects.get()
    assert (rule.kind, rule.product_id, rule.target_product_id) == ("hide", drawn_shop[0].pk, drawn_shop[2].pk)


def pages(shop: list[Product]) -> dict[str, str]:
    return {
        "product": change_page(shop[0]),
        "dashboard": reverse("admin:shop_similarity_dashboard"),
        "compare": reverse("admin:shop_similarity_compare"),
        "own": reverse("admin:shop_similarity_product", args=[shop[0].pk]),
        "modes": reverse("admin:shop_similarity_modes", args=[shop[0].pk]),
        "products": reverse("admin:shop_similarity_products"),
        "activate": reverse("admin:shop_similarity_activate", args=[ModelVersion.objects.get(name="second").pk]),
        "index": reverse("admin:app_list", args=["shop_similarity"]),
        "rules": reverse("admin:shop_similarity_merchandisingrule_changelist"),
    }


# What a frame hides of its content, or sticks out of the page's own margin.
_CUT_OFF = """() => [
    ...[...document.querySelectorAll(".shop-similarity-fieldset .form-row")].filter(
        (e) => e.scrollWidth > e.clientWidth
    ),
    ...[...document.querySelectorAll(".shop-similarity-form input")].filter(
        (e) => e.getBoundingClientRect().right > document.getElementById("content-main").getBoundingClientRect().right
    ),
].map((e) => e.outerHTML.slice(0, 120))"""


def test_pages_keep_to_the_content_security_policy_and_fit_a_telephone(open_page, drawn_shop):
    MerchandisingRule.objects.create(kind="pin", product_id=drawn_shop[0].pk, target_product_id=drawn_shop[3].pk)
    photo = drawn_shop[2].photos.get()
    OutboxEntry.objects.create(
        version=ModelVersion.objects.active(),
        image_id=photo.pk,
        product_id=drawn_shop[2].pk,
        failed_at=timezone.now(),
        last_error="The JPEG file is cut off after 9,000 bytes; upload the photo again.",
    )
    page = open_page(reverse("admin:index"), viewport={"width": 390, "height": 844})
    for name, address in pages(drawn_shop).items():
        page.goto(address, wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        assert page.evaluate(_CUT_OFF) == [], name


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_axe_finds_nothing_serious(open_page, drawn_shop, scheme):
    MerchandisingRule.objects.create(kind="pin", product_id=drawn_shop[0].pk, target_product_id=drawn_shop[3].pk)
    # axe itself writes inline styles, and looks for what style sheets import below the page's own address.
    page = open_page(reverse("admin:index"), watched=False, color_scheme=scheme, bypass_csp=True)
    chosen = pages(drawn_shop)
    if scheme == "dark":
        chosen = {name: chosen[name] for name in ("product", "dashboard", "compare")}
    for name, address in chosen.items():
        page.goto(address, wait_until="networkidle")
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"admin-{name}-{scheme}.png", full_page=True)
        # The rest of the page is the markup of Django's admin.
        own = [
            [selector] for selector in (".shop-similarity", ".shop-similarity-links") if page.locator(selector).count()
        ]
        if not own:
            continue
        found = Axe().run(page, context={"include": own}).response["violations"]
        serious = [
            (fault["id"], [node["html"][:200] for node in fault["nodes"]])
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]
        assert serious == [], name
