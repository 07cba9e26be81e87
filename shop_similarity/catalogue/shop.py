"""How the plugin sees the shop: which model is a product, and how its photos are reached.

Everything else asks the one :class:`Catalogue` that the settings describe; no other module knows the shop's models.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.core.signals import setting_changed
from django.db import models
from django.db.models.fields.files import FileField
from django.dispatch import receiver
from django.utils.module_loading import import_string

from ..conf import SETTING, SettingsError, get_settings
from .querysets import UnusableQuerysetError, filterable


@dataclass(frozen=True)
class ImageRow:
    """One photo of the shop: the row that holds it, its product and the name of its file in the storage."""

    image_id: Any
    product_id: Any
    file_name: str


@dataclass(frozen=True)
class Catalogue:
    """The shop's product model, its image model and the fields between them."""

    product_model: type[models.Model]
    image_model: type[models.Model]
    # Name of the file field on the image model.
    file_field: str
    # Name of the foreign key from the image model to the product; None where the product itself has the file.
    product_field: str | None
    # Accessor from a product to its images; None where the product itself has the file.
    accessor: str | None

    @property
    def storage(self) -> Any:
        return self.image_model._meta.get_field(self.file_field).storage

    @property
    def product_attname(self) -> str:
        """Attribute of an image row that holds the key of its product."""
        if self.product_field is None:
            return "pk"
        return self.image_model._meta.get_field(self.product_field).attname

    def all_products(self) -> models.QuerySet:
        return self.product_model._base_manager.all()

    def visible_products(self) -> models.QuerySet:
        """The products that may be shown, as the shop's ``PRODUCTS`` callable says.

        It can be filtered and ordered further, whatever the callable does.

        Raises:
            SettingsError: the callable returns something else than a queryset of products.
        """
        path = get_settings().products
        if path is None:
            return self.product_model._default_manager.all()
        queryset = import_string(path)()
        if not isinstance(queryset, models.QuerySet) or not issubclass(queryset.model, self.product_model):
            raise SettingsError(
                f"{SETTING}['PRODUCTS'] names {path!r}, which returned {type(queryset).__name__}.",
                f"Return a queryset of {self.product_model._meta.label}.",
            )
        try:
            return filterable(queryset)
        except UnusableQuerysetError as error:
            raise SettingsError(
                f"{SETTING}['PRODUCTS'] names {path!r}, which returned no instances. {error}",
                f"Return a queryset of {self.product_model._meta.label} as all() or filter() make it.",
            ) from error

    def images(self) -> models.QuerySet:
        """All rows that hold a photo, in the order of their keys, without those whose file field is empty."""
        return (
            self.image_model._base_manager.exclude(**{self.file_field: ""})
            .exclude(**{f"{self.file_field}__isnull": True})
            .exclude(**({f"{self.product_field}__isnull": True} if self.product_field else {}))
            .order_by("pk")
        )

    def images_of(self, product_id: Any) -> models.QuerySet:
        return self.images().filter(**{self.product_field or "pk": product_id})

    def rows(self, queryset: models.QuerySet) -> Iterator[ImageRow]:
        """The given image rows as keys and file names only, streamed."""
        values = queryset.values_list("pk", self.product_field or "pk", self.file_field)
        for image_id, product_id, file_name in values.iterator(chunk_size=2_000):
            yield ImageRow(image_id, product_id, file_name)

    def row_of(self, instance: models.Model) -> ImageRow:
        """The image row of a loaded instance of the image model."""
        name = getattr(instance, self.file_field)
        return ImageRow(instance.pk, getattr(instance, self.product_attname), (name and name.name) or "")

    def product_images(self, product: models.Model) -> list:
        """The photos of a product in the shop's own order, as field files; uses what is prefetched."""
        if self.accessor is None:
            file = getattr(product, self.file_field)
            return [file] if file else []
        return [file for image in getattr(product, self.accessor).all() if (file := getattr(image, self.file_field))]

    def with_images(self, products: models.QuerySet) -> models.QuerySet:
        """The given products with their photos prefetched."""
        return products if self.accessor is None else products.prefetch_related(self.accessor)


def _product_model(label: str) -> type[models.Model]:
    try:
        return apps.get_model(label, require_ready=False)
    except ValueError as error:
        raise SettingsError(
            f"{SETTING}['PRODUCT_MODEL'] is {label!r}.", 'It must have the form "app_label.Model".'
        ) from error
    except LookupError as error:
        raise SettingsError(
            f"{SETTING}['PRODUCT_MODEL'] names {label!r}, which is not an installed model.",
            "Check the spelling and that the app is in INSTALLED_APPS.",
        ) from error


def _file_field(model: type[models.Model], name: str, path: str) -> str:
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist as error:
        raise SettingsError(
            f"{SETTING}['IMAGES'] is {path!r}, but {model._meta.label} has no field {name!r}.",
            f"Its fields are: {', '.join(sorted(f.name for f in model._meta.get_fields()))}.",
        ) from error
    if not isinstance(field, FileField):
        raise SettingsError(
            f"{SETTING}['IMAGES'] is {path!r}, but {model._meta.label}.{name} is a {type(field).__name__}.",
            "Name an ImageField or a FileField.",
        )
    return name


@functools.lru_cache(maxsize=1)
def get_catalogue() -> Catalogue:
    """The shop's catalogue as the settings describe it.

    Raises:
        SettingsError: a model or a field that the settings name does not exist or is of the wrong kind.
    """
    config = get_settings()
    product_model = _product_model(config.product_model)
    accessor, dot, field_name = config.images.partition(".")
    if not dot:
        return Catalogue(product_model, product_model, _file_field(product_model, accessor, config.images), None, None)
    for relation in product_model._meta.related_objects:
        if relation.get_accessor_name() != accessor:
            continue
        if not relation.one_to_many or not isinstance(relation.field, models.ForeignKey):
            break
        image_model = relation.related_model
        file_field = _file_field(image_model, field_name, config.images)
        return Catalogue(product_model, image_model, file_field, relation.field.name, accessor)
    accessors = sorted(r.get_accessor_name() for r in product_model._meta.related_objects if r.one_to_many)
    raise SettingsError(
        f"{SETTING}['IMAGES'] is {config.images!r}, but {product_model._meta.label} has no one-to-many relation "
        f"{accessor!r}.",
        f"Name the related_name of a foreign key to the product, one of: {', '.join(filter(None, accessors)) or '-'}.",
    )


@receiver(setting_changed)
def _drop_cache(*, setting: str, **kwargs: Any) -> None:
    if setting == SETTING:
        get_catalogue.cache_clear()
