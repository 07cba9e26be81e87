"""Every address that the plugin has: pages and fragments, the API, and its pages in Django's admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.urls import URLPattern, URLResolver

from shop_similarity import urls
from shop_similarity.api import urls as api_urls
from shop_similarity.api.schema import own_schema

from .markdown import cell, code, of_docstring, table


def page() -> str:
    return "\n\n".join(
        [
            "# Endpoints, all of them",
            "## Pages and fragments",
            '`path("similarity/", include("shop_similarity.urls"))`. Addresses are below that one.',
            table(
                ("address", "name", "what it does"),
                (
                    (code(address), code(f"{urls.app_name}:{pattern.name}"), _first_line(pattern.callback))
                    for address, pattern in patterns(urls.urlpatterns)
                ),
            ),
            "## API",
            '`path("api/similarity/", include("shop_similarity.api.urls"))`. Parameters, bodies and answers are in the '
            "schema, which the API itself serves. [API](../api.md) has examples.",
            table(("address", "method", "name", "what it does"), _api_rows()),
            "## Pages of Django's admin",
            "Below the address of `admin.site.urls`, besides the lists and forms of the plugin's models.",
            table(
                ("address", "name"),
                (
                    (code(address), code(f"admin:{pattern.name}"))
                    for address, pattern in patterns(admin.site.urls[0])
                    if _is_own_page(pattern)
                ),
            ),
        ]
    )


def patterns(entries: list[Any], before: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Every pattern below the given ones, with its whole address."""
    for entry in entries:
        address = before + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns, address)
        else:
            yield address, entry


def operations() -> dict[str, dict[str, dict[str, Any]]]:
    """The operations of the API's schema: address below the API's, then method."""
    return {f"v1/{path.partition('/v1/')[2]}": methods for path, methods in own_schema()["paths"].items()}


def _api_rows() -> Iterator[tuple[str, str, str, str]]:
    described = operations()
    for address, pattern in patterns(api_urls.urlpatterns):
        # The schema writes "{id}" for what the addresses write as "<path:id>".
        plain = "".join(
            "{" + part.partition(">")[0].rpartition(":")[2] + "}" + part.partition(">")[2] if index else part
            for index, part in enumerate(address.split("<"))
        )
        name = code(f"{api_urls.app_name}:{pattern.name}")
        methods = described.get(plain)
        if methods is None:
            yield code(plain), "GET", name, _first_line(pattern.callback)
            continue
        for method, described_operation in methods.items():
            needs = [
                sentence
                for sentence in described_operation.get("description", "").splitlines()
                if sentence.startswith("Needs the permission")
            ]
            yield code(plain), method.upper(), name, cell(". ".join([described_operation["summary"], *needs[:1]]))


def _is_own_page(pattern: URLPattern) -> bool:
    name = pattern.name or ""
    of_a_model = name.endswith(("_changelist", "_add", "_history", "_delete", "_change"))
    return name.startswith("shop_similarity_") and not of_a_model


def _first_line(callback: Any) -> str:
    view = getattr(callback, "cls", None) or getattr(callback, "view_class", None) or callback
    # Not inspect.getdoc: a class without words of its own has those of the one above it.
    return of_docstring(cell((view.__doc__ or "").strip().partition("\n\n")[0]))
