"""The path of the ``IMAGES`` setting: from a product to the rows that stand for its photos, and on to their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models.constants import LOOKUP_SEP
from django.db.models.fields.files import FileField

from ..conf import SETTING, SettingsError


@dataclass(frozen=True)
class PhotoPath:
    """A path of relations and a file field.

    A photo row stands for one photo of one product. It is a row of the model nearest to the product that there is one
    of for each photo: the product itself, a row with a foreign key to it, a row of the table between both sides of a
    many-to-many relation, or one that points to the product with a generic foreign key.

    Attributes:
        row_model: model of the photo rows.
        accessor: attribute of a product that gives its photo rows; None where there is none.
        product: lookup path from the photo row to the product; empty where the product is the row, None where a
            generic relation leads there.
        generic: that generic relation.
        hops: forward relations from the photo row to the row that has the file.
        file_field: the file field there.
        is_many_to_many: whether the photo row is a link between a product and an image.
    """

    row_model: type[models.Model]
    accessor: str | None
    product: str | None
    generic: Any
    hops: tuple[str, ...]
    file_field: FileField
    is_many_to_many: bool = False

    @property
    def file(self) -> str:
        """Lookup path from the photo row to the file."""
        return LOOKUP_SEP.join((*self.hops, self.file_field.name))

    @property
    def hop_models(self) -> list[tuple[str, type[models.Model]]]:
        """The lookup path of each hop from the photo row, and the model that it leads to."""
        model: Any = self.row_model
        found = []
        for place, name in enumerate(self.hops, start=1):
            model = model._meta.get_field(name).related_model
            found.append((LOOKUP_SEP.join(self.hops[:place]), model))
        return found

    def file_of(self, row: models.Model) -> Any:
        """The field file of a photo row; None where a hop leads nowhere."""
        for name in self.hops:
            row = getattr(row, name)
            if row is None:
                return None
        return getattr(row, self.file_field.name)


def family(model: type[models.Model]) -> list[type[models.Model]]:
    """The models whose instances are rows of this one: itself, its proxies and children, and those of a proxy's model.

    Signals name the exact class that was saved.
    """
    concrete: Any = model._meta.concrete_model
    return [other for other in apps.get_models(include_auto_created=True) if issubclass(other, concrete)]


def ancestors(model: type[models.Model]) -> list[tuple[str, type[models.Model]]]:
    """The models with a part of this one's rows in a table of their own, with their proxies and the path to each."""
    concrete: Any = model._meta.concrete_model
    found = []
    for parent in concrete._meta.all_parents:
        path = LOOKUP_SEP.join(info.join_field.name for info in concrete._meta.get_path_to_parent(parent))
        found += [(path, other) for other in apps.get_models() if other._meta.concrete_model is parent]
    return found


def photo_path(product_model: type[models.Model], path: str) -> PhotoPath:
    """The path that the ``IMAGES`` setting gives.

    Raises:
        SettingsError: the product has no such path, or what lies at its end is no file field.
    """
    first, *rest = path.split(".")
    if not rest:
        return PhotoPath(product_model, None, "", None, (), _file_field(product_model, first, path))
    *names, last = rest
    row_model, accessor, product, generic, hops = _first_step(product_model, first, path)
    model: Any = row_model
    for name in hops:
        model = model._meta.get_field(name).related_model
    for name in names:
        model = _hop(model, name, path)
    file_field = _file_field(model, last, path)
    found = PhotoPath(row_model, accessor, product, generic, (*hops, *names), file_field)
    return replace(found, is_many_to_many=_is_link(found))


def _first_step(
    product_model: type[models.Model], name: str, path: str
) -> tuple[type[models.Model], str | None, str | None, Any, tuple[str, ...]]:
    """Photo row, accessor, way back to the product, generic relation and first hops, of the first name of a path."""
    meta = product_model._meta
    relation: Any
    field: Any
    for relation in meta.related_objects:
        if relation.get_accessor_name() != name or getattr(relation, "parent_link", False):
            continue
        field = relation.field
        if relation.many_to_many:
            back = _way_back(product_model, relation.model, field.m2m_reverse_field_name())
            return relation.through, None, back, None, (field.m2m_field_name(),)
        # Of one photo at most the product's attribute is the row itself and no manager of rows.
        accessor = name if relation.one_to_many else None
        return relation.related_model, accessor, _way_back(product_model, relation.model, field.name), None, ()
    try:
        field = meta.get_field(name)
    except FieldDoesNotExist:
        field = None
    if field is not None and _leads_on(field):
        return product_model, None, "", None, (name,)
    if field is not None and field.many_to_many and not field.auto_created:
        through = field.remote_field.through
        return (
            through,
            None,
            _way_back(product_model, field.model, field.m2m_field_name()),
            None,
            (field.m2m_reverse_field_name(),),
        )
    if field is not None and field.one_to_many and hasattr(field, "object_id_field_name"):
        return field.related_model, None, None, _checked(field, product_model, path), ()
    there = [relation.get_accessor_name() for relation in meta.related_objects]
    there += [other.name for other in meta.get_fields() if other.is_relation and not other.auto_created]
    raise SettingsError(
        f"{SETTING}['IMAGES'] is {path!r}, but {meta.label} has no relation {name!r}.",
        f"Name a relation to its photos, one of: {_listed(there)}.",
    )


