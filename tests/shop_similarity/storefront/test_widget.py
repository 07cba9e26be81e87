"""The template tag and its templates."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from django.db import connection
from django.template import engines
from django.test import RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import translation
from django.utils.functional import SimpleLazyObject, empty

import shop_similarity
from catalog.models import Product
from shop_similarity.models import ModelVersion
from shop_similarity.search import SearchOptions
from shop_similarity.search.aspects import Basis, store_basis
from shop_similarity.search.paths import forget_paths
from shop_similarity.storefront.options import WidgetOptions
from tests.catalog.html_page import Page
from tests.shop_similarity.drawn_photos import product_photo
from tests.shop_similarity.factories import (
    add_photo,
    make_category,
    make_photos_without_files,
    make_product,
    make_version,
    store_vectors,
)
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


def _render(source: str, **context) -> str:
    return engines["django"].from_string("{% load shop_similarity %}" + source).render(context)


def _request(path: str = "/lamp/", **parameters):
    return RequestFactory().get(path, parameters)


@pytest.fixture(autouse=True)
def _templates_of_the_plugin(settings):
    """The reference shop puts a card of its own in the place of the plugin's."""
    folder = Path(shop_similarity.__file__).parent / "templates"
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [folder]}]
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": None}


@pytest.fixture
def no_fallback(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "FALLBACK": None}


def _embedded(count: int, per_product: int = 1) -> list[Product]:
    products = [make_product(f"Lamp {number}") for number in range(count)]
    photos = [photo for product in products for photo in make_photos_without_files([product], per_product)]
    store_vectors(make_version(), photos, random_vectors(len(photos)))
    return products


def store_any_basis(version: ModelVersion) -> None:
    """Aspects that mean nothing, for tests of what is shown of them."""
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((4096, 3)))[0].astype(np.float32)
    forms = np.stack([np.diag(row) for row in np.eye(3, dtype=np.float32)])
    third = np.full(3, 1 / 3, dtype=np.float32)
    store_basis(version, Basis(directions, forms, third, np.zeros(3, dtype=np.float32), third))


def test_nothing_and_no_error_while_there_is_no_embedding(no_fallback):
    product = make_product()
    for lazy in ("False", "True"):
        assert _render(f"{{% similar_products product lazy={lazy} %}}", product=product) == ""
    make_version()
    assert _render("{% similar_products product %}", product=product) == ""


def test_shows_the_look_alikes_with_links_and_lazy_pictures():
    products = [make_product(f"Lamp {number}") for number in range(5)]
    photos = [add_photo(product, product_photo("lamp", "red", size=(600, 300))) for product in products]
    store_vectors(make_version(), photos, random_vectors(5))
    html = _render("{% similar_products product limit=3 %}", product=products[0])
    assert html.count("<li") == 3
    for picture in Page(html).all("img"):
        assert picture["loading"] == "lazy"
        assert picture["sizes"]
        assert re.findall(r"\S+ (\d+)w", picture["srcset"]) == ["240", "480"]
        assert (picture["width"], picture["height"]) == ("480", "240")
    assert html.count("<img") == 3
    assert products[0].get_absolute_url() not in html
    assert "<h2" in html
    assert f'aria-labelledby="similar-products-{products[0].pk}"' in html
    assert " style=" not in html
    assert "<script" not in html


def test_missing_photos_become_quiet_placeholders():
    products = _embedded(3)
    html = _render("{% similar_products product %}", product=products[0])
    assert "<img" not in html
    assert html.count("similar-products__no-photo") == 2


def test_fallback_is_shown_and_named_differently():
    product, other = make_product("asked"), make_product("other", stock=1)
    html = _render("{% similar_products product %}", product=product)
    assert other.name in html
    assert "You may also like" in html
    assert "Similar products" not in html
    assert f'href="{product.get_absolute_url()}"' not in html
    assert "data-similarity-token" not in html


def test_card_shows_the_photo_that_looks_alike():
    asked, other = make_product(), make_product()
    query = make_photos_without_files([asked])[0]
    unlike = add_photo(other, b"1", "unlike.jpg", position=0)
    alike = add_photo(other, b"2", "alike.jpg", position=1)
    vectors = random_vectors(2)
    store_vectors(make_version(), [query, unlike, alike], vectors[[0, 1, 0]])
    from shop_similarity.storefront.cards import widget_cards

    (card,) = widget_cards(asked, SearchOptions(limit=5))
    assert card.image.name == alike.file.name
    assert card.similarity == pytest.approx(1, abs=1e-3)


