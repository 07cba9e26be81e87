import json
import threading

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection, connections
from django.test import Client, RequestFactory, override_settings
from django.urls import reverse

from shop_similarity.checks import check_settings
from shop_similarity.feedback import tokens, views
from shop_similarity.feedback.events import BadEvent, record, record_events
from shop_similarity.models import Event, Experiment, Surface
from tests.shop_similarity.factories import make_version

pytestmark = pytest.mark.django_db

IMPRESSION = {"kind": "impression"}


@pytest.fixture
def version():
    cache.clear()
    return make_version()


@pytest.fixture
def token(version):
    return tokens.issue(version=version, surface=Surface.WIDGET, product_id=9, shown=[11, 12, 13])


def send(client, token, *events, content_type="application/json", **headers):
    body = json.dumps({"token": token, "events": list(events)})
    return client.post(reverse("shop_similarity:events"), body, content_type=content_type, headers=headers)


def rows():
    return set(Event.objects.values_list("kind", "target_product_id", "position"))


def test_a_beacon_is_recorded_once_however_often_it_comes(client, token, version, django_assert_num_queries):
    click = {"kind": "click", "product": "12"}
    with django_assert_num_queries(1):
        assert send(client, token, IMPRESSION).status_code == 204
    with django_assert_num_queries(1):
        answer = send(client, token, IMPRESSION, click, {"kind": "click", "product": 13}, click)
    assert answer.status_code == 204 and "no-store" in answer["Cache-Control"] and not answer.cookies
    send(client, token, click, {"kind": "basket", "product": "13"})
    assert rows() == {("impression", None, None), ("click", 12, 2), ("click", 13, 3), ("basket", 13, 3)}
    impression = Event.objects.get(kind="impression")
    assert impression.shown == ["11", "12", "13"] and impression.product_id == 9 and impression.version == version
    assert impression.visitor == "" and impression.experiment is None and impression.bucket is None


def test_sendbeacon_sends_text_and_no_csrf_token(token):
    client = Client(enforce_csrf_checks=True)
    assert send(client, token, IMPRESSION, content_type="text/plain;charset=UTF-8").status_code == 204
    assert rows() == {("impression", None, None)}


