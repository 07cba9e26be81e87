"""What the photos that shoppers search with have in common."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .versions import ModelVersion


class VisualQueryMean(models.Model):
    """The running mean of the vectors of shoppers' photos by one version; see ``visual_search/common_part.py``.

    Nothing else stays of those photos. There is one row for each version that was searched with.
    """

    version = models.OneToOneField(
        ModelVersion, models.CASCADE, primary_key=True, related_name="+", verbose_name=_("model version")
    )
    # (4096,) float32, little-endian: in half precision small steps would be lost.
    mean = models.BinaryField(_("mean"))
    photos = models.PositiveBigIntegerField(_("photos"))
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("mean of visual queries")
        verbose_name_plural = _("means of visual queries")

    def __str__(self) -> str:
        return str(self.version_id)
