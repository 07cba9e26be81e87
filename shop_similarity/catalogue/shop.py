"""How the plugin sees the shop: which model is a product, and which photos there are of it.

Everything else asks the one :class:`Catalogue` that the settings describe; no other module knows the shop's models.
"""

from __future__ import annotations

import functools
import operator
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldError
from django.core.signals import setting_changed
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.constants import LOOKUP_SEP
from django.db.models.functions import Cast, Coalesce
from django.dispatch import receiver
from django.utils.module_loading import import_string

from .. import database
from ..conf import SETTING, SettingsError, get_settings
from .photo_paths import PhotoPath, family, photo_path
from .querysets import UnusableQuerysetError, filterable, is_plain

OWNER = "shop_similarity_owner"
"""Annotation of a photo row: the key of the product that it hangs on."""

PRODUCT = "shop_similarity_product"
"""Annotation of a photo row: the key of the product that it speaks for, which with ``PARENT`` is its owner's parent."""

FILE = "shop_similarity_file"
"""Annotation of a photo row: the name of its file."""

_LOADED = "_shop_similarity_photos"
# What a key looks like as text: a column of texts holds the keys of other models too.
_TEXTS = {
    models.UUIDField: r"^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$",
    models.IntegerField: r"^\d{1,18}$",
}


@dataclass(frozen=True)
class ImageRow:
    """One photo of the shop: the row that holds it, its product and the name of its file in the storage."""

    image_id: Any
    product_id: Any
    file_name: str


@dataclass(frozen=True)
class ProductPhoto:
    """One photo of a product: the key of the row that holds it, and its field file."""

    image_id: Any
    file: Any


