"""A shop that owns packages called catalog, tests, training and workers, and has a Celery app of its own."""

from .celery import app as celery_app

__all__ = ["celery_app"]