def test_names_and_headings_are_escaped():
    asked = make_product("asked")
    evil = make_product("<script>alert(1)</script>")
    store_vectors(make_version(), make_photos_without_files([asked, evil]), random_vectors(2))
    for lazy in ("False", "True"):
        html = _render(
            f"{{% similar_products product heading=heading lazy={lazy} %}}", product=asked, heading="<b>Lamps</b>"
        )
        assert "<script>" not in html
        assert "&lt;b&gt;Lamps" in html
    assert "&lt;script&gt;" in _render("{% similar_products product %}", product=asked)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("product_card.html", "{{ product.name }} {{ similarity|floatformat }}"),
        ("picture.html", "{{ sizes }}"),
        ("similar_products_choices.html", "{{ lean_choices|length }}"),
        ("similar_products.html", "{{ cards|length }}"),
    ],
)
def test_every_template_can_be_overridden_alone(tmp_path, name, shown):
    products = _embedded(3)
    folder = tmp_path / "shop_similarity"
    folder.mkdir()
    (folder / name).write_text("MINE " + shown, encoding="utf-8")
    templates = [
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [str(tmp_path)], "APP_DIRS": True}
    ]
    if name != "product_card.html":
        # The shop's own card needs none of the plugin's pictures.
        theirs = Path(shop_similarity.__file__).parent / "templates" / "shop_similarity" / "product_card.html"
        (folder / "product_card.html").write_text(theirs.read_text(encoding="utf-8"), encoding="utf-8")
    with override_settings(TEMPLATES=templates):
        assert "MINE " in _render("{% similar_products product %}", product=products[0])


def test_a_card_of_the_hosts_own_gets_the_context_of_the_page(tmp_path):
    products = _embedded(3)
    (tmp_path / "shop_similarity").mkdir()
    card = "<b>{{ product.name }} {{ request.path }} {{ basket }} {{ image|yesno }} {{ heading_level }}</b>"
    (tmp_path / "shop_similarity" / "product_card.html").write_text(card, encoding="utf-8")
    templates = [
        {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [str(tmp_path)], "APP_DIRS": True}
    ]
    with override_settings(TEMPLATES=templates):
        html = _render(
            "{% similar_products product heading_level=3 %}",
            product=products[0],
            request=_request(),
            basket="of three",
            image=None,
        )
    assert "<b>Lamp 1 /lamp/ of three yes 3</b>" in html


def test_heading_its_level_and_the_element_are_the_hosts():
    products = _embedded(3)
    html = _render(
        "{% similar_products product heading='Looks alike' heading_level=4 element_id='alike' %}", product=products[0]
    )
    assert '<h4 class="similar-products__heading" id="alike">Looks alike</h4>' in html
    assert 'aria-labelledby="alike"' in html


def test_a_row_can_be_reached_by_the_keyboard_and_has_a_name():
    product = _embedded(3)[0]
    row = Page(_render("{% similar_products product layout='row' %}", product=product))
    (items,) = [element for element in row.all("ul") if element["class"] == "similar-products__list"]
    assert items["tabindex"] == "0"
    assert items["aria-labelledby"] == f"similar-products-{product.pk}"
    grid = Page(_render("{% similar_products product %}", product=product))
    assert not [element for element in grid.elements if element["tabindex"]]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("layout='pile'", "layout"),
        ("limit=0", "limit"),
        ("limit=51", "limit"),
        ("limit='many'", "limit"),
        ("price_max='cheap'", "cheap"),
        ("price_min=-1", "-1 is no price"),
        ("heading_level=7", "heading_level"),
        ("lean_to='smell'", "lean_to"),
        ("element_id='a b'", "element_id"),
        ("lazy=True among=few", "among"),
    ],
)
def test_wrong_arguments_are_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        _render(f"{{% similar_products product {arguments} %}}", product=make_product(), few=Product.objects.all())


def test_among_narrows_the_choice():
    products = _embedded(6)
    html = _render(
        "{% similar_products product among=few lean=True filters=True %}",
        product=products[0],
        few=Product.objects.filter(pk__in=[products[2].pk, products[4].pk]),
        request=_request(),
    )
    assert html.count('<li class="similar-products__item"') == 2
    # The address of the fragment can't know of the queryset.
    assert "data-similarity-swap" not in html


