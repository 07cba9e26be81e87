"""What every page of the shop shows around its own content."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from catalog.basket import Basket
from catalog.categories import tree_of
from catalog.models import LoadedCatalogue


def shop(request: HttpRequest) -> dict:
    """`shop_name`, the top categories, the number of things in the basket, where the catalogue comes from."""
    return {
        "shop_name": getattr(settings, "SHOP_NAME", "Alike"),
        "top_categories": SimpleLazyObject(lambda: tree_of(request).roots),
        "basket_size": SimpleLazyObject(lambda: len(Basket(request.session))),
        "loaded_catalogue": SimpleLazyObject(LoadedCatalogue.objects.first),
    }