def _way_back(product_model: Any, target: Any, field_name: str) -> str:
    """From the photo row by a foreign key to ``target``, and where the product inherits that, down to the product."""
    down = product_model._meta.concrete_model._meta.get_path_from_parent(target._meta.concrete_model)
    return LOOKUP_SEP.join([field_name, *(info.join_field.name for info in down)])


def _is_link(path: PhotoPath) -> bool:
    """Whether the photo rows are those of a many-to-many field, which links them without signals of their own."""
    if not path.product or not path.hops:
        return False
    ends = {path.product.split(LOOKUP_SEP)[0], path.hops[0]}
    sides: list[Any] = [path.row_model._meta.get_field(name).related_model for name in ends]
    return any(
        field.remote_field.through is path.row_model
        and {field.m2m_field_name(), field.m2m_reverse_field_name()} == ends
        for side in sides
        for field in side._meta.many_to_many
    )


def _leads_on(field: Any) -> bool:
    """Whether a relation leads from a row to one other."""
    return bool(field.concrete and (field.many_to_one or field.one_to_one) and field.related_model)


def _checked(relation: Any, product_model: type[models.Model], path: str) -> Any:
    """A generic relation whose column can hold the keys of products."""
    column = relation.related_model._meta.get_field(relation.object_id_field_name)
    key: Any = product_model._meta.pk
    while key.remote_field is not None:
        key = key.target_field
    kinds = [_kind(field) for field in (column, key)]
    if kinds[0] == kinds[1] or (kinds[0] == "text" and kinds[1] != "other"):
        return relation
    raise SettingsError(
        f"{SETTING}['IMAGES'] is {path!r}, but {column.model._meta.label}.{column.name} is a "
        f"{type(column).__name__}, which can't hold the keys of {product_model._meta.label}.",
        f"Make it a {type(key).__name__.replace('AutoField', 'IntegerField')} or a CharField.",
    )


def _kind(field: models.Field) -> str:
    kinds: dict[str, Any] = {
        "text": (models.CharField, models.TextField),
        "uuid": models.UUIDField,
        "integer": models.IntegerField,
    }
    return next((name for name, classes in kinds.items() if isinstance(field, classes)), "other")


def _hop(model: type[models.Model], name: str, path: str) -> type[models.Model]:
    forward: dict[str, Any] = {
        field.name: field.related_model for field in model._meta.get_fields() if _leads_on(field)
    }
    if name not in forward:
        raise SettingsError(
            f"{SETTING}['IMAGES'] is {path!r}, but {model._meta.label} has no foreign key {name!r}.",
            f"Name one of its foreign keys ({_listed(forward)}), or a file field ({_listed(_file_fields(model))}).",
        )
    return forward[name]


def _file_fields(model: type[models.Model]) -> list[str]:
    return [field.name for field in model._meta.concrete_fields if isinstance(field, FileField)]


def _file_field(model: type[models.Model], name: str, path: str) -> FileField:
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist as error:
        raise SettingsError(
            f"{SETTING}['IMAGES'] is {path!r}, but {model._meta.label} has no field {name!r}.",
            f"Its fields are: {_listed(field.name for field in model._meta.get_fields())}.",
        ) from error
    if not isinstance(field, FileField):
        above = field.related_model if _leads_on(field) else None
        on = [f"{path}.{file}" for file in _file_fields(above)] if above is not None else []
        raise SettingsError(
            f"{SETTING}['IMAGES'] is {path!r}, but {model._meta.label}.{name} is a {type(field).__name__}.",
            f"Name an ImageField or a FileField, one of: {_listed([*_file_fields(model), *on])}.",
        )
    return field


def _listed(names: Iterable[str | None] | Sequence[str]) -> str:
    return ", ".join(sorted(filter(None, names))) or "-"
