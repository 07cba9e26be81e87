"""Search by photo: the web process checks the photo and makes it small, a worker embeds it, nobody keeps it.

query = submit(request.FILES["photo"], crop=(0.1, 0.1, 0.6, 0.9))
query = wait(query)
products = results(query, SearchOptions(limit=12))
"""

from .errors import Busy, CropError, Expired
from .preparing import MAX_SIDE, Crop, prepare_photo, upload_limits
from .purging import purge
from .searching import results
from .submitting import submit
from .waiting import wait

__all__ = [
    "MAX_SIDE",
    "Busy",
    "Crop",
    "CropError",
    "Expired",
    "prepare_photo",
    "purge",
    "results",
    "submit",
    "upload_limits",
    "wait",
]
