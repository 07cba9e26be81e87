"""Links from one page of a list to the next."""

from __future__ import annotations

from django.http import QueryDict
from rest_framework.request import Request

from .parameters import MAX_OFFSET

# Belong to the search itself, not to its pages.
_NOT_REPEATED = {"image", "crop"}


def page_links(
    request: Request,
    limit: int,
    offset: int,
    found: int,
    *,
    url: str | None = None,
    values: QueryDict | None = None,
    has_next: bool | None = None,
) -> dict[str, str | None]:
    """``next`` and ``previous``.

    Args:
        request: whose address and parameters the links repeat.
        limit, offset: of this page.
        found: how many are on it; a page that is not full is the last one.
        url: absolute address of the pages, where it is another one.
        values: parameters that the links repeat, where they are others than those of the address.
        has_next: whether there is a next page, where that is known.
    """
    address = url or request.build_absolute_uri(request.path)
    given = request.query_params if values is None else values

    def link(place: int) -> str:
        parameters = QueryDict(mutable=True)
        for name, several in given.lists():
            if name not in _NOT_REPEATED:
                parameters.setlist(name, several)
        parameters["limit"] = str(limit)
        parameters["offset"] = str(place)
        return f"{address}?{parameters.urlencode()}"

    following = offset + limit
    # Nobody knows how many there are in all without looking at every one of them.
    goes_on = (found == limit and following <= MAX_OFFSET) if has_next is None else has_next
    return {
        "next": link(following) if goes_on else None,
        "previous": link(max(offset - limit, 0)) if offset else None,
    }
