"""Querysets of products as shops return them, made into ones that can be filtered and ordered further."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import models
from django.db.models.expressions import RawSQL
from django.db.models.query import ModelIterable


class UnusableQuerysetError(ValueError):
    """A queryset whose products can't be told: it yields no instances of its model."""


def is_plain(queryset: models.QuerySet) -> bool:
    """Whether another filter only takes rows away, and another order changes nothing else."""
    query = queryset.query
    return not (
        query.is_sliced
        or query.combinator
        # DISTINCT ON keeps the first row of each in the queryset's own order.
        or query.distinct_fields
        # A window sees other rows behind another filter.
        or query.where.contains_over_clause
    )


def filterable(queryset: models.QuerySet) -> models.QuerySet:
    """The same products as a queryset that can be filtered and ordered further.

    Slices, unions and the like, ``distinct()`` on fields and filters by window functions become a subquery of keys:
    annotations of theirs are gone then, what they prefetch is kept. Locks are left out.

    Raises:
        UnusableQuerysetError: it was made by ``values()``, ``values_list()``, ``dates()`` or the like.
    """
    state: Any = queryset
    if not issubclass(queryset._iterable_class, ModelIterable) or state._fields is not None:
        raise UnusableQuerysetError(
            f"The queryset of {queryset.model._meta.label} yields {queryset._iterable_class.__name__} rows and no "
            "instances: leave values(), values_list() or dates() out."
        )
    queryset = queryset.all()
    queryset.query.select_for_update = False
    if is_plain(queryset):
        return queryset
    rows = queryset.model._base_manager.using(state._db).filter(pk__in=_keys(queryset))
    rows.query.select_related = queryset.query.select_related
    return rows.prefetch_related(*state._prefetch_related_lookups)


def _keys(queryset: models.QuerySet) -> Any:
    """The keys of a queryset's rows, for a lookup ``in``."""
    if not (queryset.query.combinator and queryset.query.is_sliced):
        return queryset.values("pk")
    # Django would add the columns that it is ordered by, and no order is to be lost before a slice.
    try:
        compiler = queryset.query.get_compiler(using=queryset.db)
        sql, parameters = compiler.as_sql()
    except EmptyResultSet:
        return []
    # Its columns have names that differ from one release of Django to the next.
    columns = [f"column_{number}" for number in range(len(compiler.select))]
    targets = [getattr(column[0], "target", None) for column in compiler.select]
    key = columns[targets.index(queryset.model._meta.pk)]
    return RawSQL(  # noqa: S611  # nosec B611
        f"SELECT {key} FROM ({sql}) combined({', '.join(columns)})",  # noqa: S608
        parameters,
    )
