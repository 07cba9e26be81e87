"""The pages of the shop."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from catalog.basket import Basket
from catalog.categories import CategoryTree, tree_of
from catalog.models import Product, ProductPhoto
from catalog.products import visible_products
from catalog.searching import search_products

PER_PAGE = 24
ON_HOME = 8
IN_HERO = 3

SORTINGS = {
    "name": (gettext_lazy("Name"), ("name", "pk")),
    "newest": (gettext_lazy("Newest"), ("-created_at", "-pk")),
    "price": (gettext_lazy("Price, low to high"), (F("price").asc(nulls_last=True), "pk")),
    "-price": (gettext_lazy("Price, high to low"), (F("price").desc(nulls_last=True), "pk")),
}


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """The front page: what is new, and a door to each top category."""
    tree = tree_of(request)
    # Of each category the newest product that has a photo.
    pictures = list(
        ProductPhoto.objects.filter(product__is_published=True)
        .select_related("product__category")
        .order_by("product__category_id", "-product__created_at", "-product_id", "position", "pk")
        .distinct("product__category_id")
    )
    by_category = {picture.product.category_id: picture for picture in pictures}
    hero = _varied(pictures, tree, IN_HERO)
    doors = []
    for root in tree.roots:
        theirs = [by_category[key] for key in root.subtree_ids() if key in by_category]
        doors.append(
            (root, next((picture for picture in theirs if picture not in hero), theirs[0] if theirs else None))
        )
    newest = visible_products().exclude(pk__in=[picture.product_id for picture in hero])
    return render(
        request,
        "catalog/home.html",
        {"hero": hero, "doors": doors, "newest": newest.order_by("-created_at", "-pk")[:ON_HOME]},
    )


def _varied(pictures: list[ProductPhoto], tree: CategoryTree, count: int) -> list[ProductPhoto]:
    """The newest pictures, from as many top categories as there are."""
    rest = sorted(pictures, key=lambda picture: (picture.product.created_at, picture.product_id), reverse=True)
    chosen: list[ProductPhoto] = []
    while rest and len(chosen) < count:
        roots = set()
        for picture in list(rest):
            root = tree.trail(picture.product.category_id)[0].category.pk
            if root not in roots and len(chosen) < count:
                roots.add(root)
                chosen.append(picture)
                rest.remove(picture)
    return chosen


@require_safe
def category(request: HttpRequest, slug: str) -> HttpResponse:
    """The products of a category and of all categories below it."""
    node = tree_of(request).by_slug(slug)
    if node is None:
        raise Http404(_("There is no such category."))
    products = visible_products().filter(category_id__in=node.subtree_ids())
    sorting, products = _sorted(request, products, default="name")
    return render(
        request,
        "catalog/category.html",
        {
            "node": node,
            "active_root": [*node.ancestors, node][0].category.pk,
            "page": _page(request, products),
            "sorting": sorting,
            "sortings": SORTINGS,
        },
    )


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    """The products that the words in `q` describe."""
    words = request.GET.get("q", "").strip()
    products = search_products(visible_products(), words)
    sorting = request.GET.get("sort", "")
    if sorting in SORTINGS:
        products = products.order_by(*SORTINGS[sorting][1])
    sortings = {"": (_("Best match"), ()), **SORTINGS}
    return render(
        request,
        "catalog/search.html",
        {"words": words, "page": _page(request, products), "sorting": sorting, "sortings": sortings},
    )


@require_safe
def product(request: HttpRequest, slug: str) -> HttpResponse:
    """One product with its photos and its look-alikes."""
    shown = get_object_or_404(visible_products(), slug=slug)
    trail = tree_of(request).trail(shown.category_id)
    return render(
        request,
        "catalog/product.html",
        {"product": shown, "trail": trail, "active_root": trail[0].category.pk if trail else None},
    )


@require_safe
def basket(request: HttpRequest) -> HttpResponse:
    """What the visitor has chosen so far."""
    lines = Basket(request.session).lines()
    return render(request, "catalog/basket.html", {"lines": lines, "total": sum(line.total for line in lines)})


@require_POST
def change_basket(request: HttpRequest, pk: int) -> HttpResponse:
    """Add one of a product, or set its quantity where the form says which."""
    chosen = get_object_or_404(visible_products(), pk=pk)
    held = Basket(request.session)
    if "quantity" not in request.POST:
        if held.add(chosen):
            messages.success(request, _("%(product)s is in your basket.") % {"product": chosen.name})
        else:
            messages.error(request, _("%(product)s cannot be bought at the moment.") % {"product": chosen.name})
        return redirect("catalog:basket")
    try:
        wanted = int(request.POST["quantity"])
    except ValueError:
        messages.error(request, _("Please give the quantity as a whole number."))
        return redirect("catalog:basket")
    if held.put(chosen, wanted) < wanted:
        messages.info(request, _("There is no more of %(product)s in stock.") % {"product": chosen.name})
    return redirect("catalog:basket")


def _sorted(request: HttpRequest, products: QuerySet[Product], default: str) -> tuple[str, QuerySet[Product]]:
    sorting = request.GET.get("sort", default)
    if sorting not in SORTINGS:
        sorting = default
    return sorting, products.order_by(*SORTINGS[sorting][1])


def _page(request: HttpRequest, products: QuerySet[Product]):
    page = Paginator(products, PER_PAGE).get_page(request.GET.get("page"))
    page.elided = page.paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1)
    return page
