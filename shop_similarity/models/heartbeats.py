"""Signs of life of workers."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Rows


class Heartbeat(models.Model):
    """When a worker's process was last alive, whether it had anything to do or not."""

    worker = models.CharField(_("worker"), max_length=255, primary_key=True)
    started_at = models.DateTimeField(_("started at"))
    seen_at = models.DateTimeField(_("seen at"))

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("sign of a worker")
        verbose_name_plural = _("signs of workers")

    def __str__(self) -> str:
        return self.worker
