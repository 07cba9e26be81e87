"""Shoppers' photos by their vectors, from upload to answer, with nothing left out but the network."""

from __future__ import annotations

import io
import itertools

import numpy as np
from django.test import RequestFactory

from shop_similarity.models import ModelVersion
from shop_similarity.visual_search import queue, submit, votes
from shop_similarity.visual_search.common_part import without_common_part
from tests.shop_similarity.drawn_photos import product_photo

_addresses = (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in itertools.count(1))


def upload(version: ModelVersion, vector: np.ndarray, address: str | None = None, **headers) -> np.ndarray:
    """What a photo with this vector is searched with; the client is a new one where no address is given."""
    request = RequestFactory().post("/", REMOTE_ADDR=next(_addresses) if address is None else address, headers=headers)
    submit(io.BytesIO(product_photo("mug", "red", size=(32, 32))), request=request)
    claim = queue.claim(version)
    searched = without_common_part(version, vector)
    queue.answer(claim, version, searched, vector if claim.is_vote else None)
    votes.count(version)
    return searched
