"""The tree that categories form, where they form one: a category counts with those above it.

Two shapes are known without importing a package: a foreign key of the model to itself, which the models of django-mptt
have too, and the materialized path of django-treebeard.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.db.models import Func
from django.db.models.expressions import RawSQL

from .. import database
from .field_paths import ProductValue, setting_value
from .shop import get_catalogue

# The separator of units among the control characters, which is in no category's key.
_UNIT = 31
_MOST_LISTED = 10_000
# Where a circle of categories ends.
_DEEPEST = 64


@dataclass(frozen=True)
class CategoryTree:
    """Categories that lie below each other.

    Attributes:
        model: of the categories.
        field: its field that products' values are values of; unique.
        parent: its foreign key to the category above; None where the path says that.
        path: its field that begins with the path of each category above; None where the foreign key says that.
        levels_above: so many levels from the top of a tree by path are no categories, such as the root of Wagtail's
            pages. The expression of a callable says it by an attribute of this name.
    """

    # Of treebeard it has steplen, of which Django knows nothing.
    model: Any
    field: models.Field
    parent: models.ForeignKey | None = None
    path: models.Field | None = None
    levels_above: int = 0

    @classmethod
    def of(cls, value: ProductValue | None) -> CategoryTree | None:
        """The tree that the values of products are nodes of; None where they are none."""
        if value is None:
            return None
        field, model = value.field, getattr(value.field, "model", None)
        # A value that several categories share names none of them, and a tree of products is one of variants.
        if model is None or not field.unique or is_of_product(value):
            return None
        local = {field.name: field for field in model._meta.local_concrete_fields}
        if "path" in local and hasattr(model, "steplen"):
            return cls(model, field, path=local["path"], levels_above=getattr(value.expression, "levels_above", 0))
        parents = {
            name: field
            for name, field in local.items()
            if field.many_to_one and field.related_model._meta.concrete_model is model._meta.concrete_model
        }
        parent = parents.get(getattr(getattr(model, "_mptt_meta", None), "parent_attr", "parent"))
        if parent is None and len(parents) == 1:
            (parent,) = parents.values()
        return None if parent is None else cls(model, field, parent=parent)

    def nodes(self) -> models.QuerySet:
        """All categories, in no order."""
        return self.model._base_manager.order_by()

    def below(self, values: Iterable[Any]) -> list[Any] | RawSQL:
        """Values of these categories and of all below them, for a lookup ``in``; one statement.

        Postgres can't estimate how many products lie in what a subquery finds: behind a filter that admits half of a
        million, it would rather read them all than ask the index. So they are listed, up to 10,000 of them.
        """
        closure = self._closure(self._listed(values), upwards=False)
        found = self.nodes().filter(**{f"{self.field.attname}__in": closure}).values_list(self.field.attname, flat=True)
        listed = list(found[: _MOST_LISTED + 1])
        return listed if len(listed) <= _MOST_LISTED else closure

    def above(self, values: Iterable[Any] | models.QuerySet) -> RawSQL:
        """Values of these categories (of a queryset, those that it yields) and of all above them, for ``in``."""
        if isinstance(values, models.QuerySet):
            sql, parameters = values.query.sql_with_params()
            return self._closure((sql, parameters), upwards=True)
        return self._closure(self._listed(values), upwards=True)

    def trail(self, value: Any) -> Func:
        """The expression ``value`` with those above it, the topmost first, as :func:`split_trail` takes it apart."""
        quote = database.connection(database.read_alias()).ops.quote_name
        table, column = quote(self.model._meta.db_table), quote(self.field.column)
        if self.path is not None:
            path, step = quote(self.path.column), int(self.model.steplen)
            # Each of those above is looked up by the path's index; for a join all categories may be read.
            above = f"SELECT t.{column}::text FROM {table} t WHERE t.{path} = left(s.{path}, n)"  # noqa: S608
            sql = (
                f"(SELECT string_agg(({above}), chr({_UNIT}) ORDER BY n) "  # noqa: S608
                f"FROM {table} s, generate_series({self._first_step}, length(s.{path}), {step}) n "
                f"WHERE s.{column} = %(expressions)s)"
            )
        else:
            assert self.parent is not None
            parent, target = quote(self.parent.column), quote(self.parent.target_field.column)
            sql = (
                f"(WITH RECURSIVE tree(value, link, place) AS (SELECT s.{column}, s.{parent}, 0 FROM {table} s "  # noqa: S608
                f"WHERE s.{column} = %(expressions)s UNION ALL SELECT c.{column}, c.{parent}, t.place + 1 "
                f"FROM {table} c JOIN tree t ON c.{target} = t.link WHERE t.place < {_DEEPEST}) "
                f"SELECT string_agg(value::text, chr({_UNIT}) ORDER BY place DESC) FROM tree)"
            )
        return Func(value, template=sql, output_field=models.TextField())

    def trails(self, rows: Iterable[models.Model]) -> dict[Any, tuple[Any, ...]]:
        """The value of each of these categories, with those among them that lie above it, the topmost first."""
        name = self.field.attname
        if self.path is not None:
            step, column = self.model.steplen, self.path.attname
            named = {getattr(row, column): getattr(row, name) for row in rows}
            return {
                value: tuple(
                    named[part] for end in range(self._first_step, len(path) + 1, step) if (part := path[:end]) in named
                )
                for path, value in named.items()
            }
        assert self.parent is not None
        by_key = {getattr(row, self.parent.target_field.attname): row for row in rows}
        trails = {}
        for key, row in by_key.items():
            passed: dict[Any, Any] = {}
            while key in by_key and key not in passed:
                passed[key] = getattr(by_key[key], name)
                key = getattr(by_key[key], self.parent.attname)
            trails[getattr(row, name)] = tuple(passed.values())[::-1]
        return trails

    @property
    def _first_step(self) -> int:
        """Length of the shortest path of a category."""
        return int(self.model.steplen) * (self.levels_above + 1)

    @property
    def _in_range(self) -> str:
        """One more condition on what lies below, by which the index serves; treebeard's paths are of these letters."""
        if getattr(self.model, "alphabet", "") != string.digits + string.ascii_uppercase:
            return ""
        assert self.path is not None
        path = database.connection(database.read_alias()).ops.quote_name(self.path.column)
        return f"AND t.{path} BETWEEN s.{path} AND s.{path} || repeat('Z', {self.path.max_length or 255})"

    def _listed(self, values: Iterable[Any]) -> tuple[str, tuple]:
        connection = database.connection(database.read_alias())
        prepared = tuple(self.field.get_db_prep_value(value, connection) for value in values)
        return ", ".join(["%s"] * len(prepared)) or "NULL", prepared

    def _closure(self, start: tuple[str, tuple], *, upwards: bool) -> RawSQL:
        quote = database.connection(database.read_alias()).ops.quote_name
        table, value = quote(self.model._meta.db_table), quote(self.field.column)
        listed, parameters = start
        # The names are the model's own.
        if self.path is not None:
            path, step = quote(self.path.column), int(self.model.steplen)
            # Those above are looked up by the index of the paths: in Wagtail the products are in the same table.
            sql = (
                f"SELECT t.{value} FROM {table} t WHERE t.{path} IN (SELECT left(s.{path}, n) FROM {table} s, "  # noqa: S608
                f"generate_series({self._first_step}, length(s.{path}), {step}) n WHERE s.{value} IN ({listed}))"
                if upwards
                else f"SELECT t.{value} FROM {table} t JOIN {table} s ON starts_with(t.{path}, s.{path}) "  # noqa: S608
                f"{self._in_range} WHERE s.{value} IN ({listed})"
            )
        else:
            assert self.parent is not None
            parent, target = quote(self.parent.column), quote(self.parent.target_field.column)
            link, met = (parent, target) if upwards else (target, parent)
            # UNION without ALL ends in a circle too.
            sql = (
                f"WITH RECURSIVE tree(value, link) AS (SELECT {value}, {link} FROM {table} "  # noqa: S608
                f"WHERE {value} IN ({listed}) UNION SELECT c.{value}, c.{link} FROM {table} c "
                f"JOIN tree t ON c.{met} = t.link) SELECT value FROM tree"
            )
        return RawSQL(sql, parameters, output_field=self.field)  # noqa: S611  # nosec B611


