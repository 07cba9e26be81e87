"""Photos that shoppers search with, for as long as a worker needs to embed them."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..fields import HalfVectorField
from .embeddings import EMBEDDING_DIM
from .rows import Rows
from .versions import ModelVersion

_Manager = models.Manager.from_queryset(Rows)


class VisualQueryManager(_Manager):
    """Leaves photo and vectors in the table unless they are asked for."""

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().defer("photo", "vector", "vote")


class VisualQuery(models.Model):
    """A search with a photo: waiting for a worker, answered with a vector, or failed with one of ``Error``.

    The photo is small, upright and without metadata; it is removed as soon as its vector is there, unless the shopper
    wants to choose among the objects on it, or it is a product's own. The table is unlogged: it goes into no backup of
    the write-ahead log and is emptied when Postgres crashes.
    """

    class Error(models.TextChoices):
        """Why there is no vector; the label is what the shopper reads, in the shopper's language."""

        TOO_LATE = (
            "too_late",
            _("The photo was not looked at in time and is removed; please search with it again."),
        )
        FAILED = "failed", _("The photo could not be compared; please search with another one.")
        GONE = "gone", _("This search has expired; please search with the photo again.")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("model version"))
    photo = models.BinaryField(_("photo"), null=True)
    vector = HalfVectorField(_("vector"), dimensions=EMBEDDING_DIM, null=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True, db_index=True)
    claimed_at = models.DateTimeField(_("claimed at"), null=True, blank=True)
    # Also the time at which it failed: what is answered in one way or the other waits no more.
    answered_at = models.DateTimeField(_("answered at"), null=True, blank=True)
    error = models.TextField(_("error"), blank=True)
    # Whether the photo counts in what is taken out of all; see ``visual_search/votes.py``.
    is_vote = models.BooleanField(_("counts in the mean"), default=False, db_default=False)
    # The vector before that was taken out, until it is counted.
    vote = HalfVectorField(_("vector to be counted"), dimensions=EMBEDDING_DIM, null=True)
    # [left, top, right, bottom] in per cent of each object, the one that was searched with first. None: somebody has
    # chosen a part already, so that none are looked for.
    regions = models.JSONField(_("objects"), null=True)
    # Whether the photo stays beside the answer, so that another object can be chosen without JavaScript.
    is_kept = models.BooleanField(_("photo is kept"), default=False, db_default=False)
    # Key, as text, of the product whose own photo it is; empty for a shopper's.
    product = models.TextField(_("product"), blank=True, default="", db_default="")

    objects = VisualQueryManager()

    class Meta:
        verbose_name = _("visual query")
        verbose_name_plural = _("visual queries")
        base_manager_name = "objects"
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=models.Q(answered_at__isnull=True),
                name="shop_similarity_query_waiting",
            ),
            models.Index(fields=["version"], condition=models.Q(vote__isnull=False), name="shop_similarity_query_vote"),
            models.Index(fields=["created_at"], condition=models.Q(is_kept=True), name="shop_similarity_query_kept"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def error_sentence(self) -> str:
        """Why there is no vector, for the shopper; empty where nothing is wrong."""
        if not self.error:
            return ""
        return str(self.Error(self.error if self.error in self.Error else self.Error.FAILED).label)
