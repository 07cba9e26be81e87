"""Links from one page of a list to the next."""

from __future__ import annotations

from django.http import QueryDict
from rest_framework.request import Request

# Belong to a search by photo itself, not to its pages.
_NOT_REPEATED = {"image", "crop"}


def page_links(
    request: Request,
    limit: int,
    offset: int,
    has_next: bool,
    *,
    url: str | None = None,
    values: QueryDict | None = None,
) -> dict[str, str | None]:
    """``next`` and ``previous``, each an absolute address or None.

    Args:
        request: whose address and parameters the links repeat.
        limit, offset: of this page.
        has_next: whether there is a page after it.
        url: absolute address of the pages, where it is another one.
        values: parameters that the links repeat, where they are others than those of the address.
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

    return {
        "next": link(offset + limit) if has_next else None,
        "previous": link(max(offset - limit, 0)) if offset else None,
    }
