"""Which model version searches use: one switch, in one transaction."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from .models import ModelVersion


def activate(version: ModelVersion) -> None:
    """Make ``version`` the one that searches use; the version that was active is retired in the same transaction.

    Searches that are under way end with the version they began with.
    """
    with transaction.atomic():
        # The lock makes two activations at once follow each other instead of failing on the unique constraint.
        list(ModelVersion.objects.select_for_update().order_by("pk").values_list("pk", flat=True))
        ModelVersion.objects.filter(state=ModelVersion.State.ACTIVE).exclude(pk=version.pk).update(
            state=ModelVersion.State.RETIRED
        )
        ModelVersion.objects.filter(pk=version.pk).update(state=ModelVersion.State.ACTIVE, activated_at=timezone.now())
    version.refresh_from_db()
