from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template import engines

from .models import Product

PAGE = """{% load shop_similarity %}<!doctype html><html><head><title>{{ product }}</title>
{% similar_products_styles %}{% similar_products_scripts %}</head>
<body><h1>{{ product }}</h1>{% similar_products product limit=4 %}</body></html>"""


def product(request: HttpRequest, pk: int) -> HttpResponse:
    shown = get_object_or_404(Product, pk=pk)
    return HttpResponse(engines["django"].from_string(PAGE).render({"product": shown}, request))
