"""What was measured of the search by codes."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Rows
from .versions import ModelVersion


class RecallSample(models.Model):
    """How much of what the exact search finds the coded search of a version found, for a sample of products.

    ``recall`` is the share of the exact search's first ``k`` products that the coded one had too, 0 to 1, None where
    nothing could be measured; ``filtered_recall`` the same behind a filter by the product's own category. Times are
    medians in milliseconds.
    """

    version = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="recall_samples", verbose_name=_("model version")
    )
    measured_at = models.DateTimeField(_("measured at"), db_index=True)
    recall = models.FloatField(_("recall"), null=True)
    filtered_recall = models.FloatField(_("recall behind a filter"), null=True)
    k = models.PositiveSmallIntegerField(_("products of each search"))
    products = models.PositiveSmallIntegerField(_("products asked with"))
    path = models.CharField(_("path"), max_length=10)
    is_cut_short = models.BooleanField(_("cut short"), default=False)
    exact_ms = models.FloatField(_("exact search in ms"), null=True)
    coded_ms = models.FloatField(_("coded search in ms"), null=True)

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("sample of the recall")
        verbose_name_plural = _("samples of the recall")
        ordering = ["-measured_at"]

    def __str__(self) -> str:
        return f"{self.measured_at:%Y-%m-%d %H:%M} {self.recall}"
