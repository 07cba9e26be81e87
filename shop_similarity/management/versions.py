"""What the commands about model versions share."""

from __future__ import annotations

from django.core.management.base import CommandError

from ..models import ModelVersion


def find_version(name: str) -> ModelVersion:
    """The version of that name. Raises CommandError with the known names where there is none."""
    version = ModelVersion.objects.filter(name=name).first()
    if version is None:
        known = ", ".join(ModelVersion.objects.values_list("name", flat=True)) or "none"
        raise CommandError(f"There is no model version {name!r}. Known: {known}.")
    return version
