"""Embeddings of photos."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..fields import BitField, HalfVectorField, ImageKeyField, ProductKeyField
from .rows import Rows
from .versions import ModelVersion

EMBEDDING_DIM = 4096


_Manager = models.Manager.from_queryset(Rows)


class EmbeddingManager(_Manager):
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
            # What has changed since then, for the feed.
            models.Index(fields=["version", "embedded_at"], include=["product_id"], name="shop_similarity_emb_changed"),
        ]

    def __str__(self) -> str:
        return f"{self.file_name} ({self.version_id})"