def is_of_product(value: ProductValue) -> bool:
    """Whether a value is kept with the product itself, or names another product.

    A key of a model that products inherit, such as that of Wagtail's pages, may name what is no product.
    """
    model, product_model = getattr(value.field, "model", None), get_catalogue().product_model
    if model is None or not issubclass(product_model, model):
        return False
    return not value.ends_at_key or model._meta.concrete_model is product_model._meta.concrete_model


def category_tree() -> CategoryTree | None:
    """The tree of the ``CATEGORY`` setting's values; None where they form none.

    Raises:
        SettingsError: the setting is wrong.
    """
    return CategoryTree.of(setting_value("category"))


def split_trail(text: str) -> tuple[str, ...]:
    """The categories of a trail, the topmost first; a category without a tree is the only one of its trail."""
    return tuple(dict.fromkeys(text.split(chr(_UNIT))))


def closeness(own: Iterable[tuple[str, ...]], other: Iterable[tuple[str, ...]]) -> float:
    """How near two sets of categories lie, 0 to 1: 1 where both have one in common.

    The measure of Wu and Palmer ("Verb semantics and lexical selection", 1994): twice the depth of the nearest category
    above both, through the sum of their depths; of several pairs the nearest counts.

    Args:
        own, other: each category as those from the topmost one down to it.
    """
    other = list(other)
    return max((_wu_palmer(first, second) for first in own for second in other), default=0.0)


def _wu_palmer(first: tuple[str, ...], second: tuple[str, ...]) -> float:
    common = 0
    for one, two in zip(first, second, strict=False):
        if one != two:
            break
        common += 1
    return 2 * common / (len(first) + len(second))
