import html
import re
import threading
from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.utils import timezone
from rest_framework.request import Request

from shop_similarity import database, rollout
from shop_similarity.feedback import tokens
from shop_similarity.feedback.comparison import Verdict, compare
from shop_similarity.feedback.experiments import ExperimentError, is_treatment, start, stop, treatment_buckets
from shop_similarity.feedback.visitors import COOKIE
from shop_similarity.middleware import ExperimentMiddleware
from shop_similarity.models import Experiment, ModelVersion
from shop_similarity.storefront.experiment_arms import experiment_for, version_for
from tests.shop_similarity.factories import make_photos_without_files, make_product, make_version, store_vectors
from tests.vectors import random_vectors

pytestmark = pytest.mark.django_db


@pytest.fixture
def versions():
    return make_version("control"), make_version("treatment", "candidate")


@pytest.fixture
def experiment(versions):
    return Experiment.objects.create(name="first", control=versions[0], treatment=versions[1])


@pytest.fixture
def running(experiment):
    start(experiment)
    return experiment


def visit(cookie=None, headers=None, look=True):
    """One page with look-alikes: (version, experiment, response)."""
    request = RequestFactory().get("/", headers=headers or {})
    if cookie is not None:
        request.COOKIES[COOKIE] = cookie
    seen = []

    def page(request):
        if look:
            seen.extend([version_for(request), experiment_for(request)])
            assert version_for(request) == seen[0]
        return HttpResponse("page")

    response = ExperimentMiddleware(page)(request)
    return (*seen, response) if look else response


def test_buckets_are_divided_exactly_and_differently_for_each_salt():
    half = treatment_buckets("one", 0.5)
    assert len(half) == 500 and half == treatment_buckets("one", 0.5)
    # A larger share keeps who is treated already.
    assert half < treatment_buckets("one", 0.7) and len(treatment_buckets("one", 0.013)) == 13
    # Independent salts share half of them; 6 standard deviations are 47.
    assert abs(len(half & treatment_buckets("another", 0.5)) - 250) < 48
    # Nobody may be moved by an upgrade: these are facts of the salt.
    assert sorted(treatment_buckets("one", 0.005)) == [362, 526, 655, 713, 755]


def test_a_visitor_keeps_an_arm_and_the_cookie_holds_a_bucket_alone(running, versions):
    version, experiment, response = visit()
    cookie = response.cookies[COOKIE]
    assert experiment == running and 0 <= int(cookie.value) < 1000
    assert cookie["samesite"] == "Lax" and cookie["httponly"] and not cookie["secure"]
    assert response["Vary"] == "Cookie"
    assert version == versions[is_treatment(running, int(cookie.value))]
    for _ in range(3):
        again, experiment, response = visit(cookie.value)
        assert again == version and experiment.bucket == int(cookie.value)
        assert not response.cookies and response["Vary"] == "Cookie"


def test_both_arms_are_seen(running, versions):
    treated = treatment_buckets(running.salt, 0.5)
    for bucket in range(0, 1000, 50):
        assert visit(str(bucket))[0] == versions[bucket in treated]


@pytest.mark.parametrize("cookie", ["", "1000", "-1", "x", "1" * 5000, "٣"])
def test_a_cookie_of_somebody_elses_making_is_replaced(running, cookie):
    assert 0 <= int(visit(cookie)[2].cookies[COOKIE].value) < 1000


def test_no_cookie_where_no_experiment_runs_or_none_matters(experiment, versions):
    version, taking_part, response = visit()
    assert version == versions[0] and taking_part is None
    assert not response.cookies and "Vary" not in response
    start(experiment)
    response = visit(look=False)
    assert not response.cookies and "Vary" not in response
    stop(experiment)
    assert not visit()[2].cookies


@pytest.mark.parametrize("headers", [{"Sec-GPC": "1"}, {"DNT": "1"}])
def test_who_asks_for_privacy_gets_no_cookie_and_the_control(running, versions, headers):
    for cookie in (None, *map(str, range(0, 1000, 200))):
        version, experiment, response = visit(cookie, headers)
        assert (version, experiment) == (versions[0], None) and not response.cookies


def test_without_the_middleware_everybody_gets_the_control(running, versions):
    for request in (None, RequestFactory().get("/")):
        assert version_for(request) == versions[0] and experiment_for(request) is None


def test_a_program_takes_part_only_with_a_visitors_cookie(running, versions):
    def ask(cookie):
        request = RequestFactory().get("/")
        if cookie is not None:
            request.COOKIES[COOKIE] = cookie
        found = []

        def view(request):
            found.extend([version_for(Request(request)), experiment_for(Request(request)), version_for(request)])
            return HttpResponse()

        return found, ExperimentMiddleware(view)(request)

    treated = str(min(treatment_buckets(running.salt, 0.5)))
    found, response = ask(treated)
    assert found == [versions[1], running, versions[1]] and not response.cookies
    found, response = ask(None)
    assert found == [versions[0], None, versions[0]] and not response.cookies


def test_the_version_costs_one_or_two_statements_per_request(experiment, django_assert_num_queries):
    with django_assert_num_queries(2):
        visit()
    start(experiment)
    with django_assert_num_queries(1):
        visit("3")


def test_an_arm_that_is_no_longer_live_ends_in_the_active_version(running, versions):
    # Not by the roll-out, which ends the experiment itself.
    ModelVersion.objects.filter(pk=versions[1].pk).update(state="retired")
    for bucket in range(0, 1000, 100):
        version, experiment, _ = visit(str(bucket))
        assert (version, experiment) == (versions[0], None)


