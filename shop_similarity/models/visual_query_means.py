"""What the photos that shoppers search with have in common."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Rows
from .versions import ModelVersion


class VisualQueryMean(models.Model):
    """The running mean of the vectors of shoppers' photos by one version; see ``visual_search/common_part.py``.

    It moves by five votes or more at a time, so neither it nor the difference of two of its states is a photo's vector.
    Beside it nothing stays of those photos but rough marks, by which a photo that comes again is known. There is one
    row for each version that five clients have searched with.
    """

    version = models.OneToOneField(
        ModelVersion, models.CASCADE, primary_key=True, related_name="+", verbose_name=_("model version")
    )
    # (4096,) float32, little-endian: in half precision small steps would be lost.
    mean = models.BinaryField(_("mean"))
    photos = models.PositiveBigIntegerField(_("photos"))
    # 16 bytes each, of the last votes, sorted within those that were counted together; see ``visual_search/votes.py``.
    marks = models.BinaryField(_("marks"), default=b"", db_default=b"")
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("mean of visual queries")
        verbose_name_plural = _("means of visual queries")

    def __str__(self) -> str:
        return str(self.version_id)