def test_keys_are_not_written_as_numbers_of_the_language(settings):
    settings.USE_THOUSAND_SEPARATOR = True
    products = [make_product(f"Lamp {number}", pk=12_000 + number) for number in range(2)]
    store_vectors(make_version(), make_photos_without_files(products), random_vectors(2))
    html = _render("{% similar_products product %}", product=products[0])
    assert 'data-similarity-product="12001"' in html
    assert 'id="similar-products-12000"' in html


def test_lists_carry_a_token_unless_nothing_is_recorded(settings):
    product = _embedded(3)[0]
    html = _render("{% similar_products product %}", product=product)
    assert re.search(r'data-similarity-token="[^"]{40,}" data-similarity-events="/similarity/events/"', html)
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RECORD_EVENTS": False}
    assert "data-similarity-token" not in _render("{% similar_products product %}", product=product)


class TestLeaning:
    def _options(self, html: str) -> list:
        return [element for element in Page(html).all("a") if "similar-products__option" in (element["class"] or "")]

    def test_is_offered_only_where_the_version_can(self):
        product = _embedded(3)[0]
        source = "{% similar_products product lean=True explain=True %}"
        assert not self._options(_render(source, product=product, request=_request()))
        store_any_basis(ModelVersion.objects.get())
        html = _render(source, product=product, request=_request())
        assert [option.text for option in self._options(html)] == ["Everything", "Colour", "Pattern", "Shape"]
        assert html.count("similar-products__why") == 2
        assert "similar-products__why" not in _render("{% similar_products product %}", product=product)
        assert not self._options(_render("{% similar_products product %}", product=product, request=_request()))

    def test_links_keep_the_pages_own_parameters(self):
        product = _embedded(3)[0]
        store_any_basis(ModelVersion.objects.get())
        request = _request(size="M & L", similar_lean="shape", similar_price_max="20")
        html = _render("{% similar_products product lean=True filters=True %}", product=product, request=request)
        everything, colour, _pattern, shape = self._options(html)
        place = f"#similar-products-{product.pk}"
        assert colour["href"] == f"/lamp/?size=M+%26+L&similar_lean=colour&similar_price_max=20{place}"
        assert everything["href"] == f"/lamp/?size=M+%26+L&similar_price_max=20{place}"
        assert shape["aria-current"] == "true"
        assert [option["aria-current"] for option in (everything, colour)] == [None, None]

    def test_what_the_page_leans_to_can_be_undone(self):
        product = _embedded(3)[0]
        store_any_basis(ModelVersion.objects.get())
        source = "{% similar_products product lean=True lean_to='colour' %}"
        everything, colour, *_others = self._options(_render(source, product=product, request=_request()))
        assert colour["aria-current"] == "true"
        assert "similar_lean" not in colour["href"]
        assert "similar_lean=all" in everything["href"]
        html = _render(source, product=product, request=_request(similar_lean="all"))
        assert self._options(html)[0]["aria-current"] == "true"


class TestFilters:
    SOURCE = "{% similar_products product filters=True %}"

    @pytest.fixture
    def lamps(self, no_fallback) -> list[Product]:
        other = make_category("Other")
        products = [
            make_product(f"Lamp {number}", other if number % 2 else None, price=Decimal(10 * number))
            for number in range(6)
        ]
        store_vectors(make_version(), make_photos_without_files(products), random_vectors(6))
        return products

    def _names(self, html: str) -> set[str]:
        return set(re.findall(r"Lamp \d", html))

    def test_narrow_the_list(self, lamps):
        for parameters, expected in (
            ({}, {"Lamp 1", "Lamp 2", "Lamp 3", "Lamp 4", "Lamp 5"}),
            ({"similar_category": "same"}, {"Lamp 2", "Lamp 4"}),
            ({"similar_price_max": "25"}, {"Lamp 1", "Lamp 2"}),
            ({"similar_price_max": "25", "similar_category": "same"}, {"Lamp 2"}),
            ({"similar_price_max": "cheap"}, {"Lamp 1", "Lamp 2", "Lamp 3", "Lamp 4", "Lamp 5"}),
        ):
            html = _render(self.SOURCE, product=lamps[0], request=_request(**parameters))
            assert self._names(html) == expected, parameters

    def test_say_when_nothing_is_left_and_can_be_removed(self, lamps):
        html = _render(self.SOURCE, product=lamps[0], request=_request(similar_price_max="0.5", size="M"))
        assert "No similar product matches these filters." in html
        (reset,) = [link for link in Page(html).all("a") if link["class"] == "similar-products__reset"]
        assert reset["href"] == f"/lamp/?size=M#similar-products-{lamps[0].pk}"
        form = Page(html)
        assert form.one("input", name="size")["value"] == "M"
        assert form.one("input", name="similar_price_max")["value"] == "0.5"

    def test_are_the_templates_too(self, lamps):
        html = _render("{% similar_products product same_category=True price_max=25 price_min=15 %}", product=lamps[0])
        assert self._names(html) == {"Lamp 2"}

    def test_parameters_count_only_where_they_are_offered(self, lamps):
        html = _render("{% similar_products product %}", product=lamps[0], request=_request(similar_price_max="25"))
        assert len(self._names(html)) == 5

    def test_a_shopper_never_widens_what_the_template_allows(self, lamps):
        source = "{% similar_products product filters=True price_max=15 price_min=5 %}"
        assert self._names(_render(source, product=lamps[0], request=_request(similar_price_max="99"))) == {"Lamp 1"}
        assert not self._names(_render(source, product=lamps[0], request=_request(similar_price_max="1")))

    def test_controls_have_labels(self, lamps):
        found = Page(_render(self.SOURCE, product=lamps[0], request=_request()))
        labels = {label["for"] for label in found.all("label")}
        assert {element["id"] for element in found.all("input") if element["type"] != "hidden"} == labels
        assert len(labels) == 2

    def test_a_shop_without_prices_offers_no_price(self, lamps, settings):
        settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "PRICE": None}
        html = _render(self.SOURCE, product=lamps[0], request=_request(similar_price_max="5"))
        assert len(self._names(html)) == 5
        assert "Price up to" not in html


