"""Field paths on the product that settings name ("category", "stockrecords__price"): what lies at their end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.db.models.constants import LOOKUP_SEP

from ..conf import SETTING, SettingsError, get_settings
from .shop import get_catalogue


@dataclass(frozen=True)
class FieldPath:
    """A lookup path from the product to a value.

    Attributes:
        path: as the setting has it.
        field: the field that holds the value; for a relation, the key that it points to.
        many: whether one product can have several values.
    """

    path: str
    field: models.Field
    many: bool

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
            raise ValueError(f"{str(text)[:80]!r} can't be a value of {self.path!r}.") from error

    def select(self, queryset: models.QuerySet, **lookups: Any) -> models.QuerySet:
        """The products of a queryset one value of which meets all lookups, each product once.

        Args:
            queryset: products, sliced or not.
            lookups: such as ``gte=3``; all have to hold for the same value.
        """
        conditions = {f"{self.path}{LOOKUP_SEP}{name}": value for name, value in lookups.items()}
        if not self.many and not queryset.query.is_sliced:
            return queryset.filter(**conditions)
        # A join to several values would return a product once for each.
        return unsliced(queryset).filter(pk__in=get_catalogue().all_products().filter(**conditions).values("pk"))


def unsliced(queryset: models.QuerySet) -> models.QuerySet:
    """The same rows as a queryset that can be filtered further."""
    if not queryset.query.is_sliced:
        return queryset
    return queryset.model._default_manager.filter(pk__in=queryset.values("pk"))


def setting_path(name: str) -> FieldPath | None:
    """The path that the setting ``name`` (``"category"``, ``"price"``, ``"variant_group"``) gives; None without one.

    Raises:
        SettingsError: the product has no such path.
    """
    path = getattr(get_settings(), name)
    if path is None:
        return None
    model, field, many = get_catalogue().product_model, None, False
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
    return FieldPath(path, field.target_field if field.is_relation else field, many)


def parsed(path: FieldPath, texts: Iterable[str]) -> list[Any]:
    """Values of those texts that can be one; the others name nothing that exists."""
    values = []
    for text in texts:
        try:
            values.append(path.parse(text))
        except ValueError:
            continue
    return values