@dataclass(frozen=True)
class Catalogue:
    """The shop's products and their photos.

    Attributes:
        product_model: the model of products.
        path: from a product to its photos.
        parent: foreign key of a product to the one that it is shown by, or None.
    """

    product_model: type[models.Model]
    path: PhotoPath
    parent: models.ForeignKey | None = None

    @property
    def image_model(self) -> type[models.Model]:
        """The model whose rows stand for one photo of one product each; embeddings and outbox name its keys."""
        return self.path.row_model

    @property
    def storage(self) -> Any:
        return self.path.file_field.storage

    @property
    def has_own_photo(self) -> bool:
        """Whether a product is its own photo row, and nobody else's."""
        return self.image_model is self.product_model and self.parent is None

    @property
    def is_filtered(self) -> bool:
        """Whether more than a file and a product decides which rows are photos."""
        models_ = [model for _path, model in self.path.hop_models]
        if self.image_model is not self.product_model:
            models_.append(self.image_model)
        return get_settings().image_filter is not None or any(map(_is_managed, models_))

    def all_products(self) -> QuerySet:
        return database.where_written(self.product_model._base_manager.all())

    def visible_products(self) -> QuerySet:
        """The products that may be shown, as the shop's ``PRODUCTS`` callable says.

        It can be filtered and ordered further, whatever the callable does.

        Raises:
            SettingsError: the callable returns something else than a queryset of products.
        """
        path = get_settings().products
        if path is None:
            return database.where_written(self.product_model._default_manager.all())
        queryset = import_string(path)()
        if not isinstance(queryset, QuerySet) or not issubclass(queryset.model, self.product_model):
            raise SettingsError(
                f"{SETTING}['PRODUCTS'] names {path!r}, which returned {type(queryset).__name__}.",
                f"Return a queryset of {self.product_model._meta.label}.",
            )
        try:
            return database.where_written(filterable(queryset))
        except UnusableQuerysetError as error:
            raise SettingsError(
                f"{SETTING}['PRODUCTS'] names {path!r}, which returned no instances. {error}",
                f"Return a queryset of {self.product_model._meta.label} as all() or filter() make it.",
            ) from error

    def products_to_ask_with(self) -> QuerySet:
        """The products whose look-alikes a shopper may ask for: those that may be shown, and their children."""
        visible = self.visible_products()
        if self.parent is None:
            return visible
        visible = visible.order_by()
        # Each looked up by its key: a shop of millions is not gone through for one page.
        shown, parent_shown = (
            Exists(visible.filter(pk=OuterRef(key))) for key in ("pk", f"{self.parent.name}{LOOKUP_SEP}pk")
        )
        return self.all_products().using(visible.db).filter(shown | parent_shown)

    def photo_rows(self) -> QuerySet:
        """All rows that may hold a photo, whether they do or not."""
        return self.image_model._base_manager.all()

    def images(self) -> QuerySet:
        """All rows that hold a photo, in the order of their keys, each with ``OWNER``, ``PRODUCT`` and ``FILE``.

        This is the one answer to the question which photos exist: rows that the default managers of their models show,
        with a file and a product, and that the ``IMAGE_FILTER`` setting takes for photos.
        """
        return database.where_written(self._photos().order_by("pk"))

    def images_of(self, product_ids: Collection[Any]) -> QuerySet:
        """Of :meth:`images`, those that hang on these products or speak for them."""
        rows = self.images()
        if self.parent is None:
            return rows.filter(self._owned_by(product_ids))
        owners = self.all_products().filter(
            Q(pk__in=product_ids) | Q(**{f"{self.parent.name}{LOOKUP_SEP}pk{LOOKUP_SEP}in": product_ids})
        )
        if self.path.generic is not None:
            return rows.filter(self._owned_by(list(owners.values_list("pk", flat=True))))
        return rows.filter(self._owned_by(owners.order_by().values("pk")))

    def photos_to_ask_with(self, product: models.Model) -> QuerySet:
        """The photo rows by which look-alikes of a product are found, in the shop's own order.

        Its own come before those of its children; where it has neither, they are its parent's.
        """
        key, rows = product.pk, self.images_of([product.pk])
        if self.parent is None:
            return self._in_order(rows)
        parent = self.parent_key(product)
        if parent is not None and not rows.exists():
            key, rows = parent, self.images_of([parent])
        return self._in_order(rows, Case(When(**{OWNER: key}, then=Value(0)), default=Value(1)))

    def parent_key(self, product: models.Model) -> Any:
        """The key of the product by which this one is shown; None where it stands for itself."""
        if self.parent is None or getattr(product, self.parent.attname) is None:
            return None
        if self.parent.target_field.primary_key:
            return getattr(product, self.parent.attname)
        return getattr(product, self.parent.name).pk

    def shown_key(self, product: models.Model) -> Any:
        """The key under which the photos of a product are embedded: its parent's, or its own."""
        parent = self.parent_key(product)
        return product.pk if parent is None else parent

    def rows(self, queryset: QuerySet, *, streamed: bool = False) -> Iterator[ImageRow]:
        """The given rows of :meth:`images` as keys and file names only.

        Args:
            streamed: not held in memory, for commands that go through all photos.
        """
        values = queryset.values_list("pk", PRODUCT, FILE)
        for image_id, product_id, file_name in database.stream(values) if streamed else values:
            yield ImageRow(image_id, product_id, file_name)

    def product_photos(self, product: models.Model) -> list[ProductPhoto]:
        """The photos of a product in the shop's own order: its own, its children's, or else its parent's.

        Costs no query for products that :meth:`with_images` returned.
        """
        if self._is_read_by_accessor:
            assert self.path.accessor is not None
            rows = getattr(product, self.path.accessor).all()
            return [ProductPhoto(row.pk, file) for row in rows if (file := self.path.file_of(row))]
        if self.has_own_photo and not self.path.hops and not self.is_filtered:
            file = self.path.file_of(product)
            return [ProductPhoto(product.pk, file)] if file else []
        loaded = product.__dict__.get(_LOADED)
        return self._load([product])[product.pk] if loaded is None else loaded

    def with_images(self, products: Iterable[models.Model]) -> list[models.Model]:
        """The given products with their photos read: one query, however many they are."""
        products = list(products)
        if self._is_read_by_accessor:
            accessor = self.path.accessor
            assert accessor is not None
            # What the shop's own queryset has read already Django would only look at once more, product by product.
            if not all(accessor in getattr(product, "_prefetched_objects_cache", ()) for product in products):
                models.prefetch_related_objects(products, accessor)
        elif products and not (self.has_own_photo and not self.path.hops and not self.is_filtered):
            photos = self._load(products)
            for product in products:
                product.__dict__[_LOADED] = photos[product.pk]
        return products

    @property
    def _is_read_by_accessor(self) -> bool:
        """Whether the shop's own attribute gives the photos, so that what is read serves the shop's templates too."""
        return (
            self.path.accessor is not None
            and not self.path.hops
            and self.parent is None
            and get_settings().image_filter is None
        )

    @property
    def _owner(self) -> Any:
        """Expression on a photo row that gives the key of the product that it hangs on."""
        generic = self.path.generic
        if generic is None:
            return F(self._to_product("pk"))
        column, key = generic.object_id_field_name, _concrete(self.product_model._meta.pk)
        texts = next((text for kind, text in _TEXTS.items() if isinstance(key, kind)), None)
        if texts is None or not isinstance(
            generic.related_model._meta.get_field(column), models.CharField | models.TextField
        ):
            return F(column)
        # Postgres may look at rows of other models first, whose keys are no keys of products.
        is_key = self._of_products & Q(**{f"{column}__regex": texts})
        return Case(When(is_key, then=Cast(F(column), output_field=key)), output_field=key)

    @property
    def _of_products(self) -> Q:
        """The condition that a generic relation leads to a product and not to a row of another model."""
        content_types = apps.get_model("contenttypes", "ContentType")._base_manager
        ids = content_types.filter(_content_types(self.product_model)).values("pk")
        return Q(**{f"{self.path.generic.content_type_field_name}{LOOKUP_SEP}in": ids})

    def _to_product(self, name: str) -> str:
        return LOOKUP_SEP.join(filter(None, [self.path.product, name]))

    def _owned_by(self, keys: Any) -> Q:
        generic = self.path.generic
        if generic is None:
            return Q(**{f"{self._to_product('pk')}{LOOKUP_SEP}in": keys})
        # As the column holds them, so that its index serves.
        column = generic.related_model._meta.get_field(generic.object_id_field_name)
        return Q(**{f"{column.name}{LOOKUP_SEP}in": [column.to_python(key) for key in keys]})

    def _photos(self) -> QuerySet:
        # Which products may be shown is what PRODUCTS says, whatever their default manager hides.
        is_product = self.image_model is self.product_model
        rows = self.photo_rows() if is_product else filterable(self.image_model._default_manager.all())
        for path, model in self.path.hop_models:
            if _is_managed(model):
                rows = rows.filter(**{f"{path}{LOOKUP_SEP}in": model._default_manager.order_by().values("pk")})
        rows = rows.filter(**{f"{self.path.file}{LOOKUP_SEP}isnull": False}).exclude(**{self.path.file: ""})
        owner = self._owner
        if self.path.generic is not None:
            # Nothing but Django keeps these rows from outliving their product.
            rows = rows.filter(self._of_products).annotate(**{OWNER: owner})
            rows = rows.filter(Exists(self.all_products().filter(pk=OuterRef(OWNER))))
        else:
            if self.path.product:
                rows = rows.filter(**{f"{self._to_product('pk')}{LOOKUP_SEP}isnull": False})
            rows = rows.annotate(**{OWNER: owner})
        rows = self._filtered(rows)
        product: Any = owner
        if self.parent is not None and self.path.generic is not None:
            parents = self.all_products().filter(pk=OuterRef(OWNER)).order_by()
            product = Coalesce(Subquery(parents.values(f"{self.parent.name}{LOOKUP_SEP}pk")), F(OWNER))
        elif self.parent is not None:
            product = Coalesce(F(self._to_product(f"{self.parent.name}{LOOKUP_SEP}pk")), owner)
        return rows.annotate(**{PRODUCT: product, FILE: F(self.path.file)})

    def _filtered(self, rows: QuerySet) -> QuerySet:
        wanted = get_settings().image_filter
        if wanted is None:
            return rows
        if not isinstance(wanted, str):
            return _each_once(rows, rows.filter(**wanted))
        photos = import_string(wanted)(self.photo_rows())
        if (
            not isinstance(photos, QuerySet)
            or photos.model._meta.concrete_model is not self.image_model._meta.concrete_model
        ):
            raise SettingsError(
                f"{SETTING}['IMAGE_FILTER'] names {wanted!r}, which returned {type(photos).__name__}.",
                f"Return the queryset of {self.image_model._meta.label} that it is given, filtered.",
            )
        try:
            photos = filterable(photos).order_by()
        except UnusableQuerysetError as error:
            raise SettingsError(
                f"{SETTING}['IMAGE_FILTER'] names {wanted!r}, which returned no instances. {error}",
                f"Return the queryset of {self.image_model._meta.label} that it is given, filtered.",
            ) from error
        keys = photos.values("pk")
        # Which of the same keys is meant makes no difference here, and sorting all of them takes Postgres long.
        keys.query.distinct = False
        return rows.filter(pk__in=keys)

    def _in_order(self, rows: QuerySet, *first: Any) -> QuerySet:
        """The rows as the shop orders them: by their manager, their model, or that of the first hop."""
        ordering = list(self.image_model._default_manager.all().query.order_by or self.image_model._meta.ordering or ())
        if not ordering and self.path.hop_models and self.path.hop_models[0][1]._meta.ordering:
            ordering = [self.path.hops[0]]
        return rows.order_by(*first, *ordering, "pk")

    def _load(self, products: Collection[models.Model]) -> dict[Any, list[ProductPhoto]]:
        """The photos of each product, by its key."""
        parents = {product.pk: self.parent_key(product) for product in products}
        keys = {*parents, *parents.values()} - {None}
        rows = self._in_order(self.images_of(keys)).using(next(iter(products))._state.db)
        if self.path.hops:
            rows = rows.select_related(LOOKUP_SEP.join(self.path.hops))
        to_python = _concrete(self.product_model._meta.pk).to_python
        own, of_children = defaultdict(list), defaultdict(list)
        for row in rows:
            photo = ProductPhoto(row.pk, self.path.file_of(row))
            owner, product = (to_python(getattr(row, name)) for name in (OWNER, PRODUCT))
            own[owner].append(photo)
            if product != owner:
                of_children[product].append(photo)

        def photos(key: Any) -> list[ProductPhoto]:
            return own[key] + of_children[key]

        return {key: photos(key) or (photos(parent) if parent is not None else []) for key, parent in parents.items()}


