"""Signal handlers: what the shop does to its photos and products becomes outbox rows in the same transaction."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import models
from django.db.models.signals import post_delete, post_save, pre_save

from . import database
from .catalogue import get_catalogue
from .embedding import bell, outbox
from .models import Embedding, OutboxEntry

# Set on an instance between pre_save and post_save when a new file was assigned to it.
_NEW_FILE = "_shop_similarity_new_file"


def _note_new_file(instance: models.Model, **kwargs: Any) -> None:
    file = getattr(instance, get_catalogue().file_field, None)
    # A file that is not committed yet is written to the storage by this very save, possibly under the old name.
    setattr(instance, _NEW_FILE, bool(file) and not getattr(file, "_committed", True))


def _image_saved(instance: models.Model, using: str, update_fields: frozenset | None = None, **kwargs: Any) -> None:
    catalogue = get_catalogue()
    new_file = instance.__dict__.pop(_NEW_FILE, False)
    if not database.is_written_to(using):
        return
    if update_fields is not None and not new_file:
        watched = {catalogue.file_field, catalogue.product_field}
        if not watched & set(update_fields):
            return
    row = catalogue.row_of(instance)
    if not row.file_name or row.product_id is None:
        _forget(using, image_id=row.image_id)
        return
    if outbox.enqueue_saved(row, new_file=new_file, using=using):
        database.on_commit(bell.ring, using)


def _image_deleted(instance: models.Model, using: str, **kwargs: Any) -> None:
    _forget(using, image_id=instance.pk)


def _product_saved(
    instance: models.Model, using: str, created: bool, update_fields: frozenset | None = None, **kwargs: Any
) -> None:
    # The photos of a new product come after it, each with a signal of its own. A later save is a cheap moment to
    # notice photos that came without one.
    if created or update_fields is not None or not database.is_written_to(using):
        return
    if outbox.enqueue_missing_of_product(instance.pk, using=using):
        database.on_commit(bell.ring, using)


def _product_deleted(instance: models.Model, using: str, **kwargs: Any) -> None:
    _forget(using, product_id=instance.pk)


def _forget(using: str, **key: Any) -> None:
    if not database.is_written_to(using):
        return
    for model in (Embedding, OutboxEntry):
        database.raw_delete(model.objects.filter(**key), using)


def _family(model: type[models.Model]) -> list[type[models.Model]]:
    """The model with its proxies and children: signals name the exact class that was saved."""
    return [candidate for candidate in apps.get_models() if issubclass(candidate, model)]


def connect_hooks() -> None:
    """Connect the handlers to the shop's models. Safe to call twice.

    Raises:
        SettingsError: the settings do not describe the shop's models.
    """
    catalogue = get_catalogue()
    for model in _family(catalogue.image_model):
        pre_save.connect(_note_new_file, sender=model, dispatch_uid=f"shop_similarity.pre_save.{model._meta.label}")
        post_save.connect(_image_saved, sender=model, dispatch_uid=f"shop_similarity.image.{model._meta.label}")
        post_delete.connect(
            _image_deleted, sender=model, dispatch_uid=f"shop_similarity.image_deleted.{model._meta.label}"
        )
    if catalogue.image_model is catalogue.product_model:
        return
    for model in _family(catalogue.product_model):
        post_save.connect(_product_saved, sender=model, dispatch_uid=f"shop_similarity.product.{model._meta.label}")
        post_delete.connect(
            _product_deleted, sender=model, dispatch_uid=f"shop_similarity.product_deleted.{model._meta.label}"
        )