class TestLazy:
    def test_the_place_is_as_the_list_will_be(self):
        product = _embedded(3)[0]
        html = _render("{% similar_products product limit=5 lazy=True heading_level=3 %}", product=product)
        found = Page(html)
        assert not found.mistakes
        assert html.count('<li class="similar-products__item"') == 5
        (place,) = [element for element in found.elements if element["data-similarity-src"]]
        assert place["hx-get"] == place["data-similarity-src"]
        assert place["hx-swap"] == "outerHTML"
        assert place["hx-trigger"] == "intersect once"
        assert "Lamp" not in html
        assert "page=1" in found.one("a")["href"]
        assert "<h3" in html

    def test_its_address_gives_what_the_tag_would(self, client):
        product = _embedded(5)[0]
        source = "{% similar_products product limit=3 heading='Alike' layout='row' heading_level=5 "
        html = _render(source + "lazy=True %}", product=product)
        (place,) = [element for element in Page(html).elements if element["data-similarity-src"]]

        def bare(text: str) -> str:
            return re.sub(r' data-similarity-token="[^"]*"', "", text).strip()

        fragment = client.get(place["data-similarity-src"]).content.decode()
        assert bare(fragment) == bare(_render(source + "%}", product=product))

    def test_the_shoppers_choices_travel_along(self):
        product = _embedded(3)[0]
        html = _render(
            "{% similar_products product filters=True lazy=True %}",
            product=product,
            request=_request(similar_price_max="20", size="M"),
        )
        (place,) = [element for element in Page(html).elements if element["data-similarity-src"]]
        assert place["data-similarity-src"].endswith("&similar_price_max=20")

    def test_needs_the_plugins_addresses(self, settings):
        from django.core.exceptions import ImproperlyConfigured

        product = _embedded(2)[0]
        settings.ROOT_URLCONF = "tests.shop_similarity.no_addresses"
        with pytest.raises(ImproperlyConfigured, match=r"include\(\"shop_similarity.urls\"\)"):
            _render("{% similar_products product lazy=True %}", product=product)


def test_works_in_a_shop_without_the_plugins_addresses(settings):
    product = _embedded(3)[0]
    store_any_basis(ModelVersion.objects.get())
    settings.ROOT_URLCONF = "tests.shop_similarity.no_addresses"
    html = _render("{% similar_products product lean=True %}", product=product, request=_request())
    assert "similar_lean=colour" in html
    assert "data-similarity-token" not in html
    assert "data-similarity-swap" not in html


@pytest.mark.parametrize("cached", [True, False])
def test_number_of_queries_is_constant(settings, cached):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "WIDGET_CACHE_SECONDS": 60 if cached else 0}
    products = _embedded(30, per_product=2)
    store_any_basis(ModelVersion.objects.get())
    source = "{% similar_products product limit=limit lean=True explain=True filters=True %}"
    # The aspects are read once for a process.
    _render(source, product=products[1], limit=3, request=_request())
    counts = []
    for limit in (3, 25):
        rounds = []
        for _time in range(2):
            forget_paths()
            with CaptureQueriesContext(connection) as queries:
                html = _render(source, product=products[0], limit=limit, request=_request())
            assert html.count('<li class="similar-products__item"') == limit
            rounds.append(len(queries))
        counts.append(rounds)
    assert counts[0] == counts[1]
    first, again = counts[0]
    assert first <= 12
    assert again < first if cached else again == first


