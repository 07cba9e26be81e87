"""What a version's vectors say about colour, pattern and shape."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .rows import Rows
from .versions import ModelVersion

_Manager = models.Manager.from_queryset(Rows)


class AspectBasisManager(_Manager):
    """Leaves the matrices in the table unless they are asked for."""

    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().defer("data")


class AspectBasis(models.Model):
    """The matrices that split a version's similarities into aspects; see :mod:`shop_similarity.search.aspects`.

    They are kept in the database, so that web processes need no access to the storage of the weights.
    """

    version = models.OneToOneField(
        ModelVersion, models.CASCADE, related_name="aspect_basis", verbose_name=_("model version")
    )
    # NumPy's .npz without pickled objects.
    data = models.BinaryField(_("matrices"))
    sha256 = models.CharField(_("SHA-256 of the matrices"), max_length=64)
    metrics = models.JSONField(_("metrics"), default=dict, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    objects = AspectBasisManager()

    class Meta:
        verbose_name = _("aspect basis")
        verbose_name_plural = _("aspect bases")
        base_manager_name = "objects"

    def __str__(self) -> str:
        return str(self.version_id)
