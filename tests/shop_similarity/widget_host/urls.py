"""Pages of another shop that hosts the widget in the ways that the reference shop does not."""

from pathlib import Path

import django_htmx
from django.http import FileResponse, HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path

from catalog.models import Product

HTMX = Path(django_htmx.__file__).parent / "static" / "django_htmx" / "htmx-2.min.js"

PAGE = """{% load shop_similarity %}<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Host</title>
{% if shop %}{% load static %}<link rel="stylesheet" href="{% static 'catalog/shop.css' %}">{% endif %}
{% similar_products_styles %}{% if script %}{% similar_products_scripts %}{% endif %}
{% if htmx %}<meta name="htmx-config" content='{"includeIndicatorStyles": false}'><script src="/htmx.js" defer></script>
{% endif %}<link rel="stylesheet" href="/host.css"></head>
<body class="{{ theme }}"><main><h1>{{ product }}</h1><div id="before"></div><div class="similar">WIDGET</div>
<p id="after">What follows.</p></main></body></html>"""

STYLE = """
body { background: #fff; color: #222; font: 1rem/1.5 sans-serif; margin: 1rem; }
#before { height: var(--before, 0); }
body.far { --before: 3000px; }
:where(body.bootstrap) label { display: inline-block; margin-bottom: 0.5rem; }
:where(body.bootstrap) a:hover { color: #0056b3; text-decoration: underline; }
body.night { background: #0b1020; color: #dfe6ff; }
body.night { --similar-products-radius: 20px; --similar-products-picture: #1b2440; }
"""

WIDGETS = {
    "lazy": "{% similar_products product limit=4 lazy=True lean=True explain=True filters=True %}",
    "row": "{% similar_products product limit=12 layout='row' heading_level=3 heading='More of these' %}",
    "short-row": "{% similar_products product limit=2 layout='row' %}",
    "grid": "{% similar_products product limit=6 lean=True explain=True filters=True %}",
    "eight": "{% similar_products product limit=8 filters=True %}",
    "far": "{% similar_products product limit=4 %}",
}

ELEMENT_PAGE = """{% load shop_similarity %}<!doctype html>
<html lang="{{ language }}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Host</title>
{% similar_products_element %}{% if styles %}{% similar_products_styles %}{% endif %}
{% if counted %}{% similar_products_scripts %}{% endif %}
<link rel="stylesheet" href="/host.css"></head>
<body class="{{ theme }}"><main><h1>{{ product }}</h1><div id="before"></div>ELEMENT
<p id="after">What follows.</p></main></body></html>"""

ELEMENTS = {
    "plain": '<similar-products product="{{ product.pk }}" limit="4"></similar-products>',
    "eight": '<similar-products product="{{ product.pk }}"></similar-products>',
    "lazy": '<similar-products product="{{ product.pk }}" limit="4" loading="lazy"></similar-products>',
    "row": '<similar-products product="{{ product.pk }}" limit="12" layout="row" heading="More of these" '
    'heading-level="3"></similar-products>',
    "explained": '<similar-products product="{{ product.pk }}" limit="4" explain></similar-products>',
    "fallback": '<similar-products product="{{ product.pk }}" limit="4">'
    '<p class="instead">Chosen <a href="/elsewhere/">by hand</a></p></similar-products>',
    "rendered": '<similar-products product="{{ product.pk }}" limit="4">{% similar_products product limit=4 %}'
    "</similar-products>",
    "counted": '<similar-products product="{{ product.pk }}" limit="4">{% similar_products product limit=4 %}'
    "</similar-products>",
    "template": '<similar-products product="{{ product.pk }}" limit="3"><template><article class="own-card">'
    '<a data-similar="url"><img data-similar="image"><b data-similar="name"></b></a>'
    '<small data-similar="similarity"></small></article></template></similar-products>',
}


def element_page(request: HttpRequest, element: str, pk: int) -> HttpResponse:
    template = engines["django"].from_string(ELEMENT_PAGE.replace("ELEMENT", ELEMENTS[element]))
    context = {
        "product": Product.objects.get(pk=pk),
        "theme": request.GET.get("theme", ""),
        "language": request.GET.get("language", "en"),
        "styles": element in ("rendered", "counted"),
        "counted": element == "counted",
    }
    return HttpResponse(template.render(context, request))


def page(request: HttpRequest, widget: str, pk: int) -> HttpResponse:
    source = PAGE.replace("WIDGET", WIDGETS[widget])
    template = engines["django"].from_string(source)
    context = {
        "product": Product.objects.get(pk=pk),
        "theme": request.GET.get("theme", ""),
        "shop": "shop" in request.GET,
        "htmx": "htmx" in request.GET,
        "script": "no-script" not in request.GET,
    }
    return HttpResponse(template.render(context, request))


urlpatterns = [
    path("host/<str:widget>/<int:pk>/", page),
    path("element/<str:element>/<int:pk>/", element_page),
    # Browsers ask for it unasked.
    path("favicon.ico", lambda request: HttpResponse(status=204)),
    path("host.css", lambda request: HttpResponse(STYLE, content_type="text/css")),
    path("htmx.js", lambda request: FileResponse(HTMX.open("rb"), content_type="text/javascript")),
    path("", include("catalog.urls")),
]
