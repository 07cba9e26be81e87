"""Which photos move the mean of all shoppers' photos, and how: one vote for each client and day, in groups of five.

The mean is taken out of everybody's photo (:mod:`.common_part`), so whoever moves it changes what others find, and
whoever reads it must learn nothing of a single photo. So a client has one vote a day; a photo that is much like a
recent vote is none; and votes wait beside their answers, for no longer than those are kept, until there are five of
them, which are then added in one step. Neither the mean nor the difference of two of its states is a photo's vector.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
from django.conf import settings
from django.utils.crypto import salted_hmac

from .. import database
from ..clients import network_of, votes_today
from ..feedback.visitors import wants_privacy
from ..models import EMBEDDING_DIM, ModelVersion, VisualQuery, VisualQueryMean

GROUP = 5
"""So many votes are added at once, or more."""

# Later votes move the mean as if it rested on no more than so many, so that it follows what shoppers search for.
MEMORY = 500
# Of two votes with this cosine one counts.
SAME = 0.9
# A mark is the signs of so many random projections. As many bits differ as the angle is parts of half a turn.
_MARK_BITS = 128
_SAME_BITS = 14
_MOST_AT_ONCE = 100


def is_vote(request: Any) -> bool:
    """Whether this upload is its client's first one of the day (UTC); takes the client's vote for that day.

    Nor do browsers vote that ask for privacy, clients without a known address, and any where Django's cache, which
    alone knows who has voted, keeps nothing.
    """
    network = network_of(request)
    return network is not None and not wants_privacy(request) and votes_today("photos", network) == 1


def count(version: ModelVersion) -> int:
    """Add the votes that wait to the mean of a version, as soon as they are five; returns how many were added."""
    using = database.write_alias()
    with database.atomic(using):
        database.lock(f"visual votes {version.pk}", using)
        waiting = VisualQuery.objects.using(using).filter(version=version, vote__isnull=False)
        rows = list(waiting.order_by("created_at").values_list("pk", "vote")[:_MOST_AT_ONCE])
        row = VisualQueryMean.objects.using(using).filter(version=version).first()
        mean, photos, marks = _state(row)
        fresh, repeated = _apart([(key, _unit(vote)) for key, vote in rows], marks)
        waiting.filter(pk__in=repeated).update(vote=None)
        if len(fresh) < GROUP:
            return 0
        votes = np.stack([vote for _key, vote in fresh])
        waiting.filter(pk__in=[key for key, _vote in fresh]).update(vote=None)
        photos += len(votes)
        mean = mean + (votes.sum(0) - len(votes) * mean) / max(len(votes), min(photos, MEMORY))
        # Sorted, so that their order says nothing about that of the photos.
        marks = [*marks, *sorted(map(_mark, votes))][-MEMORY:]
        VisualQueryMean(version=version, mean=mean.astype("<f4").tobytes(), photos=photos, marks=b"".join(marks)).save(
            using=using
        )
    return len(votes)


def _state(row: VisualQueryMean | None) -> tuple[np.ndarray, int, list[bytes]]:
    if row is None:
        return np.zeros(EMBEDDING_DIM, np.float32), 0, []
    marks, size = bytes(row.marks), _MARK_BITS // 8
    return np.frombuffer(row.mean, "<f4"), row.photos, [marks[at : at + size] for at in range(0, len(marks), size)]


def _apart(
    rows: Iterable[tuple[Any, np.ndarray]], marks: list[bytes]
) -> tuple[list[tuple[Any, np.ndarray]], list[Any]]:
    """The votes that are like no earlier one, with their keys, and the keys of the others."""
    known = [int.from_bytes(mark) for mark in marks]
    fresh: list[tuple[Any, np.ndarray]] = []
    repeated = []
    for key, vote in rows:
        mark = int.from_bytes(_mark(vote))
        if any(vote @ other > SAME for _key, other in fresh) or any(
            (mark ^ other).bit_count() <= _SAME_BITS for other in known
        ):
            repeated.append(key)
        else:
            fresh.append((key, vote))
    return fresh, repeated


def _unit(vote: Any) -> np.ndarray:
    vector = np.asarray(vote, np.float32)
    return vector / np.linalg.norm(vector)


def _mark(vote: np.ndarray) -> bytes:
    """The mark of a vector; whoever knows it and the secret key knows on which side of 128 planes the vector lies."""
    return np.packbits(vote @ _projections(settings.SECRET_KEY) > 0).tobytes()


@functools.lru_cache(maxsize=1)
def _projections(secret: str) -> np.ndarray:
    """(4096, 128), known to nobody without the secret key, so that a mark can't be compared with a photo's."""
    seed = salted_hmac("shop_similarity.visual_search.votes", "marks", secret=secret, algorithm="sha256").digest()
    random = np.random.default_rng(int.from_bytes(seed))
    return random.standard_normal((EMBEDDING_DIM, _MARK_BITS), np.float32)
