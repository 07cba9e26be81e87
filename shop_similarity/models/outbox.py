"""The outbox: photos that wait to be embedded or could not be."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ..fields import ImageKeyField, ProductKeyField
from .rows import Rows
from .versions import ModelVersion


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

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("outbox entry")
        verbose_name_plural = _("outbox")
        ordering = ["priority", "id"]
        permissions = [
            ("retry_outboxentry", _("Can queue failed photos again")),
            ("reembed_product", _("Can have the photos of a product embedded again")),
        ]
        indexes = [
            # Three parts of what waits, so that nobody walks over entries of the others: ready, to be tried later, and
            # at work.
            models.Index(
                fields=["version", "priority", "id"],
                condition=Q(failed_at__isnull=True, due_at__isnull=True, leased_until__isnull=True),
                name="shop_similarity_outbox_ready",
            ),
            models.Index(
                fields=["due_at"],
                condition=Q(failed_at__isnull=True, due_at__isnull=False),
                name="shop_similarity_outbox_later",
            ),
            models.Index(
                fields=["leased_until"],
                condition=Q(leased_until__isnull=False),
                name="shop_similarity_outbox_leased",
            ),
            models.Index(fields=["version", "image_id"], name="shop_similarity_outbox_image"),
            # Without the version: of two indexes that have it Postgres takes either for a photo's entries, where it
            # thinks that few rows are of the version, and reads all that waits for each photo. PostgreSQL 18 does so
            # also where the version comes second.
            models.Index(fields=["product_id"], name="shop_similarity_outbox_of"),
            models.Index(
                fields=["version", "failed_at"],
                condition=Q(failed_at__isnull=False),
                name="shop_similarity_outbox_failed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.image_id} ({self.version_id})"
