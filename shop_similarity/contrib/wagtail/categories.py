"""The page tree as categories."""

from __future__ import annotations

from django.db.models import OuterRef, Subquery
from django.db.models.functions import Left, Length

from ...catalogue import get_catalogue

# The root, which nobody sees, and the start page of each site.
_LEVELS_ABOVE = 2


def parent_page() -> Subquery:
    """The key of the page above a product page: what the ``CATEGORY`` setting names.

    Pages above that one count too, down from those below a site's start page.
    """
    path = get_catalogue().product_model._meta.get_field("path")
    above = Left(OuterRef(path.name), Length(OuterRef(path.name)) - path.model.steplen)
    expression = Subquery(path.model._base_manager.filter(**{path.name: above}).values("pk"))
    expression.levels_above = _LEVELS_ABOVE
    return expression