def test_a_click_before_its_impression_brings_it_along(client, token):
    send(client, token, {"kind": "click", "product": "11"})
    send(client, token, IMPRESSION)
    assert rows() == {("impression", None, None), ("click", 11, 1)}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"no json", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 10_000, "no JSON"),
        (b"[]", "an object"),
        (b'{"events": [{"kind": "impression"}]}', "token"),
        (b'{"token": "nonsense", "events": [{"kind": "impression"}]}', "not issued"),
        (b'{"token": "TOKEN", "events": []}', "1 to 100 events"),
        (b'{"token": "TOKEN", "events": {"kind": "impression"}}', "1 to 100 events"),
        (b'{"token": "TOKEN", "events": [7]}', "Each event"),
        (b'{"token": "TOKEN", "events": [{"kind": "stare"}]}', "no kind of event 'stare'"),
        (b'{"token": "TOKEN", "events": [{"kind": "click"}]}', "not in this list"),
        (b'{"token": "TOKEN", "events": [{"kind": "click", "product": "99"}]}', "'99' was not in this list"),
        (b'{"token": "TOKEN", "events": [{"kind": "click", "product": "\\u0000"}]}', "not in this list"),
        (b'{"token": "TOKEN", "events": [{"kind": "click", "product": [11]}]}', "Each event"),
        (b'{"token": "TOKEN", "events": [{"kind": "impression"}, {"kind": "click", "product": 1.5}]}', "Each event"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(client, token, body, sentence):
    body = body.replace(b"TOKEN", token.encode())
    answer = client.post(reverse("shop_similarity:events"), body, content_type="application/json")
    assert answer.status_code == 400 and sentence in answer.json()["detail"]
    assert not Event.objects.exists()


def test_too_big_a_body_is_not_read(client, token):
    answer = client.post(reverse("shop_similarity:events"), b"x" * (views.MAX_BODY + 1), content_type="text/plain")
    assert answer.status_code == 413
    # A request that lies about its length, as a chunked one may.
    request = RequestFactory().post("/", b"x" * (views.MAX_BODY + 1), content_type="text/plain")
    request.META["CONTENT_LENGTH"] = ""
    assert views.events(request).status_code == 413
    assert client.get(reverse("shop_similarity:events")).status_code == 405


def test_who_sends_too_much_waits_and_leaves_no_address(client, token, settings):
    with override_settings(SHOP_SIMILARITY=settings.SHOP_SIMILARITY | {"EVENT_RATE": "2/day"}):
        assert [send(client, token, IMPRESSION).status_code for _ in range(3)] == [204, 204, 429]
        refused = send(client, token, IMPRESSION)
        assert 0 < int(refused["Retry-After"]) <= 86_400
        assert not [key for key in cache._cache if "127.0.0.1" in key]
        somebody = client.post(
            reverse("shop_similarity:events"), b"{}", content_type="text/plain", REMOTE_ADDR="192.0.2.7"
        )
        assert somebody.status_code == 400


@pytest.mark.parametrize("headers", [{"Sec-GPC": "1"}, {"DNT": "1"}])
def test_who_asks_for_privacy_is_not_counted(client, token, headers):
    assert send(client, token, IMPRESSION, **headers).status_code == 204
    assert not Event.objects.exists()


def test_the_shops_staff_is_not_counted(client, token):
    client.force_login(User.objects.create_user("shopper"))
    send(client, token, IMPRESSION)
    assert rows() == {("impression", None, None)}
    client.force_login(User.objects.create_user("clerk", is_staff=True))
    assert send(client, token, {"kind": "click", "product": "11"}).status_code == 204
    assert rows() == {("impression", None, None)}


def test_nothing_is_recorded_where_the_shop_does_not_want_it(client, token, settings):
    with override_settings(SHOP_SIMILARITY=settings.SHOP_SIMILARITY | {"RECORD_EVENTS": False}):
        assert send(client, token, IMPRESSION).status_code == 204
    assert not Event.objects.exists()


def pseudonym(request):
    return "p" * 200


def test_a_pseudonym_only_where_the_shop_opts_in(client, token, settings):
    path = f"{__name__}.pseudonym"
    with override_settings(SHOP_SIMILARITY=settings.SHOP_SIMILARITY | {"EVENT_VISITOR": path}):
        send(client, token, IMPRESSION)
    assert Event.objects.get().visitor == "p" * 100


def test_nothing_about_the_visitor_is_in_the_table(client, token):
    send(client, token, IMPRESSION, **{"User-Agent": "Somebody's browser"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(e)::text FROM shop_similarity_event e")
        text = cursor.fetchone()[0]
    assert "127.0.0.1" not in text and "browser" not in text


def test_events_of_what_was_deleted_meanwhile_are_dropped(client, version):
    other = make_version("other", "candidate")
    experiment = Experiment.objects.create(name="e", control=version, treatment=other)
    experiment.bucket = 3
    token = tokens.issue(version=other, surface=Surface.WIDGET, shown=[1], experiment=experiment)
    experiment.delete()
    assert send(client, token, IMPRESSION).status_code == 204
    assert list(Event.objects.values_list("experiment", "bucket")) == [(None, None)]
    other.delete()
    assert send(client, token, IMPRESSION).status_code == 204
    assert not Event.objects.exists()


def test_the_api_may_call_the_same_function(token):
    query = tokens.read(token)
    assert record(query, "click", 12)
    with pytest.raises(BadEvent):
        record(query, "click", 99)
    assert rows() == {("impression", None, None), ("click", 12, 2)}


@pytest.mark.django_db(transaction=True)
def test_the_same_beacon_twice_at_once(token):
    query = tokens.read(token)
    start = threading.Barrier(4)
    failures = []

    def beacon():
        try:
            start.wait()
            record(query, "click", 12)
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=beacon) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(Event.objects.values_list("kind", flat=True)) == ["click", "impression"]


def test_rows_are_written_in_one_order_so_that_beacons_never_wait_in_a_circle(token):
    query = tokens.read(token)
    record_events(query, [("click", 13), ("basket", 12), ("click", 11), ("impression", None), ("basket", 11)])
    assert list(Event.objects.order_by("pk").values_list("kind", "position")) == [
        ("impression", None),
        ("basket", 1),
        ("basket", 2),
        ("click", 1),
        ("click", 3),
    ]


def test_wrong_settings_are_reported_before_a_shopper_meets_them(settings):
    def found(**values):
        with override_settings(SHOP_SIMILARITY=settings.SHOP_SIMILARITY | values):
            return [(message.id, message.msg) for message in check_settings()]

    assert found() == []
    [(number, text)] = found(EVENT_RATE="many")
    assert number == "shop_similarity.E001" and "'EVENT_RATE'] is 'many'" in text
    [(number, text)] = found(EVENT_VISITOR="nowhere.to_be_found")
    assert number == "shop_similarity.E003" and "EVENT_VISITOR" in text
