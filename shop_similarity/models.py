"""The tables: versions of the model, embeddings of photos, the outbox of photos to embed, runs of the sweep."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import InvalidStorageError, Storage, storages
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .conf import SettingsError, get_settings
from .fields import BitField, HalfVectorField, ImageKeyField, ProductKeyField

EMBEDDING_DIM = 4096


def weights_storage() -> Storage:
    """The storage of model weights, the ``WEIGHTS_STORAGE`` alias of ``STORAGES``."""
    try:
        return storages[get_settings().weights_storage]
    except (SettingsError, InvalidStorageError):
        # Called while models are imported: the system checks come later and say what is wrong, with a hint.
        return storages["default"]


class ModelVersionQuerySet(models.QuerySet):
    def live(self) -> ModelVersionQuerySet:
        """The versions that every photo is embedded for: the active one, the one before it and the candidates."""
        return self.filter(state__in=ModelVersion.LIVE)

    def active(self) -> ModelVersion | None:
        return self.filter(state=ModelVersion.State.ACTIVE).first()

    def standby(self) -> ModelVersion | None:
        return self.filter(state=ModelVersion.State.STANDBY).first()

    def delete(self) -> tuple[int, dict[str, int]]:
        for version in self.filter(state=ModelVersion.State.ACTIVE):
            version.check_may_be_deleted()
        return super().delete()

    delete.alters_data = True
    delete.queryset_only = True


class ModelVersion(models.Model):
    """One trained or calibrated network. Embeddings of different versions are never compared.

    ``state`` is changed by :mod:`shop_similarity.rollout` alone.
    """

    class State(models.TextChoices):
        CANDIDATE = "candidate", _("candidate")
        ACTIVE = "active", _("active")
        # The version that was active before: kept complete, so that going back needs no work.
        STANDBY = "standby", _("standby")
        RETIRED = "retired", _("retired")

    LIVE = (State.ACTIVE, State.STANDBY, State.CANDIDATE)

    name = models.CharField(_("name"), max_length=100, unique=True)
    architecture = models.CharField(_("architecture"), max_length=50)
    config = models.JSONField(_("configuration"), default=dict, help_text=_("Arguments of the architecture."))
    preprocessing = models.JSONField(
        _("preprocessing"), default=dict, help_text=_("How a photo becomes the network's input.")
    )
    weights = models.FileField(_("weights"), storage=weights_storage, upload_to="shop_similarity", max_length=255)
    weights_sha256 = models.CharField(_("SHA-256 of the weights"), max_length=64)
    weights_source = models.TextField(_("source of the weights"), blank=True)
    metrics = models.JSONField(_("metrics"), default=dict, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.CANDIDATE, db_index=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    activated_at = models.DateTimeField(_("activated at"), null=True, blank=True)
    # The wish that workers fulfil as soon as the version has all that it needs.
    activation_requested_at = models.DateTimeField(_("activation requested at"), null=True, blank=True)
    activation_forced = models.BooleanField(_("activation forced"), default=False)
    activation_note = models.TextField(_("about the activation"), blank=True)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="active"), name="shop_similarity_one_active_version"
            ),
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="standby"), name="shop_similarity_one_standby_version"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        self.check_may_be_deleted()
        return super().delete(*args, **kwargs)

    delete.alters_data = True

    def check_may_be_deleted(self) -> None:
        """Raise ProtectedError for the version that pages use: with it every look-alike would go."""
        if ModelVersion.objects.filter(pk=self.pk, state=self.State.ACTIVE).exists():
            raise models.ProtectedError(
                _("%(name)s is the active version: it can't be deleted.") % {"name": self.name}, {self}
            )


class EmbeddingManager(models.Manager):
    """Leaves the 8 KiB vector and the 512-byte code in the table unless they are asked for."""

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().defer("vector", "code")


class Embedding(models.Model):
    """One photo as seen by one model version.

    ``vector`` is L2-normalised, 4096 half-precision numbers; ``code`` holds their signs, one bit each.
    """

    version = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="embeddings", verbose_name=_("model version"), db_index=False
    )
    product_id = ProductKeyField(_("product key"))
    image_id = ImageKeyField(_("image key"))
    # What the photo was when it was embedded: the sweep compares these with what the storage has now.
    file_name = models.TextField(_("file name"))
    file_mark = models.TextField(_("size and time of the file"), blank=True)
    content_sha256 = models.CharField(_("SHA-256 of the file"), max_length=64)
    vector = HalfVectorField(_("vector"), dimensions=EMBEDDING_DIM)
    code = BitField(_("code"), length=EMBEDDING_DIM)
    embedded_at = models.DateTimeField(_("embedded at"), auto_now=True)

    objects = EmbeddingManager()

    class Meta:
        verbose_name = _("embedding")
        verbose_name_plural = _("embeddings")
        base_manager_name = "objects"
        constraints = [
            models.UniqueConstraint(fields=["version", "image_id"], name="shop_similarity_one_embedding_per_image")
        ]
        indexes = [
            models.Index(fields=["version", "product_id"], name="shop_similarity_emb_product"),
            models.Index(fields=["version", "content_sha256"], name="shop_similarity_emb_content"),
        ]

    def __str__(self) -> str:
        return f"{self.file_name} ({self.version_id})"


class OutboxEntry(models.Model):
    """A photo that waits to be embedded for one model version, or that could not be.

    Entries are only ever added by the shop's transactions and removed by workers, so that neither waits for a lock of
    the other. Several entries of one photo are allowed; the second finds nothing left to do.
    """

    class Priority(models.IntegerChoices):
        SAVED = 0, _("saved")
        SWEPT = 10, _("found by a sweep")
        BACKFILL = 20, _("backfill")

    version = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="outbox", verbose_name=_("model version"), db_index=False
    )
    product_id = ProductKeyField(_("product key"))
    image_id = ImageKeyField(_("image key"))
    priority = models.SmallIntegerField(_("priority"), choices=Priority, default=Priority.SAVED)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    due_at = models.DateTimeField(_("not before"), null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    leased_until = models.DateTimeField(_("claimed until"), null=True, blank=True)
    claimed_by = models.CharField(_("claimed by"), max_length=255, blank=True)
    last_error = models.TextField(_("last error"), blank=True)
    failed_at = models.DateTimeField(_("failed at"), null=True, blank=True)
    # The file that failed, so that the sweep doesn't queue it again before it has changed.
    file_name = models.TextField(_("file name"), blank=True)
    file_mark = models.TextField(_("size and time of the file"), blank=True)

    class Meta:
        verbose_name = _("outbox entry")
        verbose_name_plural = _("outbox")
        ordering = ["priority", "id"]
        indexes = [
            models.Index(
                fields=["version", "priority", "id"],
                condition=Q(failed_at__isnull=True),
                name="shop_similarity_outbox_pending",
            ),
            models.Index(fields=["version", "image_id"], name="shop_similarity_outbox_image"),
            models.Index(
                fields=["version", "failed_at"],
                condition=Q(failed_at__isnull=False),
                name="shop_similarity_outbox_failed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.image_id} ({self.version_id})"


class SweepRun(models.Model):
    """One comparison of the catalogue with the embeddings, for what signals could not see."""

    started_at = models.DateTimeField(_("started at"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    with_files = models.BooleanField(_("asked the storage"), default=False)
    enqueued = models.PositiveIntegerField(_("photos queued"), default=0)
    removed = models.PositiveIntegerField(_("embeddings removed"), default=0)

    class Meta:
        verbose_name = _("sweep")
        verbose_name_plural = _("sweeps")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M:%S}"
