"""Who a worker is: the signature on its claims, and whether the worker behind a signature is dead."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from shop_similarity.embedding import outbox
from shop_similarity.models import OutboxEntry


def _namespace() -> str:
    # Process numbers mean something only within one namespace: two containers may share host name and numbers.
    try:
        return Path("/proc/self/ns/pid").readlink().name
    except OSError:
        return ""


def worker_name() -> str:
    """Host, process number and namespace of this process."""
    return f"{socket.gethostname()}|{os.getpid()}|{_namespace()}"


def is_dead(name: str) -> bool:
    """Whether the worker of that name is known to be dead: it ran here and its process is gone.

    A worker elsewhere, or one that can't be told, counts as alive; the lease of its claims ends by itself.
    """
    host, _, rest = name.partition("|")
    number, _, namespace = rest.partition("|")
    if host != socket.gethostname() or namespace != _namespace() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def free_claims_of_the_dead() -> int:
    """Let go at once of what workers claimed that were killed on this machine; returns how many entries.

    The try stays counted, so that a photo that kills its worker is given up in the end.
    """
    claimed = OutboxEntry.objects.filter(leased_until__isnull=False, failed_at__isnull=True).exclude(claimed_by="")
    names = claimed.order_by().values_list("claimed_by", flat=True).distinct()
    dead = [name for name in names if is_dead(name)]
    return outbox.count_death(claimed.filter(claimed_by__in=dead)) if dead else 0
