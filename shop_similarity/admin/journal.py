"""Actions leave an entry in the admin's history, with a sentence that says what was done."""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.admin.models import CHANGE, LogEntry
from django.db import models
from django.http import HttpRequest


def note(
    request: HttpRequest, objects: models.Model | Iterable[models.Model], sentence: object, flag: int = CHANGE
) -> None:
    """Enter what the user did to one object or to several."""
    several = [objects] if isinstance(objects, models.Model) else list(objects)
    if several:
        assert request.user.pk is not None
        LogEntry.objects.log_actions(request.user.pk, several, flag, str(sentence))
