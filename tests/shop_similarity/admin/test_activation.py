"""Activating and rolling back in the admin."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone

from shop_similarity.models import Embedding, Experiment, ModelVersion
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.shops import make_shop

pytestmark = pytest.mark.django_db

ACTIVATE = "shop_similarity.activate_modelversion"


def evaluation(accuracy: float) -> dict:
    return {"evaluation": {"set": "photos", "triplets": {"set": "t", "accuracy": accuracy}}}


@pytest.fixture
def active(db) -> ModelVersion:
    return make_version("old", metrics=evaluation(0.8))


def now(version: ModelVersion) -> str:
    return reverse("admin:shop_similarity_activate_now", args=[version.pk])


def page(version: ModelVersion) -> str:
    return reverse("admin:shop_similarity_activate", args=[version.pk])


def candidate(accuracy: float, state: str = "candidate") -> ModelVersion:
    return make_version("new", state, metrics=evaluation(accuracy))


def test_a_better_version_is_wished_for(staff, active):
    version = candidate(0.9)
    client = staff(ACTIVATE)
    html = client.get(page(version)).content.decode()
    assert "The comparison speaks for it." in html
    assert 'name="force"' not in html
    client.post(now(version), {"note": "spring"})
    version.refresh_from_db()
    assert version.activation_requested_at is not None
    assert version.activation_note == f"{client.user.username}: spring"
    entry = LogEntry.objects.get()
    assert entry.get_edited_object() == version
    assert "spring" in entry.change_message


def test_the_gate_refuses_and_force_asks_for_a_note(staff, active):
    version = candidate(0.7)
    client = staff(ACTIVATE)
    html = client.get(page(version)).content.decode()
    assert "new does not beat old" in html
    assert 'name="force"' in html
    response = client.post(now(version), {"note": ""})
    assert response.status_code == 422
    html = response.content.decode()
    assert "It was not activated." in html and html.count("new does not beat old") == 1
    response = client.post(now(version), {"force": "on", "note": " "})
    assert "Write why it is activated" in response.content.decode()
    version.refresh_from_db()
    assert version.activation_requested_at is None
    assert not LogEntry.objects.exists()
    assert client.post(now(version), {"force": "on", "note": "for the eye"}).status_code == 302
    version.refresh_from_db()
    assert version.activation_forced and "for the eye" in version.activation_note


def test_what_was_not_compared_is_not_called_worse(staff, active):
    html = staff(ACTIVATE).get(page(make_version("new", "candidate"))).content.decode()
    assert "Whether it is better is not known." in html and "new was not evaluated" in html
    assert "speaks against it" not in html and 'name="force"' in html
    html = staff(ACTIVATE).get(page(make_version("worse", "candidate", metrics=evaluation(0.7)))).content.decode()
    assert "The comparison speaks against it." in html


def test_an_experiment_that_the_switch_ends_is_named(staff, active):
    version, before = candidate(0.9), make_version("before", "standby")
    client, roll_back = staff(ACTIVATE), reverse("admin:shop_similarity_roll_back")
    said = "The experiment Spring is running: it ends with the switch."
    assert said not in client.get(page(version)).content.decode()
    Experiment.objects.create(name="Spring", control=active, treatment=version, started_at=timezone.now())
    assert said in client.get(page(version)).content.decode()
    assert said in client.get(roll_back).content.decode()
    client.post(reverse("admin:shop_similarity_roll_back_now"))
    assert ModelVersion.objects.active() == before
    assert not Experiment.objects.running().exists()


def test_the_first_version_becomes_active_at_once(staff, db):
    version = candidate(0.5)
    assert staff(ACTIVATE).post(now(version), {"note": ""}).status_code == 302
    assert ModelVersion.objects.active() == version


def test_what_is_missing_is_said(staff, active):
    make_shop({"A": {"a": 1}, "B": {"a": 0.5}}, active)
    html = staff(ACTIVATE).get(page(candidate(0.9))).content.decode()
    assert "new lacks 2 of the 2 photos" in html


def test_a_retired_version_is_not_cleared_in_the_request(staff, active, monkeypatch):
    version = candidate(0.9)
    make_shop({"A": {"a": 1}, "B": {"a": 0.5}}, version)
    ModelVersion.objects.filter(pk=version.pk).update(state="retired")
    monkeypatch.setattr("shop_similarity.admin.activation._FEW_ROWS", 1)
    response = staff(ACTIVATE).post(now(version), {"note": ""})
    assert response.status_code == 422
    assert "The workers are still removing what new left behind." in response.content.decode()
    assert Embedding.objects.filter(version=version).count() == 2
    Embedding.objects.filter(version=version).delete()
    assert staff(ACTIVATE).post(now(version), {"note": ""}).status_code == 302
    version.refresh_from_db()
    assert version.state == "candidate" and version.activation_requested_at is not None


def test_rolling_back(staff, active):
    client = staff(ACTIVATE)
    url = reverse("admin:shop_similarity_roll_back")
    assert "There is no version to go back to" in client.get(url).content.decode()
    assert client.post(reverse("admin:shop_similarity_roll_back_now")).status_code == 422
    before = make_version("before", "standby")
    assert "Go back to before" in client.get(url).content.decode()
    assert client.post(reverse("admin:shop_similarity_roll_back_now"), {"note": "worse"}).status_code == 302
    assert ModelVersion.objects.active() == before
    assert ModelVersion.objects.standby() == active
    assert LogEntry.objects.get().change_message == "Rolled back to it. worse"


def test_permission_method_and_csrf(staff, active):
    version = candidate(0.9)
    make_version("before", "standby")
    others = (
        "shop_similarity.view_dashboard",
        "shop_similarity.compare_modelversion",
        "shop_similarity.view_modelversion",
    )
    back = reverse("admin:shop_similarity_roll_back_now")
    for client in (staff(*others), staff(ACTIVATE, csrf=True)):
        assert client.post(now(version)).status_code == 403
        assert client.post(back).status_code == 403
    assert staff(*others).get(page(version)).status_code == 403
    assert staff(*others).get(reverse("admin:shop_similarity_roll_back")).status_code == 403
    assert staff(ACTIVATE).get(now(version)).status_code == 405
    assert staff(ACTIVATE).get(back).status_code == 405
    assert ModelVersion.objects.active() == active
    assert not ModelVersion.objects.filter(activation_requested_at__isnull=False).exists()
    dashboard = staff(*others).get(reverse("admin:shop_similarity_dashboard")).content.decode()
    assert page(version) not in dashboard and reverse("admin:shop_similarity_roll_back") not in dashboard
