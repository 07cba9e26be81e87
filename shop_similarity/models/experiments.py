"""Experiments: two model versions shown side by side to different visitors."""

from __future__ import annotations

import uuid

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from .rows import Rows
from .versions import ModelVersion


def new_salt() -> str:
    return uuid.uuid4().hex


class ExperimentQuerySet(Rows["Experiment"]):
    def running(self) -> ExperimentQuerySet:
        """The one that runs now, if any."""
        return self.filter(started_at__isnull=False, ended_at__isnull=True)


class Experiment(models.Model):
    """An A/B comparison of two versions; at most one runs at a time."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    control = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="experiments_as_control", verbose_name=_("control version")
    )
    treatment = models.ForeignKey(
        ModelVersion, models.CASCADE, related_name="experiments_as_treatment", verbose_name=_("treatment version")
    )
    share = models.FloatField(
        _("share of the treatment"),
        default=0.5,
        validators=[MinValueValidator(0.01), MaxValueValidator(0.99)],
        help_text=_("Of the visitors, 0.01 to 0.99."),
    )
    # Makes one experiment's division of the visitors independent of the next one's.
    salt = models.CharField(_("salt"), max_length=32, default=new_salt, editable=False)
    started_at = models.DateTimeField(_("started at"), null=True, blank=True)
    ended_at = models.DateTimeField(_("ended at"), null=True, blank=True)
    note = models.TextField(_("note"), blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    objects = ExperimentQuerySet.as_manager()

    class Meta:
        verbose_name = _("experiment")
        verbose_name_plural = _("experiments")
        ordering = ["-created_at"]
        permissions = [("run_experiment", _("Can start and stop experiments"))]
        constraints = [
            models.CheckConstraint(
                condition=~Q(control=F("treatment")), name="shop_similarity_experiment_two_versions"
            ),
            models.UniqueConstraint(
                fields=["ended_at"],
                condition=Q(started_at__isnull=False, ended_at__isnull=True),
                nulls_distinct=False,
                name="shop_similarity_one_running_experiment",
                violation_error_message=_("Another experiment is running: stop it first."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_running(self) -> bool:
        return self.started_at is not None and self.ended_at is None
