"""What a search engine beside Postgres holds of the embeddings, and what it has not heard of yet."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from .rows import Rows


class EngineCopy(models.Model):
    """The copy that an engine has of one version's embeddings.

    Without foreign keys: a row outlives its version until the engine has dropped what it holds.
    """

    version_id = models.BigIntegerField(_("model version"))
    engine = models.CharField(_("engine"), max_length=255)
    # By which the engine knows it, never used twice: what an engine forgot to drop can't be taken for another.
    name = models.CharField(_("name in the engine"), max_length=100, unique=True)
    is_wanted = models.BooleanField(_("wanted"), default=True)
    # The first walk through all embeddings: the last photo that it came to, and when it came to the end.
    cursor = models.TextField(_("last photo"), blank=True)
    photos = models.BigIntegerField(_("photos"), default=0)
    filled_at = models.DateTimeField(_("complete since"), null=True, blank=True)
    seen_at = models.DateTimeField(_("engine answered at"), null=True, blank=True)
    error = models.TextField(_("trouble"), blank=True)

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("copy in the search engine")
        verbose_name_plural = _("copies in the search engine")
        constraints = [
            models.UniqueConstraint(
                fields=["version_id"], condition=Q(is_wanted=True), name="shop_similarity_one_engine_copy"
            )
        ]

    def __str__(self) -> str:
        return self.name


class EngineChange(models.Model):
    """An embedding that was written or removed since the engine last heard of its version; noted by a trigger."""

    version_id = models.BigIntegerField(_("model version"))
    embedding_id = models.BigIntegerField(_("embedding"))

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("change for the search engine")
        verbose_name_plural = _("changes for the search engine")
        indexes = [models.Index(fields=["version_id", "id"], name="shop_similarity_engine_change")]

    def __str__(self) -> str:
        return f"{self.embedding_id} ({self.version_id})"
