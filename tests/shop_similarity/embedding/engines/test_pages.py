"""What needs look-alikes while the engine beside Postgres is away, and is no list of a shop's page."""

from __future__ import annotations

import numpy as np
from django.urls import reverse

from shop_similarity.models import MerchandisingRule
from shop_similarity.visual_search.expansion import drawn_to_the_shop
from tests.vectors import random_vectors


def test_previews_say_so(engine_beside, shop, is_large, admin_client):
    engine_beside.bring_up(shop.version)
    engine_beside.stop()
    product, other = shop.products[:2]
    values = {"kind": "pin", "product_id": product.pk, "target_product_id": other.pk, "is_on": "on", "_preview": "1"}
    answer = admin_client.post(
        reverse("admin:shop_similarity_merchandisingrule_add"), values, headers={"accept": "text/html"}
    )
    assert answer.status_code == 503 and b"search for similar products does not" in answer.content
    modes = reverse("admin:shop_similarity_modes", args=[product.pk])
    assert admin_client.get(modes).status_code == 503
    assert not MerchandisingRule.objects.exists()


def test_a_photo_is_answered_as_it_is(engine_beside, shop, is_large):
    engine_beside.bring_up(shop.version)
    far = random_vectors(1, seed=99)[0] + 0.2 * shop.vectors[0]
    far /= np.linalg.norm(far)
    assert not np.array_equal(drawn_to_the_shop(shop.version, far), far)
    engine_beside.stop()
    assert np.array_equal(drawn_to_the_shop(shop.version, far), far)
