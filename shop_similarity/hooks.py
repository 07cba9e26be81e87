"""Signal handlers: what the shop does to its photos and products becomes outbox rows in the same transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef
from django.db.models.constants import LOOKUP_SEP
from django.db.models.signals import ModelSignal, m2m_changed, post_delete, post_save, pre_delete, pre_save

from . import database
from .catalogue import get_catalogue
from .catalogue.photo_paths import ancestors, family
from .embedding import bell, outbox
from .models import Embedding, ModelVersion, OutboxEntry

# Set on an instance between pre_save and post_save when a new file was assigned to it.
_NEW_FILE = "_shop_similarity_new_file"
# Set on an instance before something is deleted that photos need: their keys, for afterwards nothing leads to them.
_LOSING = "_shop_similarity_losing"
_connected: list[tuple[ModelSignal, type[models.Model], str]] = []


@dataclass(frozen=True)
class _Step:
    """A model whose rows decide about photos.

    Attributes:
        lookup: from the photo row to the key of this one.
        key: attribute of an instance that holds this key.
        fields: names of its fields that lead to the file and to the product.
        is_row: whether it is the photo row itself.
    """

    lookup: str
    key: str
    fields: frozenset[str]
    is_row: bool

    def rows(self, photos: models.QuerySet, instance: models.Model) -> models.QuerySet:
        """Those of the photo rows that this instance decides about."""
        return photos.filter(**{self.lookup: getattr(instance, self.key)})


def _note_new_file(instance: models.Model, **kwargs: Any) -> None:
    file = getattr(instance, get_catalogue().path.file_field.name, None)
    # A file that is not committed yet is written to the storage by this very save, possibly under the old name.
    setattr(instance, _NEW_FILE, bool(file) and not getattr(file, "_committed", True))


def _image_saved(
    instance: models.Model,
    using: str,
    created: bool,
    update_fields: frozenset | None = None,
    *,
    step: _Step,
    **kwargs: Any,
) -> None:
    catalogue = get_catalogue()
    new_file = instance.__dict__.pop(_NEW_FILE, False)
    # Nothing leads to an image that is new.
    if (created and not step.is_row) or not database.is_written_to(using):
        return
    if update_fields is not None and not new_file and not catalogue.is_filtered and not step.fields & update_fields:
        return
    is_queued = _queue(step.rows(catalogue.images(), instance), using, new_file=new_file)
    if not is_queued or not step.is_row:
        _forget_lost(step.rows(catalogue.photo_rows(), instance), using)


def _queue(photos: models.QuerySet, using: str, *, new_file: bool = False) -> bool:
    is_queued = outbox.enqueue_saved(photos, new_file=new_file, using=using)
    if is_queued:
        database.on_commit(bell.ring, using)
    return is_queued


def _forget_lost(rows: models.QuerySet, using: str) -> None:
    """Forget those of the rows that are no photos, or no longer."""
    photos = get_catalogue().images().order_by().filter(pk=OuterRef("pk"))
    if lost := list(rows.using(using).filter(~Exists(photos)).values_list("pk", flat=True)):
        _forget(using, image_id__in=lost)


def _row_deleted(instance: models.Model, using: str, *, step: _Step, **kwargs: Any) -> None:
    _forget(using, image_id=getattr(instance, step.key))


def _losing(instance: models.Model, using: str, *, step: _Step, **kwargs: Any) -> None:
    if not database.is_written_to(using):
        return
    rows = step.rows(get_catalogue().photo_rows(), instance)
    instance.__dict__[_LOSING] = list(rows.using(using).values_list("pk", flat=True))


def _lost(instance: models.Model, using: str, **kwargs: Any) -> None:
    if lost := instance.__dict__.pop(_LOSING, None):
        _forget(using, image_id__in=lost)


def _links_changed(
    instance: models.Model, action: str, using: str, pk_set: Collection[Any] | None, **kwargs: Any
) -> None:
    """A many-to-many relation has other links: of one product or, from the other side, of one image."""
    if not database.is_written_to(using):
        return
    catalogue = get_catalogue()
    assert catalogue.path.product is not None
    to_product, to_image = catalogue.path.product.split(LOOKUP_SEP)[0], catalogue.path.hops[0]
    side: Any = catalogue.image_model._meta.get_field(to_product).related_model
    side = side._meta.concrete_model
    here, there = (to_product, to_image) if isinstance(instance, side) else (to_image, to_product)
    links = {f"{here}{LOOKUP_SEP}pk": instance.pk}
    if pk_set is not None:
        links[f"{there}{LOOKUP_SEP}pk{LOOKUP_SEP}in"] = pk_set
    if action == "post_add":
        _queue(catalogue.images().filter(**links), using)
    elif action in ("pre_remove", "pre_clear"):
        rows = catalogue.photo_rows().using(using).filter(**links)
        instance.__dict__[_LOSING] = list(rows.values_list("pk", flat=True))
    elif action in ("post_remove", "post_clear"):
        _lost(instance, using)


def _product_saved(
    instance: models.Model,
    using: str,
    created: bool,
    update_fields: frozenset | None = None,
    *,
    step: _Step,
    **kwargs: Any,
) -> None:
    # The photos of a new product come after it, each with a signal of its own. A later save is a cheap moment to
    # notice photos that came without one.
    if created or (update_fields is not None and not step.fields & update_fields):
        return
    if not database.is_written_to(using):
        return
    products = step.rows(get_catalogue().all_products().using(using), instance).values_list("pk", flat=True)
    keys = [getattr(instance, step.key)] if step.is_row else list(products)
    if keys and outbox.enqueue_missing_of_products(keys, using=using):
        database.on_commit(bell.ring, using)


def _product_deleted(instance: models.Model, using: str, *, step: _Step, **kwargs: Any) -> None:
    _forget(using, product_id=getattr(instance, step.key))


def _forget(using: str, **key: Any) -> None:
    if not database.is_written_to(using):
        return
    # The indexes begin with the version, which a subquery would leave to the planner, and the shop waits for this.
    versions = list(ModelVersion.objects.using(using).order_by().values_list("pk", flat=True))
    database.raw_delete(Embedding.objects.filter(version__in=versions, **key), using)
    # But for entries of a product: for both together Postgres may read all that waits for these versions.
    of_versions = {} if "product_id" in key else {"version__in": versions}
    database.raw_delete(OutboxEntry.objects.filter(**of_versions, **key), using)


def _key_of(model: type[models.Model]) -> models.Field:
    assert model._meta.concrete_model is not None
    return model._meta.concrete_model._meta.pk


def _steps(
    model: type[models.Model], lookup: str, fields: Collection[str], *, is_row: bool
) -> list[tuple[type[models.Model], _Step]]:
    """A model with its proxies and children, and those whose tables hold a part of its rows, each with its step."""
    key = _key_of(model)
    listed: list[Any] = [model._meta.get_field(name) for name in fields]
    watched = frozenset(name for field in listed for name in (field.name, field.attname))
    here = _Step(LOOKUP_SEP.join(filter(None, [lookup, "pk"])), key.attname, watched, is_row)
    steps = [(other, here) for other in family(model)]
    for path, other in ancestors(model):
        above = LOOKUP_SEP.join(filter(None, [lookup, path, "pk"]))
        steps.append((other, _Step(above, _key_of(other).attname, watched, False)))
    return steps


def _connect(signal: ModelSignal, sender: type[models.Model], handler: Callable, name: str, **values: Any) -> None:
    uid = f"shop_similarity.{name}.{sender._meta.label}"
    signal.connect(partial(handler, **values), sender=sender, weak=False, dispatch_uid=uid)
    _connected.append((signal, sender, uid))


def disconnect_hooks() -> None:
    while _connected:
        signal, sender, uid = _connected.pop()
        signal.disconnect(sender=sender, dispatch_uid=uid)


def connect_hooks() -> None:
    """Connect the handlers to the shop's models, in place of those that were connected before.

    Raises:
        SettingsError: the settings do not describe the shop's models.
    """
    catalogue = get_catalogue()
    path = catalogue.path
    disconnect_hooks()
    # From each model on the way, the fields that lead on.
    onward = [*path.hops, path.file_field.name]
    back = [path.product.split(LOOKUP_SEP)[0]] if path.product else []
    if path.generic is not None:
        back = [path.generic.content_type_field_name, path.generic.object_id_field_name]
    if path.row_model is catalogue.product_model and catalogue.parent is not None:
        back = [catalogue.parent.name]
    steps = _steps(path.row_model, "", [onward[0], *back], is_row=True)
    for (lookup, model), field in zip(path.hop_models, onward[1:], strict=True):
        steps += _steps(model, lookup, [field], is_row=False)
    holder = path.hop_models[-1][1] if path.hops else path.row_model
    for model in {*family(holder), *(model for _path, model in ancestors(holder))}:
        _connect(pre_save, model, _note_new_file, "pre_save")
    for model, step in steps:
        _connect(post_save, model, _image_saved, f"saved.{step.lookup}", step=step)
        if step.is_row:
            _connect(post_delete, model, _row_deleted, "deleted", step=step)
        else:
            _connect(pre_delete, model, _losing, f"losing.{step.lookup}", step=step)
            _connect(post_delete, model, _lost, f"lost.{step.lookup}")
    if path.is_many_to_many:
        _connect(m2m_changed, path.row_model, _links_changed, "links")
    if path.row_model is catalogue.product_model:
        return
    parent = [catalogue.parent.name] if catalogue.parent is not None else []
    for model, step in _steps(catalogue.product_model, "", parent, is_row=True):
        _connect(post_save, model, _product_saved, "product", step=step)
        if step.is_row:
            _connect(post_delete, model, _product_deleted, "product_deleted", step=step)
