"""Celery workers that embed photos: ``celery -A shop_similarity.workers worker``. Importing this package loads
neither."""

if __name__ == "workers":
    raise ImportError("This folder is installed and imported as shop_similarity.workers, and under no other name.")
