"""Photos that a killed worker had claimed: free at once, not when their lease ends."""

import socket

import psutil

from shop_similarity import outbox
from shop_similarity.models import OutboxEntry
from shop_similarity.outbox import Claim


def free_claims_of_the_dead() -> int:
    """Give back what workers of this machine claimed that live no longer; returns how many photos.

    A worker signs its claims with host name and process number. The try is counted, so that a photo that kills its
    worker is given up in the end.
    """
    host = socket.gethostname()
    left = []
    claimed = OutboxEntry.objects.filter(claimed_by__startswith=f"{host}:", leased_until__isnull=False)
    for pk, image_id, attempts, worker in claimed.values_list("pk", "image_id", "attempts", "claimed_by"):
        number = worker.removeprefix(f"{host}:")
        if number.isdigit() and not psutil.pid_exists(int(number)):
            left.append(Claim(image_id, (pk,), attempts))
    if left:
        outbox.release(left, count_attempt=True)
    return len(left)
