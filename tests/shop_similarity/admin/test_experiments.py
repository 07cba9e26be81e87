"""Experiments in the admin."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from shop_similarity.models import Experiment, ModelVersion
from tests.shop_similarity.factories import make_version, store_vectors
from tests.shop_similarity.shops import mixed

pytestmark = pytest.mark.django_db

RUN = "shop_similarity.run_experiment"
EDIT = tuple(f"shop_similarity.{name}_experiment" for name in ("view", "add", "change"))


@pytest.fixture
def versions(shop) -> tuple[ModelVersion, ModelVersion]:
    second = make_version("second", "candidate")
    photos = [product.photos.get() for product in shop.values()]
    store_vectors(second, photos, [mixed({"b": 0.5}, f"second {number}") for number in range(len(photos))])
    return ModelVersion.objects.active(), second


@pytest.fixture
def experiment(versions) -> Experiment:
    return Experiment.objects.create(name="Spring", control=versions[0], treatment=versions[1])


def url(name: str, experiment: Experiment) -> str:
    return reverse(f"admin:shop_similarity_experiment_{name}", args=[experiment.pk])


def test_one_is_planned(staff, versions):
    make_version("gone", "retired")
    client = staff(*EDIT)
    page = client.get(reverse("admin:shop_similarity_experiment_add"))
    assert page.context["adminform"].form.initial["control"] == versions[0].pk
    assert ">gone<" not in page.content.decode(), "a retired version has nothing to show"
    values = {"name": "Spring", "control": versions[0].pk, "treatment": versions[0].pk, "share": "0.3", "note": ""}
    response = client.post(reverse("admin:shop_similarity_experiment_add"), values)
    assert response.context["adminform"].form.errors["treatment"] == [
        "Choose another version than the control: there is nothing to compare."
    ]
    values["treatment"] = versions[1].pk
    assert client.post(reverse("admin:shop_similarity_experiment_add"), values).status_code == 302
    assert Experiment.objects.get().share == 0.3


def test_it_is_started_looked_at_and_stopped(staff, experiment):
    client = staff(*EDIT, RUN)
    assert "Start the experiment" in client.get(url("change", experiment)).content.decode()
    html = client.post(url("start", experiment), follow=True).content.decode()
    assert "The experiment Spring is running now." in html
    assert "95 % interval" in html and "Stop the experiment" in html
    experiment.refresh_from_db()
    assert experiment.is_running
    # Its versions and share are fixed from now on.
    client.post(url("change", experiment), {"name": "Spring", "share": "0.9", "note": "x"})
    experiment.refresh_from_db()
    assert (experiment.share, experiment.note) == (0.5, "x")
    assert "has been started before" in client.post(url("start", experiment), follow=True).content.decode()
    html = client.post(url("stop", experiment), follow=True).content.decode()
    assert "The experiment Spring has ended." in html
    experiment.refresh_from_db()
    assert experiment.ended_at is not None and client.user.username in experiment.note
    assert "does not run" in client.post(url("stop", experiment), follow=True).content.decode()
    messages = LogEntry.objects.order_by("pk").values_list("change_message", flat=True)
    assert [message for message in messages if "experiment" in message] == [
        "Started the experiment.",
        "Stopped the experiment.",
    ]


def test_what_stands_in_the_way_is_said(staff, experiment, versions):
    versions[1].embeddings.all()[0].delete()
    html = staff(*EDIT, RUN).post(url("start", experiment), follow=True).content.decode()
    assert "lacks 1 of the 5 photos" in html
    experiment.refresh_from_db()
    assert experiment.started_at is None


def test_starting_needs_a_permission_of_its_own(staff, experiment):
    client = staff(*EDIT)
    assert "Start the experiment" not in client.get(url("change", experiment)).content.decode()
    assert client.post(url("start", experiment)).status_code == 403
    assert client.post(url("stop", experiment)).status_code == 403
    assert staff(*EDIT, RUN).get(url("start", experiment)).status_code == 405
    assert staff(*EDIT, RUN, csrf=True).post(url("start", experiment)).status_code == 403
    experiment.refresh_from_db()
    assert experiment.started_at is None


def test_a_running_one_is_not_deleted(staff, experiment):
    client = staff(*EDIT, RUN, "shop_similarity.delete_experiment")
    client.post(url("start", experiment))
    assert client.post(url("delete", experiment), {"post": "yes"}).status_code == 403
    client.post(url("stop", experiment))
    assert client.post(url("delete", experiment), {"post": "yes"}).status_code == 302
