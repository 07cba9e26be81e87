"""Celery workers that embed photos: ``celery -A workers worker``. Importing this package loads neither."""