def _concrete(key: Any) -> models.Field:
    while key.remote_field is not None:
        key = key.target_field
    return key


@functools.cache
def _content_types(model: type[models.Model]) -> Q:
    labels = [Q(app_label=other._meta.app_label, model=other._meta.model_name) for other in family(model)]
    return functools.reduce(operator.or_, labels)


def _is_managed(model: type[models.Model]) -> bool:
    """Whether the default manager of a model leaves rows out."""
    rows = model._default_manager.all()
    return bool(rows.query.where) or not is_plain(rows)


def _each_once(rows: QuerySet, filtered: QuerySet) -> QuerySet:
    """``filtered``, whose filter may have joined several rows to one of ``rows``."""
    joins = (getattr(table, "join_field", None) for table in filtered.query.alias_map.values())
    if any(field is not None and (field.one_to_many or field.many_to_many) for field in joins):
        return rows.filter(pk__in=filtered.order_by().values("pk"))
    return filtered


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


def _parent(model: type[models.Model], name: str | None) -> models.ForeignKey | None:
    if name is None:
        return None
    there = {
        field.name: field
        for field in model._meta.concrete_fields
        if isinstance(field, models.ForeignKey)
        and not getattr(field.remote_field, "parent_link", False)
        and issubclass(model, field.related_model._meta.concrete_model or field.related_model)
    }
    if name not in there:
        raise SettingsError(
            f"{SETTING}['PARENT'] is {name!r}, which is no foreign key of {model._meta.label} to itself.",
            f"Name one of: {', '.join(sorted(there)) or '-'}.",
        )
    return there[name]


@functools.lru_cache(maxsize=1)
def get_catalogue() -> Catalogue:
    """The shop's catalogue as the settings describe it.

    Raises:
        SettingsError: a model or a field that the settings name does not exist or is of the wrong kind.
    """
    config = get_settings()
    product_model = _product_model(config.product_model)
    catalogue = Catalogue(
        product_model, photo_path(product_model, config.images), _parent(product_model, config.parent)
    )
    if isinstance(config.image_filter, dict):
        try:
            catalogue.photo_rows().filter(**config.image_filter)
        except (FieldError, TypeError, ValueError) as error:
            raise SettingsError(
                f"{SETTING}['IMAGE_FILTER'] is {config.image_filter!r}, by which {catalogue.image_model._meta.label} "
                f"can't be filtered: {error}",
                "Write lookups of the rows that hold the photos, for example {'kind': 'photo'}.",
            ) from error
    return catalogue


@receiver(setting_changed)
def _drop_cache(*, setting: str, **kwargs: Any) -> None:
    if setting == SETTING:
        get_catalogue.cache_clear()
