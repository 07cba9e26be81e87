"""The widget's own address: fragment and page."""

from __future__ import annotations

import copy
import re

import pytest
from django.db import connection
from django.template.loader import render_to_string
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from catalog.models import Product
from shop_similarity.models import Experiment
from shop_similarity.storefront.cards import Card
from shop_similarity.storefront.options import WidgetOptions
from tests.catalog.html_page import Page
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


@pytest.fixture
def lamps() -> list[Product]:
    products = [make_product(f"Lamp {number}", price=10 * number) for number in range(6)]
    store_vectors(make_version(), make_photos_without_files(products), random_vectors(6))
    return products


@pytest.fixture
def unrecorded(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "RECORD_EVENTS": False, "WIDGET_CACHE_SECONDS": 60}


def url_of(product: Product, options: WidgetOptions | None = None) -> str:
    signed = options.signed() if options else ""
    return reverse("shop_similarity:similar-products", args=[product.pk]) + (f"?options={signed}" if signed else "")


def names(response) -> set[str]:
    return set(re.findall(r"Lamp \d", response.content.decode()))


def test_the_fragment_is_the_widget_and_nothing_else(client, lamps):
    response = client.get(url_of(lamps[0]))
    assert response.status_code == 200
    assert response.content.decode().startswith("<section")
    assert not Page(response.content.decode()).mistakes
    assert names(response) == {f"Lamp {number}" for number in range(1, 6)}
    assert response.headers["X-Robots-Tag"] == "noindex"
    assert client.head(url_of(lamps[0])).status_code == 200
    assert client.post(url_of(lamps[0])).status_code == 405


def test_hosts_may_write_the_address_themselves(client, lamps):
    response = client.get(url_of(lamps[0]), {"limit": 2, "layout": "row", "heading_level": 4})
    html = response.content.decode()
    assert html.count("<li") == 2
    assert "similar-products--row" in html
    assert "<h4" in html


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"layout": "pile"}, "layout"),
        ({"heading_level": "9"}, "heading_level"),
        ({"options": "forged"}, "options"),
        ({"similar_price_max": "cheap"}, "similar_price_max"),
        ({"similar_price_max": "-1"}, "similar_price_max"),
        ({"similar_price_max": "NaN"}, "similar_price_max"),
        ({"similar_lean": "smell"}, "similar_lean"),
        ({"similar_category": "all"}, "similar_category"),
    ],
)
def test_wrong_parameters_are_named(client, lamps, parameters, word):
    response = client.get(url_of(lamps[0]), parameters)
    assert response.status_code == 400
    assert word in response.content.decode()
    assert response.headers["Content-Type"].startswith("text/plain")


def test_nobody_else_chooses_template_or_heading(client, lamps):
    html = client.get(url_of(lamps[0]), {"heading": "Buy elsewhere", "template_name": "404.html"}).content.decode()
    assert "Buy elsewhere" not in html
    assert html.startswith("<section")


@pytest.mark.parametrize("key", ["0", "x", "9" * 40, "%00", "1;drop"])
def test_unknown_products_are_not_found(client, lamps, key):
    assert client.get(f"/similarity/products/{key}/similar/").status_code == 404


def test_hidden_products_are_neither_asked_for_nor_shown(client, lamps):
    Product.objects.filter(pk__in=[lamps[0].pk, lamps[1].pk]).update(is_published=False)
    assert client.get(url_of(lamps[0])).status_code == 404
    assert names(client.get(url_of(lamps[2]))) == {"Lamp 2", "Lamp 3", "Lamp 4", "Lamp 5"} - {"Lamp 2"}


def test_the_shoppers_choices_are_those_that_the_template_offers(client, lamps):
    offered = url_of(lamps[0], WidgetOptions(filters=True))
    assert names(client.get(f"{offered}&similar_price_max=25")) == {"Lamp 1", "Lamp 2"}
    assert len(names(client.get(f"{url_of(lamps[0])}?similar_price_max=25"))) == 5


def test_a_list_that_is_counted_is_kept_by_nobody(client, lamps):
    response = client.get(url_of(lamps[0]))
    assert "data-similarity-token" in response.content.decode()
    assert {"private", "no-store"} <= set(response.headers["Cache-Control"].split(", "))
    assert not response.has_header("ETag")


