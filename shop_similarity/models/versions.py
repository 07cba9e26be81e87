"""Model versions: trained or calibrated networks and where they stand in the roll-out."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import InvalidStorageError, Storage, storages
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ..conf import SettingsError, get_settings
from .rows import Rows


def weights_storage() -> Storage:
    """The storage of model weights, the ``WEIGHTS_STORAGE`` alias of ``STORAGES``."""
    try:
        return storages[get_settings().weights_storage]
    except (SettingsError, InvalidStorageError):
        # Called while models are imported: the system checks come later and say what is wrong, with a hint.
        return storages["default"]


class ModelVersionQuerySet(Rows["ModelVersion"]):
    def live(self) -> ModelVersionQuerySet:
        """The versions that every photo is embedded for: the active one, the one before it and the candidates."""
        return self.filter(state__in=ModelVersion.LIVE)

    def active(self) -> ModelVersion | None:
        return self.filter(state=ModelVersion.State.ACTIVE).first()

    def standby(self) -> ModelVersion | None:
        return self.filter(state=ModelVersion.State.STANDBY).first()

    def delete(self) -> tuple[int, dict[str, int]]:
        for version in self.filter(state=ModelVersion.State.ACTIVE):
            version.check_may_be_deleted()
        return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]  # how Django marks a method
    delete.queryset_only = True  # type: ignore[attr-defined]  # how Django marks a method


class ModelVersion(models.Model):
    """One trained or calibrated network. Embeddings of different versions are never compared.

    ``state`` is changed by :mod:`shop_similarity.rollout` alone.
    """

    class State(models.TextChoices):
        CANDIDATE = "candidate", _("candidate")
        ACTIVE = "active", _("active")
        # The version that was active before: kept complete, so that going back needs no work.
        STANDBY = "standby", _("standby")
        RETIRED = "retired", _("retired")

    LIVE = (State.ACTIVE, State.STANDBY, State.CANDIDATE)

    name = models.CharField(_("name"), max_length=100, unique=True)
    architecture = models.CharField(_("architecture"), max_length=50)
    config = models.JSONField(_("configuration"), default=dict, help_text=_("Arguments of the architecture."))
    preprocessing = models.JSONField(
        _("preprocessing"), default=dict, help_text=_("How a photo becomes the network's input.")
    )
    weights = models.FileField(_("weights"), storage=weights_storage, upload_to="shop_similarity", max_length=255)
    weights_sha256 = models.CharField(_("SHA-256 of the weights"), max_length=64)
    weights_source = models.TextField(_("source of the weights"), blank=True)
    metrics = models.JSONField(_("metrics"), default=dict, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.CANDIDATE, db_index=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    activated_at = models.DateTimeField(_("activated at"), null=True, blank=True)
    # The wish that workers fulfil as soon as the version has all that it needs.
    activation_requested_at = models.DateTimeField(_("activation requested at"), null=True, blank=True)
    activation_forced = models.BooleanField(_("activation forced"), default=False)
    activation_note = models.TextField(_("about the activation"), blank=True)

    objects = ModelVersionQuerySet.as_manager()

    class Meta:
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")
        ordering = ["-created_at"]
        permissions = [
            ("view_dashboard", _("Can view the dashboard of similar products")),
            ("activate_modelversion", _("Can activate and roll back model versions")),
            ("compare_modelversion", _("Can compare model versions")),
            ("view_feed", _("Can read the feed of similar products")),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="active"), name="shop_similarity_one_active_version"
            ),
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="standby"), name="shop_similarity_one_standby_version"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files in the storage of the weights: the weights, and what workers have made of them."""
        quantized = self.metrics.get("int8") if isinstance(self.metrics, dict) else None
        name = quantized.get("file") if isinstance(quantized, dict) else None
        return tuple(each for each in (self.weights.name, name) if each and isinstance(each, str))

    @property
    def rank(self) -> int:
        """Its place in lists of versions: the active one, the one before it, candidates, the rest."""
        return self.LIVE.index(self.state) if self.state in self.LIVE else len(self.LIVE)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        self.check_may_be_deleted()
        return super().delete(*args, **kwargs)

    delete.alters_data = True  # type: ignore[attr-defined]  # how Django marks a method

    def check_may_be_deleted(self) -> None:
        """Raise ProtectedError for the version that pages use: with it every look-alike would go."""
        if ModelVersion.objects.filter(pk=self.pk, state=self.State.ACTIVE).exists():
            raise models.ProtectedError(
                _("%(name)s is the active version: it can't be deleted.") % {"name": self.name}, {self}
            )
