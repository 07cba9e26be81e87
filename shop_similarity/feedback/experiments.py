"""Experiments: two model versions shown to different visitors at the same time, divided by a stable hash."""

from __future__ import annotations

import functools
import hashlib

from ..models import Experiment
from .visitors import BUCKETS


def is_treatment(experiment: Experiment, bucket: int) -> bool:
    """Whether visitors of this bucket see the treatment version. The same answer every time, in every process."""
    return bucket in treatment_buckets(experiment.salt, experiment.share)


@functools.lru_cache(maxsize=32)
def treatment_buckets(salt: str, share: float) -> frozenset[int]:
    """The buckets of the treatment: the first ``share`` of all, in an order that the salt alone decides.

    A hash compared with the share would give each bucket its chance, and so an experiment at 0.5 anything from 0.45 to
    0.55 of the buckets; here it is half of them exactly.
    """
    order = sorted(range(BUCKETS), key=lambda bucket: hashlib.sha256(f"{salt}:{bucket}".encode()).digest())
    return frozenset(order[: round(share * BUCKETS)])
