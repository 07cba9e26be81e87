"""Telling the clients whose clicks are counted apart, by numbers of which each belongs to a part of all clients."""

from __future__ import annotations

from typing import Any

from ..clients import digest, network_of, votes_today
from ..models import VOTERS
from .tokens import Query

GROUPS = 1000
"""The clients of an experiment fall into so many groups."""

VOTES_A_DAY = 100
"""Of one client so many reports of clicks a day count towards training."""


def voter_of(request: Any, query: Query) -> int | None:
    """The number, 0 to 255, under which a report of clicks counts towards training; None where it does not count.

    Args:
        request: of the report.
        query: the list that was clicked on.

    Returns:
        The same for a client and the look-alikes of a product, whatever the day. None for a list of no single product,
        an address that is not known, another site's page, and more than 100 reports of one client on a day.
    """
    network = network_of(request)
    if network is None or query.product_id is None or request.headers.get("Sec-Fetch-Site") == "cross-site":
        return None
    if (votes_today("clicks", network) or 0) > VOTES_A_DAY:
        return None
    return _number(f"product {query.product_id}", network, VOTERS)


def group_of(request: Any, experiment_id: int) -> int | None:
    """The group of clients, 0 to 999, that a request belongs to in an experiment; None where no address is known."""
    network = network_of(request)
    return None if network is None else _number(f"experiment {experiment_id}", network, GROUPS)


def _number(subject: str, network: str, numbers: int) -> int:
    return int.from_bytes(digest(subject, network)[:8]) % numbers
