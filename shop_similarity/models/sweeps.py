"""Runs of the sweep."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Rows


class SweepRun(models.Model):
    """One comparison of the catalogue with the embeddings, for what signals could not see.

    One that a worker began by the clock has a ``cursor``: where it was cut off, any worker goes on from there.
    """

    started_at = models.DateTimeField(_("started at"), auto_now_add=True)
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)
    with_files = models.BooleanField(_("asked the storage"), default=False)
    enqueued = models.PositiveIntegerField(_("photos queued"), default=0)
    removed = models.PositiveIntegerField(_("embeddings removed"), default=0)

    # Up to where it has come, as ``embedding/sweep.py`` writes it; None for one that nobody goes on with.
    cursor = models.JSONField(_("cursor"), null=True, blank=True)
    seen_at = models.DateTimeField(_("seen at"), null=True, blank=True)
    examined = models.PositiveBigIntegerField(_("photos examined"), default=0, db_default=0)

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("sweep")
        verbose_name_plural = _("sweeps")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M:%S}"
