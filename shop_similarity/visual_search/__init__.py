"""Search by photo: the web process checks the photo and makes it small, a worker embeds it, nobody keeps it.

query = submit(request.FILES["photo"], crop=(0.1, 0.1, 0.6, 0.9))
query = wait(query)
products = results(query, SearchOptions(limit=12))
"""

from ..photos.limits import upload_limits
from .queue import Busy, Expired, find_query, purge, submit, wait
from .results import products, products_like, results
from .uploads import MAX_SIDE, WHOLE, Crop, CropError, prepare_photo

__all__ = [
    "MAX_SIDE",
    "WHOLE",
    "Busy",
    "Crop",
    "CropError",
    "Expired",
    "find_query",
    "prepare_photo",
    "products",
    "products_like",
    "purge",
    "results",
    "submit",
    "upload_limits",
    "wait",
]
