"""Checks for django-health-check 4, to be listed in the ``checks`` of its view, each by its dotted path."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import ClassVar

from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable

from ..monitoring.health import SECONDS, examine

__all__ = ["Database", "Index", "Queue", "Recall", "Storage", "Weights", "Worker"]


@dataclasses.dataclass(repr=False)
class _Check(HealthCheck):
    """A check of :mod:`shop_similarity.monitoring.health`, by its name."""

    name: ClassVar[str]
    timeout: ClassVar[timedelta] = timedelta(seconds=SECONDS)

    def __repr__(self) -> str:
        # By which reports tell it from other checks of that kind.
        return f"similar products: {self.name}"

    def run(self) -> None:
        """Ask it.

        Raises:
            ServiceUnavailable: it failed; the sentence holds nothing that strangers may not know.
        """
        (result,) = examine([self.name])
        if not result.is_healthy:
            raise ServiceUnavailable(result.sentence)


class Database(_Check):
    """The database answers."""

    name = "database"


class Queue(_Check):
    """No saved photo waits for too long."""

    name = "queue"


class Worker(_Check):
    """A worker is alive."""

    name = "worker"


class Index(_Check):
    """The active version has its index, where it needs one."""

    name = "index"


class Recall(_Check):
    """The search by codes finds enough."""

    name = "recall"


class Storage(_Check):
    """The storage of the photos answers."""

    name = "storage"


class Weights(_Check):
    """The weights of the active version are in their storage; for workers."""

    name = "weights"
