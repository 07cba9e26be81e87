"""What settings say of a product by field paths or a callable: its price, category, group of variants, colour, stock.

One :class:`ProductValue` stands for each of these settings, and nothing else reads them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from django.core.exceptions import FieldDoesNotExist, FieldError, ValidationError
from django.db import models
from django.db.models import Exists, ExpressionWrapper, F, OuterRef, Q
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Coalesce
from django.utils.module_loading import import_string

from ..conf import SETTING, SettingsError, get_settings
from .querysets import is_plain
from .shop import get_catalogue

# The settings that a ProductValue stands for, in lower case.
VALUE_SETTINGS = ("category", "price", "variant_group", "colour", "in_stock")


@dataclass(frozen=True)
class ProductValue:
    """A value that products have in the database.

    The expression of a callable may know better ways than those by its own value: ``products_with(values)``, the
    condition on products that it is one of these, and ``values_of(products)``, a queryset of one column.

    Attributes:
        name: as the setting has it, in messages: ``"category"``, ``"price or variants__price"``.
        expression: of the database; of several paths, the first that has a value.
        field: the field that holds the value; for a relation, the key that it points to.
        many: whether one product can have several values.
        path: the path, where the setting names one alone.
        ends_at_key: whether the value is a row of another model, not a text of it.
    """

    name: str
    expression: Any
    field: models.Field
    many: bool = False
    path: str | None = None
    ends_at_key: bool = False
    # Name of the annotation that :meth:`annotate` and :meth:`values` give by default.
    alias: ClassVar[str] = "shop_similarity_value"

    @property
    def is_product(self) -> bool:
        """Whether the value is another product, such as the parent of a variant."""
        model = getattr(self.field, "model", None)
        return self.ends_at_key and model is not None and issubclass(get_catalogue().product_model, model)

    def parse(self, text: Any) -> Any:
        """The value that a text stands for.

        Raises:
            ValueError: the text can't be a value of the field.
        """
        try:
            # What no database takes as text: a zero byte, half of a surrogate pair.
            if b"\x00" in str(text).encode():
                raise ValueError
            return self.field.to_python(text)
        except (ValidationError, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{str(text)[:80]!r} can't be a value of {self.name!r}.") from error

    def parsed(self, texts: Iterable[str]) -> list[Any]:
        """Values of those texts that can be one; the others name nothing that exists."""
        values = []
        for text in texts:
            try:
                values.append(self.parse(text))
            except ValueError:
                continue
        return values

    def annotate(self, queryset: models.QuerySet, name: str = alias) -> models.QuerySet:
        """The products, once for each value that they have, with the value by this name; None where there is none."""
        return queryset.annotate(**{name: self.expression})

    def values(self, queryset: models.QuerySet) -> models.QuerySet:
        """The values that products of a queryset have, as a queryset of one column, in no order."""
        if hasattr(self.expression, "values_of"):
            return self.expression.values_of(queryset)
        return self.annotate(queryset.order_by()).filter(self.is_given).values_list(self.alias, flat=True)

    @property
    def is_given(self) -> Q:
        """The condition that an annotated product has the value."""
        return Q(**{f"{self.alias}{LOOKUP_SEP}isnull": False})

    def select(self, queryset: models.QuerySet, **lookups: Any) -> models.QuerySet:
        """The products of a queryset one value of which meets all lookups, each product once.

        Args:
            queryset: products, of whatever kind :func:`.querysets.filterable` gives.
            lookups: such as ``gte=3``; all have to hold for the same value.
        """
        if self.path is not None and not self.many and is_plain(queryset):
            return queryset.filter(**{f"{self.path}{LOOKUP_SEP}{name}": value for name, value in lookups.items()})
        if hasattr(self.expression, "products_with") and set(lookups) == {"in"}:
            return queryset.filter(self.expression.products_with(lookups["in"]))
        # A join to several values would return a product once for each.
        meeting = self.annotate(get_catalogue().all_products().order_by()).filter(
            **{f"{self.alias}{LOOKUP_SEP}{name}": value for name, value in lookups.items()}
        )
        if meeting.query.group_by is None:
            return queryset.filter(pk__in=meeting.values("pk"))
        # Of an aggregate, Postgres would group the whole catalogue before it looks up a product among the groups.
        return queryset.filter(Exists(meeting.filter(pk=OuterRef("pk"))))

    def select_true(self, queryset: models.QuerySet) -> models.QuerySet:
        """The products of a queryset one value of which is true, a number above zero or a text that is not empty."""
        return self.select(queryset, **self._truth)

    def select_untrue(self, queryset: models.QuerySet, **where: Any) -> models.QuerySet:
        """The other products of a queryset; those without a value are among them.

        Args:
            queryset: as for :meth:`select`.
            where: a condition on products that all of the queryset meet, such as ``pk__gt=3``, said once more.
        """
        if self.path is not None and not self.many and is_plain(queryset):
            return queryset.exclude(**{f"{self.path}{LOOKUP_SEP}{name}": value for name, value in self._truth.items()})
        # Postgres may read both sides in the order of keys, and carries the condition from neither to the other.
        true = self.select_true(get_catalogue().all_products().order_by().filter(**where))
        return queryset.filter(~Exists(true.filter(pk=OuterRef("pk"))))

    @property
    def _truth(self) -> dict[str, Any]:
        """The lookup that a value meets which is true."""
        if isinstance(self.field, models.BooleanField):
            return {"exact": True}
        if isinstance(self.field, _NUMBERS) and not self.ends_at_key:
            return {"gt": 0}
        if isinstance(self.field, models.CharField | models.TextField):
            return {"gt": ""}
        return {"isnull": False}


_NUMBERS = (models.IntegerField, models.DecimalField, models.FloatField)


def setting_value(name: str) -> ProductValue | None:
    """The value that the setting ``name`` (``"category"``, ``"price"``, ...) describes; None without one.

    Raises:
        SettingsError: the product has no such path, or the callable is none or gives no expression.
    """
    setting = getattr(get_settings(), name)
    return None if setting is None else described_value(name, setting)


def described_value(name: str, setting: Any) -> ProductValue:
    """The value that paths or a callable describe; ``name`` is that of the setting that says so, for messages.

    Raises:
        SettingsError: as :func:`setting_value`.
    """
    if isinstance(setting, str) and "." in setting:
        return _called(name, setting)
    return _of_paths(name, (setting,) if isinstance(setting, str) else tuple(setting), get_catalogue().product_model)


@functools.lru_cache(maxsize=32)
def _of_paths(name: str, paths: tuple[str, ...], model: type[models.Model]) -> ProductValue:
    values = [_of_path(name, path, model) for path in paths]
    first = values[0]
    if len(values) == 1:
        return first
    kinds = {_kind(value) for value in values}
    if len(kinds) > 1:
        raise SettingsError(
            f"{SETTING}[{name.upper()!r}] names {', '.join(map(repr, paths))}, which hold values of different kinds.",
            "Name paths that all end at one model, or at fields of one type.",
        )
    return ProductValue(
        " or ".join(paths),
        Coalesce(*paths, output_field=first.field),
        first.field,
        any(value.many for value in values),
        ends_at_key=first.ends_at_key,
    )


def _kind(value: ProductValue) -> Any:
    """The same for values that one column can hold."""
    if value.ends_at_key:
        return value.field
    return "number" if isinstance(value.field, _NUMBERS) else value.field.get_internal_type()


def _of_path(name: str, path: str, product_model: type[models.Model]) -> ProductValue:
    model: type[models.Model] | None = product_model
    field: Any = None
    many = False
    for part in path.split(LOOKUP_SEP):
        try:
            if model is None:
                raise FieldDoesNotExist
            field = model._meta.pk if part == "pk" else model._meta.get_field(part)
        except FieldDoesNotExist as error:
            owner = f" on {model._meta.label}" if model is not None else ""
            raise SettingsError(
                f"{SETTING}[{name.upper()!r}] is {path!r}, but there is no field {part!r}{owner}.",
                "Write a field path of the product, for example 'category' or 'category__parent'.",
            ) from error
        many = many or bool(field.one_to_many or field.many_to_many)
        model = field.related_model
    assert field is not None
    ends_at_key = bool(field.is_relation or field.primary_key)
    field = field.target_field if field.is_relation else field
    return ProductValue(path, ExpressionWrapper(F(path), output_field=field), field, many, path, ends_at_key)


def _called(name: str, dotted: str) -> ProductValue:
    setting = f"{SETTING}[{name.upper()!r}] names {dotted!r}"
    hint = "Name a function without arguments that returns an expression, for example F('price') or Subquery(...)."
    try:
        function = import_string(dotted)
    except ImportError as error:
        raise SettingsError(f"{setting}, which can't be imported: {error}", hint) from error
    if not callable(function):
        raise SettingsError(f"{setting}, which is no callable.", hint)
    try:
        expression = function()
    # It is the shop's own, and may fail as it likes.
    except Exception as error:
        raise SettingsError(f"{setting}, which failed: {type(error).__name__}: {error}", hint) from error
    if not hasattr(expression, "resolve_expression"):
        raise SettingsError(f"{setting}, which returned {type(expression).__name__}, no expression.", hint)
    try:
        query = get_catalogue().all_products().annotate(**{ProductValue.alias: expression}).query
        field = query.annotations[ProductValue.alias].output_field
    except (FieldError, ValueError, TypeError) as error:
        raise SettingsError(f"{setting}, whose expression can't be used: {error}", hint) from error
    many = any(_has_several(join) for join in query.alias_map.values())
    # As of a path: F("categories") gives the key of the category, whether its column is that of a relation or not.
    ends_at_key = bool(field.is_relation or field.primary_key)
    field = field.target_field if field.is_relation else field
    return ProductValue(dotted, expression, field, many, ends_at_key=ends_at_key)


def _has_several(join: Any) -> bool:
    field = getattr(join, "join_field", None)
    return bool(field is not None and (field.one_to_many or field.many_to_many))
