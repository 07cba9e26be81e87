"""The shop's own tasks."""

from celery import shared_task
from django.conf import settings


@shared_task(name="workers.note")
def note(text: str) -> None:
    """Leave a file behind, for a test to find."""
    (settings.DATA / text).touch()