def test_only_complete_and_live_versions_are_compared(experiment, versions):
    photos = make_photos_without_files([make_product() for _ in range(3)])
    store_vectors(versions[0], photos, random_vectors(3))
    with pytest.raises(ExperimentError, match="treatment lacks 3 of the 3 photos that control shows"):
        start(experiment)
    store_vectors(versions[1], photos, random_vectors(3))
    rollout.retire(versions[1])
    experiment.refresh_from_db()
    with pytest.raises(ExperimentError, match="treatment is retired"):
        start(experiment)
    ModelVersion.objects.filter(pk=versions[1].pk).update(state="candidate")
    start(Experiment.objects.get())
    assert Experiment.objects.get().is_running


def test_no_visitor_is_shown_a_version_that_tells_no_photo_from_another(experiment, versions):
    photos = make_photos_without_files([make_product() for _ in range(8)])
    store_vectors(versions[0], photos, random_vectors(8))
    store_vectors(versions[1], photos, random_vectors(1).repeat(8, axis=0))
    with pytest.raises(ExperimentError, match="treatment has nearly the same vector for 8 different photos"):
        start(experiment)


def test_one_experiment_runs_at_a_time_and_each_only_once(running, versions):
    other = Experiment.objects.create(name="second", control=versions[1], treatment=versions[0])
    with pytest.raises(ExperimentError, match="first is running: stop it first"):
        start(other)
    with pytest.raises(ExperimentError, match="does not run"):
        stop(other)
    with pytest.raises(IntegrityError), transaction.atomic():
        Experiment.objects.filter(pk=other.pk).update(started_at=timezone.now())
    with pytest.raises(IntegrityError), transaction.atomic():
        Experiment.objects.create(name="third", control=versions[0], treatment=versions[0])
    other.started_at = timezone.now()
    with pytest.raises(ValidationError, match="stop it first"):
        other.validate_constraints()
    stop(running, note="Enough was seen.")
    assert not running.is_running and running.note == "Enough was seen."
    with pytest.raises(ExperimentError, match="has been started before"):
        start(running)
    other.refresh_from_db()
    start(other)


@pytest.mark.django_db(transaction=True)
def test_two_starts_at_once(versions):
    experiments = [Experiment.objects.create(name=name, control=versions[0], treatment=versions[1]) for name in "ab"]
    barrier = threading.Barrier(2)
    refused = []

    def begin(experiment):
        try:
            barrier.wait()
            start(experiment)
        except ExperimentError as error:
            refused.append(str(error))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=begin, args=[experiment]) for experiment in experiments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Experiment.objects.running().count() == 1
    assert len(refused) == 1 and "stop it first" in refused[0]


def test_a_switch_ends_the_running_experiment(running, versions):
    rollout.activate(versions[1], force=True)
    running.refresh_from_db()
    assert not running.is_running and running.note == "Ended because treatment became the active version."
    assert visit("3")[:2] == (versions[1], None)


def test_retiring_an_arm_ends_the_experiment_and_another_versions_retirement_does_not(running, versions):
    other = make_version("other", "candidate")
    rollout.retire(other)
    running.refresh_from_db()
    assert running.is_running
    rollout.retire(versions[1])
    running.refresh_from_db()
    assert not running.is_running and running.note == "Ended because treatment was retired."


def test_the_check_wants_the_middleware_while_an_experiment_runs(experiment):
    def found():
        return [
            message
            for message in run_checks(databases=[database.write_alias()])
            if message.id == "shop_similarity.W002"
        ]

    with override_settings(MIDDLEWARE=[]):
        assert not found()
        start(experiment)
        [warning] = found()
        assert "everybody sees the control version" in warning.msg and "ExperimentMiddleware" in warning.hint
    with override_settings(MIDDLEWARE=["shop_similarity.middleware.ExperimentMiddleware"]):
        assert not found()
    assert experiment.started_at - timezone.now() < timedelta(minutes=1)


def test_from_the_page_to_the_comparison(running, versions, client):
    """A visitor of the reference shop: one cookie, one version, and events that count for the experiment."""
    products = [make_product() for _ in range(4)]
    photos = make_photos_without_files(products)
    for seed, version in enumerate(versions):
        store_vectors(version, photos, random_vectors(4, seed=seed))
    seen = set()
    for product in products:
        page = client.get(f"/product/{product.slug}/")
        token = re.search('data-similarity-token="([^"]+)"', page.content.decode())[1]
        query = tokens.read(html.unescape(token))
        assert "Cookie" in page["Vary"] and query.experiment_id == running.pk
        seen.add((query.version_id, query.bucket, client.cookies[COOKIE].value))
        body = {"token": token, "events": [{"kind": "click", "product": query.shown[-1]}]}
        assert client.post("/similarity/events/", body, content_type="application/json").status_code == 204
    [(version, bucket, cookie)] = seen
    assert cookie == str(bucket)
    assert version == versions[is_treatment(running, bucket)].pk
    found = compare(running)
    assert {(arm.version_id, arm.lists, arm.clicked) for arm in (found.control, found.treatment)} == {
        (each.pk, 4 * (each.pk == version), 4 * (each.pk == version)) for each in versions
    }
    assert found.verdict is Verdict.UNDECIDED and not found.clustered
