"""The reference shop's addresses, and every product page once more without the widget, to compare it with."""

import functools
import re
from pathlib import Path

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template import Template, engines
from django.template.loader import get_template
from django.urls import path

from catalog.categories import tree_of
from catalog.products import visible_products
from catalog.urls import urlpatterns as shop_patterns


@functools.cache
def _template_without_widget() -> Template:
    source = Path(get_template("catalog/product.html").origin.name).read_text(encoding="utf-8")
    without, count = re.subn(r"{% similar_products product .*?%}", "", source)
    assert count == 1, "The product page places the widget in another way than this measurement knows."
    return engines["django"].from_string(without)


def product_without_widget(request: HttpRequest, slug: str) -> HttpResponse:
    shown = get_object_or_404(visible_products(), slug=slug)
    trail = tree_of(request).trail(shown.category_id)
    context = {"product": shown, "trail": trail, "active_root": trail[0].category.pk if trail else None}
    return HttpResponse(_template_without_widget().render(context, request))


urlpatterns = [path("without-widget/<slug:slug>/", product_without_widget), *shop_patterns]
