"""The page tree as categories."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.db.models.functions import Left, Length

from ...catalogue import get_catalogue


def parent_page() -> ParentPage:
    """The key of the page above a product page: what the ``CATEGORY`` setting names.

    Pages above that one count too, down from those below a site's start page.
    """
    return ParentPage()


class ParentPage(Subquery):
    """The expression. Products and pages are in one table, which is why both are found by joins of whole paths."""

    # The root, which nobody sees, and the start page of each site.
    levels_above = 2

    def __init__(self) -> None:
        # Of treebeard, whose pages know the length of a step.
        self._path: Any = get_catalogue().product_model._meta.get_field("path")
        super().__init__(self._pages().filter(**{self._path.name: self._above(OuterRef(self._path.name))}).values("pk"))

    def products_with(self, keys: Any) -> Exists:
        """The condition on products that the key of the page above is one of these."""
        above = self._above(OuterRef(self._path.name))
        # Most of what lies below a page is products, which have nothing below them.
        pages = self._pages().filter(numchild__gt=0, pk__in=keys)
        return Exists(pages.filter(**{self._path.name: above}))

    def values_of(self, products: QuerySet) -> QuerySet:
        """The keys of the pages above these products, as a queryset of one column, in no order."""
        paths = products.order_by().values(shop_similarity_above=self._above(self._path.name))
        return self._pages().filter(**{f"{self._path.name}__in": paths}).values_list("pk", flat=True)

    def _pages(self) -> QuerySet:
        return self._path.model._base_manager.order_by()

    def _above(self, path: Any) -> Left:
        return Left(path, Length(path) - self._path.model.steplen)