def test_a_list_that_is_not_counted_can_be_kept(client, lamps, unrecorded):
    response = client.get(url_of(lamps[0]))
    assert set(response.headers["Cache-Control"].split(", ")) == {"public", "max-age=60"}
    # The shop's whole pages show the basket, so they differ by the visitor's session.
    assert "Cookie" in client.get(url_of(lamps[0]), {"page": "1"}).headers["Vary"]
    again = client.get(url_of(lamps[0]), headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304
    assert again.content == b""
    Product.objects.filter(pk=lamps[3].pk).update(name="Other")
    changed = client.get(url_of(lamps[0]), headers={"If-None-Match": response.headers["ETag"]})
    assert changed.status_code == 200


def test_a_list_of_an_experiment_is_the_visitors_own(client, lamps, unrecorded, monkeypatch):
    from shop_similarity.storefront import caching

    running = Experiment(name="a")
    monkeypatch.setattr(caching, "experiment_for", lambda request: running)
    assert "private" in client.get(url_of(lamps[0])).headers["Cache-Control"]


def test_nothing_to_show_is_an_empty_element(client, settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "FALLBACK": None}
    html = client.get(url_of(make_product())).content.decode()
    assert html.strip() == '<div class="similar-products-none" hidden></div>'
    page = client.get(url_of(make_product()), {"page": "1"})
    assert "Nothing similar is known yet." in page.content.decode()


def test_the_page_of_its_own(client, lamps):
    response = client.get(url_of(lamps[0], WidgetOptions(filters=True)) + "&page=1&similar_price_max=25")
    found = Page(response.content.decode())
    assert not found.mistakes
    assert len(found.all("h1")) == 1
    assert names(response) == {"Lamp 0", "Lamp 1", "Lamp 2"}
    # Its form leads to itself, with all that it needs to be the same page.
    hidden = {element["name"]: element["value"] for element in found.all("input", type="hidden")}
    assert hidden["page"] == "1"
    assert WidgetOptions.of_signed(hidden["options"]) == WidgetOptions(filters=True)


def test_the_plugins_own_page_is_whole(client, lamps, settings):
    settings.TEMPLATES = [
        {**settings.TEMPLATES[0], "APP_DIRS": False, "DIRS": [_plugin_templates(), _shop_templates()]}
    ]
    html = client.get(url_of(lamps[0]), {"page": "1"}).content.decode()
    found = Page(html)
    assert not found.mistakes
    assert found.one("html")["lang"] == "en"
    assert found.one("title").text == "Similar to Lamp 0"
    assert " style=" not in html


def _plugin_templates() -> str:
    import shop_similarity

    return str(shop_similarity.__path__[0]) + "/templates"


def _shop_templates() -> str:
    import catalog

    return str(catalog.__path__[0]) + "/templates"


def test_number_of_queries_is_constant(client, lamps):
    client.get(url_of(lamps[0]))
    counts = []
    for limit in (1, 5):
        with CaptureQueriesContext(connection) as queries:
            client.get(url_of(lamps[0]), {"limit": limit})
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 12


# As Oscar's render_product does: what a card needs is taken from the context, and its lack is an error.
CARD = "{{ product.name }} at {{ request.path }} for {{ user.get_username }} {% csrf_token %}"


@pytest.fixture
def own_card(tmp_path, settings):
    """Puts a card of the host's own in the place of the plugin's."""

    def put(source: str) -> None:
        folder = tmp_path / "shop_similarity"
        folder.mkdir(exist_ok=True)
        (folder / "product_card.html").write_text(source, encoding="utf-8")
        (templates,) = copy.deepcopy(settings.TEMPLATES)
        templates["DIRS"] = [tmp_path, *templates.get("DIRS", [])]
        settings.TEMPLATES = [templates]

    return put


def test_a_card_of_the_hosts_own_knows_who_asks(client, lamps, own_card, django_user_model):
    own_card(CARD)
    client.force_login(django_user_model.objects.create_user("ada"))
    html = client.get(url_of(lamps[0])).content.decode()
    assert f"Lamp 1 at {url_of(lamps[0])} for ada" in html
    assert "csrfmiddlewaretoken" in html


@pytest.mark.parametrize(
    "card",
    [
        "{% csrf_token %}",
        "{{ user.get_username }}",
        "{{ request.session.basket }}",
        "{{ request.COOKIES.basket }}",
        "{% for name in request.COOKIES %}{% endfor %}",
        "{% if 'basket' in request.COOKIES %}{% endif %}",
        "{{ request.COOKIES.items }}",
        "{{ request.COOKIES.values }}",
    ],
)
def test_what_a_card_says_of_its_visitor_reaches_nobody_else(client, lamps, own_card, unrecorded, card):
    own_card("{{ product.name }}" + card)
    client.cookies["basket"] = "7"
    response = client.get(url_of(lamps[0]))
    assert response.headers["Cache-Control"] == "private, no-store"
    assert "ETag" not in response.headers
    assert len(names(response)) == 5


def test_a_card_that_looks_at_nobody_stays_cacheable(client, lamps, own_card, unrecorded):
    own_card("{{ product.name }} {{ request.path }} {{ request.GET.limit }}")
    client.cookies["basket"] = "7"
    response = client.get(url_of(lamps[0]))
    assert response.headers["Cache-Control"] == "public, max-age=60"
    assert "ETag" in response.headers


def test_the_cards_of_a_search_by_photo_get_the_context_as_well(rf, lamps, own_card):
    own_card("<b>{{ product.name }} {{ request.path }} {{ heading_level }}</b>")
    cards = [Card(lamps[1], None, 0.5)]
    request = rf.get("/found/")
    html = render_to_string("shop_similarity/_visual_search_results.html", {"state": "found", "cards": cards}, request)
    assert "<b>Lamp 1 /found/ 3</b>" in html