def test_a_list_kept_by_the_hosts_own_fragment_cache_costs_no_statement(settings):
    """As docs/storefront.md has it, by the language and whatever else the shop names."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "kept"}}
    documented = Path(shop_similarity.__file__).parents[1] / "docs" / "storefront.md"
    (source,) = re.findall(r"^{% load cache .*?{% endcache %}", documented.read_text(), re.DOTALL | re.MULTILINE)
    products = _embedded(4)
    first = _render(source, product=products[0])
    with CaptureQueriesContext(connection) as queries:
        assert _render(source, product=products[0]) == first
    assert not queries.captured_queries and first.count("<img") + first.count("<li") >= 3
    assert _render(source, product=products[1]) != first
    with translation.override("de"):
        assert "Ähnliche" in _render(source, product=products[0])


def test_a_lazy_widget_costs_the_page_next_to_nothing():
    product = _embedded(10)[0]
    with CaptureQueriesContext(connection) as queries:
        _render("{% similar_products product lazy=True %}", product=product, request=_request())
    assert len(queries) <= 2


def test_style_sheet_and_script_are_linked():
    assert 'href="/static/shop_similarity/widget' in _render("{% similar_products_styles %}")
    assert 'src="/static/shop_similarity/similarity' in _render("{% similar_products_scripts %}")
    assert 'defer nonce="a&quot;b"></script>' in _render("{% similar_products_scripts nonce=n %}", n='a"b')


class _NonceOfThePage(SimpleLazyObject):
    """As Django 6 and django-csp give it: false until somebody has written it."""

    def __bool__(self) -> bool:
        return self._wrapped is not empty


@pytest.mark.parametrize(
    "tag",
    [
        "similar_products_styles",
        "similar_products_scripts",
        "similar_products_element",
        "visual_search_styles",
        "visual_search_scripts",
    ],
)
def test_a_policy_that_goes_by_nonces_lets_all_in(tag):
    html = _render(
        f"{{% load shop_similarity_search %}}{{% {tag} nonce=csp_nonce %}}", csp_nonce=_NonceOfThePage(lambda: "abc")
    )
    assert html.count(' nonce="abc"') == html.count("<link") + html.count("<script") > 0
    assert "nonce" not in _render(f"{{% load shop_similarity_search %}}{{% {tag} nonce=csp_nonce %}}")
    assert "nonce" not in _render(f"{{% load shop_similarity_search %}}{{% {tag} nonce=csp_nonce %}}", csp_nonce=None)


def nonce_of_the_page(request) -> dict:
    """In the place of Django's ``context_processors.csp``, which 5.2 has not."""
    return {"csp_nonce": _NonceOfThePage(lambda: "abc")}


def test_the_plugins_own_pages_have_the_nonce_of_django(client, settings):
    (engine,) = settings.TEMPLATES
    options = engine.get("OPTIONS", {})
    processors = [*options.get("context_processors", []), f"{__name__}.nonce_of_the_page"]
    settings.TEMPLATES = [{**engine, "OPTIONS": {**options, "context_processors": processors}}]
    page = client.get("/similarity/search/").content.decode()
    for name in ("widget", "visual_search"):
        assert re.search(rf'shop_similarity/{name}[^"]*css" nonce="abc"', page), name
    for name in ("similarity", "visual_search"):
        assert re.search(rf'shop_similarity/{name}[^"]*js" defer nonce="abc"', page), name


class TestSignedOptions:
    def test_come_back(self):
        options = WidgetOptions(
            limit=3, layout="row", heading="Ähnliches", lean=True, lean_to="shape", price_max=Decimal("9.90")
        )
        assert WidgetOptions.of_signed(options.signed()) == options
        assert options.signed() == options.signed(), "addresses can be cached"
        assert WidgetOptions().signed() == ""
        assert WidgetOptions.of_signed("") == WidgetOptions()

    @pytest.mark.parametrize("text", ["x", "a:b", ".abc:def", "é"])
    def test_others_are_refused(self, text):
        with pytest.raises(ValueError, match="load the page again"):
            WidgetOptions.of_signed(text)
