"""Look-alikes of all products, one after the other, for e-mail and advertising systems: docs/feeds.md.

Products are read in pages by their keys, so that memory stays flat, a run can go on where another ended, and nothing is
held open between two pages, neither a cursor nor a lock.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone

from ..catalogue import get_catalogue, product_url
from ..catalogue.category_tree import CategoryTree
from ..catalogue.field_paths import setting_value
from ..catalogue.stock import sold_out
from ..conf import get_settings
from ..models import Embedding, MerchandisingRule, ModelVersion
from ..photos.thumbnails import sources
from ..search.options import SearchOptions
from ..search.results import allowed_products, load, similar_places
from .cards import card_of, cards_of

PAGE = 100
FORMATS = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
# So many photos for each product of a page are looked through in the order of products, before what has changed is
# looked up by its time.
_LOOKED_THROUGH = 50
# Rows are marked with the moment at which a worker's transaction began. It may wait for one of the shop's that deletes
# photos, ten minutes in each of three statements at most (shop_similarity.database), and a replica comes behind.
_SLACK = timedelta(minutes=35)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class FeedOptions:
    """What a feed tells.

    Attributes:
        search: how look-alikes are searched for; its limit is how many each product has.
        since: only products whose look-alikes may be others since then, with its zone; None: all.
        alternatives: only products that are sold out.
        details: whether name, address and picture of look-alikes are told, which costs two statements a product.
        absolute: makes an absolute address of one of the shop's.
    """

    search: SearchOptions
    since: datetime | None = None
    alternatives: bool = False
    details: bool = False
    absolute: Callable[[str], str] = str


@dataclass(frozen=True)
class Line:
    """One product of the feed and its look-alikes, most similar first, as plain values."""

    product: Any
    version: str
    similar: list[dict[str, Any]]

    def as_json(self) -> str:
        values = {"product": str(self.product), "version": self.version, "similar": self.similar}
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n"

    def as_rows(self, columns: Iterable[str]) -> Iterator[list[Any]]:
        """A row for each look-alike; where there is none, one with nothing but the product."""
        places: list[tuple[Any, dict[str, Any]]] = list(enumerate(self.similar, 1)) or [("", {})]
        for position, values in places:
            yield [self.product, position, *(_cell(name, values.get(name, "")) for name in columns)]


# A spreadsheet takes a text that begins so for a formula, and in a market place anybody may name a product.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if name == "name" and value.startswith(_FORMULA) else value


_COLUMNS = ("id", "similarity", "pinned")
_DETAILS = ("name", "url", "image")


def feed_keys(options: FeedOptions, version: ModelVersion, after: Any = None, size: int = PAGE) -> list[Any]:
    """Keys of the next products of the feed, in the order of keys; empty at its end.

    Args:
        options: which products.
        version: whose embeddings count as changes.
        after: key of the last product that was told; None: from the beginning.
        size: how many at most.
    """
    keys = _changed_keys(version, options.since, after, size) if options.since is not None else None
    if keys is None:
        products = _told(options, **({} if after is None else {"pk__gt": after}))
        # A shop that joins its photos, say, has a product for each of them.
        return list(products.order_by("pk").values_list("pk", flat=True).distinct()[:size])
    return keys


def feed_lines(options: FeedOptions, version: ModelVersion, keys: list[Any]) -> Iterator[Line]:
    """The lines of these products, those that the shop does not show any more left out."""
    by_key = {product.pk: product for product in _told(options, pk__in=keys)}
    wishes = replace(options.search, explain=False)
    if wishes.min_similarity is None:
        wishes = replace(wishes, min_similarity=get_settings().min_similarity)
    for key in keys:
        if (product := by_key.get(key)) is not None:
            yield Line(key, version.name, _similar(product, version, wishes, options))


def written(lines: Iterable[Line], kind: str, *, details: bool, with_header: bool) -> Iterator[str]:
    """The lines as text, ``"jsonl"`` or ``"csv"``, a piece for each product."""
    if kind == "jsonl":
        for line in lines:
            yield line.as_json()
        return
    columns = (*_COLUMNS, *_DETAILS) if details else _COLUMNS
    if with_header:
        yield _csv([["product", "position", "similar", *columns[1:]]])
    for line in lines:
        yield _csv(line.as_rows(columns))


def _csv(rows: Iterable[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _told(options: FeedOptions, **where: Any) -> QuerySet:
    """The products that the feed is about, of those that a condition on their keys names."""
    products = get_catalogue().visible_products().filter(**where)
    return sold_out(products, **where) if options.alternatives else products


def _similar(
    product: models.Model, version: ModelVersion, wishes: SearchOptions, options: FeedOptions
) -> list[dict[str, Any]]:
    allowed = allowed_products(None, wishes, [product])
    places = similar_places(product, version, allowed, wishes)
    told = [
        {
            "id": str(place.product_id),
            "similarity": None if place.similarity is None else round(place.similarity, 4),
            "pinned": place.pinned,
        }
        for place in places
    ]
    if not options.details:
        return told
    found = load(places, allowed)
    cards_of(found)
    details = {str(other.pk): _details(other, options.absolute) for other in found}
    return [{**each, **details[each["id"]]} for each in told if each["id"] in details]


def _details(product: models.Model, absolute: Callable[[str], str]) -> dict[str, Any]:
    url, picture = product_url(product), sources(card_of(product).image)
    return {
        "name": str(product),
        "url": absolute(url) if url else None,
        "image": absolute(picture.src) if picture is not None else None,
    }


def _changed_keys(version: ModelVersion, since: datetime, after: Any, size: int) -> list[Any] | None:
    """Keys of products whose look-alikes may have changed; None where that may be all of them."""
    since = max(since, _EPOCH) - _SLACK
    if not settings.USE_TZ:
        since = timezone.make_naive(since, timezone.get_default_timezone())
    if version.activated_at is not None and version.activated_at >= since:
        return None
    now = timezone.now()
    rules = MerchandisingRule.objects.filter(
        Q(updated_at__gte=since) | Q(starts_at__gt=since, starts_at__lte=now) | Q(ends_at__gt=since, ends_at__lte=now)
    ).order_by()
    if rules.filter(product_id__isnull=True, category="").exists():
        return None
    embedded = Embedding.objects.filter(version=version, product_id__in=_embedded_keys(version, since, after, size))
    of_products = rules.filter(product_id__isnull=False)
    parts = [rows.annotate(key=F("product_id")) for rows in (embedded, of_products)]
    if (
        products := _of_categories(rules.exclude(category="").values_list("category", flat=True).distinct())
    ) is not None:
        parts.append(products.annotate(key=F("pk")))
    # Each part is cut by itself: none of them is read any further than the page needs.
    pages = [
        (part if after is None else part.filter(key__gt=after)).order_by("key").values_list("key").distinct()[:size]
        for part in parts
    ]
    # The database has an order of its own for texts.
    return [key for (key,) in pages[0].union(*pages[1:]).order_by("key")[:size]]


def _embedded_keys(version: ModelVersion, since: datetime, after: Any, size: int) -> list[Any]:
    """Keys of the next products with a photo that was embedded since, in their order.

    Where many have changed, they are found by the order of products, where few have, by their time. Postgres chooses
    one of the two as if what has changed were spread evenly, and would read a whole catalogue to the new products at
    its end; so the order is followed for a while only.
    """
    rows = Embedding.objects.filter(version=version)
    rows = rows if after is None else rows.filter(product_id__gt=after)
    in_order = rows.order_by("product_id").values_list("product_id", flat=True)
    edge = next(iter(in_order[_LOOKED_THROUGH * size :][:1]), None)
    changed = rows.filter(embedded_at__gte=since)
    near = changed if edge is None else changed.filter(product_id__lte=edge)
    keys = list(near.order_by("product_id").values_list("product_id", flat=True).distinct()[:size])
    if edge is None or len(keys) == size:
        return keys
    # By an expression, which no index has in order.
    key = Coalesce(F("product_id"), F("product_id"))
    far = changed.filter(product_id__gt=edge).annotate(key=key).order_by("key").values_list("key", flat=True)
    return keys + list(far.distinct()[: size - len(keys)])


def _of_categories(texts: Iterable[str]) -> QuerySet | None:
    category, texts = setting_value("category"), sorted(texts)
    values = category.parsed(texts) if category is not None and texts else []
    if category is None or not values:
        return None
    tree = CategoryTree.of(category)
    return category.select(get_catalogue().all_products(), **{"in": tree.below(values) if tree else values})
