"""The plugin's pages in Django's admin."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.models import OutboxEntry
from tests.shop_similarity.factories import make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def failed() -> OutboxEntry:
    version = make_version()
    outbox.enqueue(version.pk, [ImageRow(7, 8, "a.jpg"), ImageRow(9, 8, "b.jpg")])
    claim = outbox.claim(version.pk, 1, "w")[0]
    outbox.fail(claim, "The file is cut off.")
    return OutboxEntry.objects.get(failed_at__isnull=False)


def test_failures_are_listed_with_their_sentence_and_tried_again(admin_client, failed):
    url = reverse("admin:shop_similarity_outboxentry_changelist")
    page = admin_client.get(url, {"outcome": "failed"}).content.decode()
    assert "The file is cut off." in page
    assert page.count('name="_selected_action"') == 1
    response = admin_client.post(url, {"action": "retry", "_selected_action": [failed.pk]}, follow=True)
    assert "1 photo is queued again." in response.content.decode()
    assert not OutboxEntry.objects.filter(failed_at__isnull=False).exists()


def test_who_may_only_look_may_not_retry(client, failed):
    user = User.objects.create_user("viewer", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_outboxentry"))
    client.force_login(user)
    url = reverse("admin:shop_similarity_outboxentry_changelist")
    assert "Try the selected photos again" not in client.get(url).content.decode()
    client.post(url, {"action": "retry", "_selected_action": [failed.pk]})
    assert OutboxEntry.objects.filter(failed_at__isnull=False).count() == 1


def test_version_is_shown_without_a_link_to_its_weights(admin_client, failed):
    page = admin_client.get(
        reverse("admin:shop_similarity_modelversion_change", args=[failed.version_id])
    ).content.decode()
    assert "drawn" in page
    assert "weights_sha256" in page
    assert 'field-weights"' not in page
