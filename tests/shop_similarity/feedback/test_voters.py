"""One client has one vote, whatever it does: clicks count towards training by clients and days, not by clicks."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from shop_similarity.feedback import tokens
from shop_similarity.feedback.comparison import Verdict, compare
from shop_similarity.feedback.daily_sums import today
from shop_similarity.feedback.events import record_events
from shop_similarity.feedback.experiments import is_treatment
from shop_similarity.feedback.preferences import preferences
from shop_similarity.feedback.roll_up import roll_up
from shop_similarity.feedback.voters import VOTES_A_DAY, group_of, voter_of
from shop_similarity.models import Event, EventDay, Experiment, ExperimentGroup, Preference, Surface
from shop_similarity.training.triplets.clicks import MIN_CLICKS, MIN_DAYS, MIN_SHARE, certain_preferences
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.feedback.lists import show

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def version(settings):
    cache.clear()
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "EVENT_RATE": None}
    yield make_version()
    cache.clear()


def report(version, address, *, product=9, shown=(1, 2, 3), clicks=(3,), client=None, headers=None, experiment=None):
    """A list through token and beacon, as any client may send it."""
    token = tokens.issue(
        version=version, surface=Surface.WIDGET, product_id=product, shown=shown, experiment=experiment
    )
    events = [{"kind": "impression"}, *({"kind": "click", "product": key} for key in clicks)]
    answer = (client or Client()).post(
        reverse("shop_similarity:events"),
        json.dumps({"token": token, "events": events}),
        "text/plain",
        REMOTE_ADDR=address,
        headers=headers or {},
    )
    assert answer.status_code == 204


def yesterdays(days=1):
    """What was recorded so far has been recorded so many days earlier, and the cache has forgotten who has voted."""
    Event.objects.update(shown_at=timezone.now() - timedelta(days=days))
    cache.clear()


def certain():
    votes = {vote[:3]: vote for vote in preferences()}
    counts = {triple: vote.visitors for triple, vote in votes.items()}
    return [triple for triple in certain_preferences(counts, MIN_CLICKS, MIN_SHARE) if votes[triple].days >= MIN_DAYS]


# One client; one that comes with a new session and no cookie each time; one that owns a /64.
FORGED = {
    "one client": lambda number: "192.0.2.7",
    "one /64": lambda number: f"2001:db8:1:2::{number + 1:x}",
    "one /56": lambda number: f"2001:db8:1:2{number % 256:02x}::{number + 1:x}",
    "one address written in two ways": lambda number: ("192.0.2.7", "::ffff:192.0.2.7")[number % 2],
}


@pytest.mark.parametrize(
    ("who", "clicks", "keeps_cookies"),
    [("one client", 700, False), ("one client", 40, True)] + [(who, 40, False) for who in list(FORGED)[1:]],
)
def test_700_clicks_of_one_client_are_one_vote_however_long_it_goes_on(version, who, clicks, keeps_cookies):
    client, address = Client() if keeps_cookies else None, FORGED[who]
    for day in (4, 3, 2, 1):
        for number in range(clicks // 4):
            report(version, address(number), client=client)
        yesterdays(day + 2)
        roll_up()
        # Each day's events, closed, make room for the next.
        Event.objects.all().delete()
        EventDay.objects.all().delete()
    votes = list(preferences())
    assert {(vote[:3], vote.visitors, vote.days) for vote in votes} == {((9, 3, 1), 1, 4), ((9, 3, 2), 1, 4)}
    assert certain() == []


def test_one_client_votes_so_often_a_day_on_all_products_together(version):
    for product in range(1000, 1000 + VOTES_A_DAY + 20):
        report(version, "192.0.2.7", product=product)
    assert len({vote.product for vote in preferences()}) == VOTES_A_DAY
    report(version, "192.0.2.8", product=5000)
    assert 5000 in {vote.product for vote in preferences()}


def test_clicks_of_several_clients_on_several_days_become_preferences(version):
    for day in range(MIN_DAYS):
        show(version, [1, 2, 3], product=9, clicks=[3], day=today() - timedelta(days=2 * day), visitor=day)
    assert certain() == [(9, 3, 1), (9, 3, 2)]
    roll_up()
    assert certain() == [(9, 3, 1), (9, 3, 2)]


@pytest.mark.parametrize(("visitors", "days"), [(3, 2), (2, 3)])
def test_fewer_clients_or_days_do_not_suffice(version, visitors, days):
    for day in range(days):
        for visitor in range(visitors):
            show(version, [1, 2, 3], product=9, clicks=[3], day=today() - timedelta(days=2 * day), visitor=visitor)
    assert certain() == []
    assert {(vote.visitors, vote.days) for vote in preferences()} == {(visitors, days)}


def test_a_loud_client_does_not_outvote_others(version):
    """Three prefer 3 to 1; one other, on thirty days, what stands above in another order."""
    for visitor in range(3):
        show(version, [1, 3], product=9, clicks=[3], day=today() - timedelta(days=2 * visitor), visitor=visitor)
    for day in range(30):
        show(version, [3, 1], product=9, clicks=[1], day=today() - timedelta(days=day), visitor=200)
    assert certain() == [(9, 3, 1)]
    roll_up()
    assert certain() == [(9, 3, 1)]


def test_many_clients_are_estimated_well_enough_to_compare(version):
    """Of 300 clients three in four agree; 256 numbers tell them apart."""
    day = today() - timedelta(days=3)
    Preference.objects.all().delete()
    for number in range(300):
        show(
            version,
            [1, 3] if number % 4 else [3, 1],
            product=9,
            clicks=[3] if number % 4 else [1],
            day=day,
            address=f"10.0.{number // 200}.{number % 200 + 1}",
        )
    votes = {vote.chosen: vote.visitors for vote in preferences()}
    assert votes[3] == pytest.approx(225, rel=0.15) and votes[1] == pytest.approx(75, rel=0.15)
    before = votes
    roll_up()
    assert {vote.chosen: vote.visitors for vote in preferences()} == before


def test_clicks_that_another_sites_pages_send_with_their_visitors_addresses_do_not_count(version):
    report(version, "192.0.2.7", headers={"Sec-Fetch-Site": "cross-site"})
    assert list(preferences()) == [] and Event.objects.filter(kind="click").count() == 1
    report(version, "192.0.2.7", headers={"Sec-Fetch-Site": "same-site"})
    assert len(list(preferences())) == 2


@pytest.mark.parametrize("address", ["", "unknown", "not an address"])
def test_a_client_without_an_address_has_no_vote(version, address):
    report(version, address)
    assert list(preferences()) == [] and Event.objects.filter(kind="click").count() == 1


def test_voters_are_numbers_that_say_nothing_across_products_and_go_with_the_day(version):
    report(version, "192.0.2.7", product=9)
    report(version, "192.0.2.7", product=9)
    [number] = set(Event.objects.filter(kind="click").values_list("voter", flat=True))
    assert 0 <= number < 256
    assert set(Event.objects.filter(kind="impression").values_list("voter", flat=True)) == {None}
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    numbers = {
        voter_of(request, tokens.read(tokens.issue(version=version, surface="widget", product_id=product, shown=[1])))
        for product in range(60)
    }
    assert len(numbers) > 30
    yesterdays(3)
    roll_up()
    assert set(Event.objects.values_list("voter", flat=True)) == {None}
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(row_to_json(p)::text, ' ') FROM shop_similarity_preference p")
        assert "192.0.2" not in cursor.fetchone()[0]


def test_nothing_in_the_cache_names_the_client(version):
    report(version, "192.0.2.7")
    assert cache._cache and not [key for key in cache._cache if "192.0.2" in key]


def test_rows_that_a_process_of_the_version_before_writes_are_recorded_and_do_not_count(version):
    """It names neither voter nor voters nor days."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO shop_similarity_event (query_id, kind, surface, version_id, product_id, shown, "
            "target_product_id, position, visitor, shown_at, created_at) "
            "SELECT '00000000-0000-0000-0000-000000000001', kind, 'widget', %s, 9, shown, target, place, '', now(), "
            "now() FROM (VALUES ('impression', '{1,3}'::text[], NULL, NULL), ('click', '{}', 3, 2)) "
            "AS made (kind, shown, target, place)",
            [version.pk],
        )
        cursor.execute(
            "INSERT INTO shop_similarity_preference (product_id, chosen_id, skipped_id, count, last_day) "
            "VALUES (9, 3, 1, 700, current_date)"
        )
        cursor.execute(
            "INSERT INTO shop_similarity_visualquery (id, version_id, created_at, error) "
            "VALUES ('00000000-0000-0000-0000-000000000001', %s, now(), '')",
            [version.pk],
        )
    assert Event.objects.count() == 2 and list(preferences()) == []


class TestExperiments:
    @pytest.fixture
    def experiment(self, version):
        return Experiment.objects.create(
            name="e",
            salt="one",
            control=version,
            treatment=make_version("treatment", "candidate"),
            started_at=timezone.now() - timedelta(days=10),
        )

    @staticmethod
    def visit(experiment, bucket, address, clicks=()):
        experiment.bucket = bucket
        arm = experiment.treatment if is_treatment(experiment, bucket) else experiment.control
        show(arm, [1, 2], product=9, clicks=clicks, experiment=experiment, address=address)

    def honest(self, experiment, rate):
        """400 visitors, each with an address and a bucket; in both arms ``rate(is_treatment)`` of ten click."""
        shown = {True: 0, False: 0}
        for number in range(400):
            treated = is_treatment(experiment, number)
            clicks = [2] if shown[treated] % 10 < rate(treated) else []
            shown[treated] += 1
            self.visit(experiment, number, f"10.1.{number // 200}.{number % 200 + 1}", clicks)

    def test_a_difference_that_many_clients_make_is_seen(self, experiment):
        self.honest(experiment, lambda treated: 5 if treated else 2)
        found = compare(experiment)
        assert found.clustered and found.verdict is Verdict.BETTER and not found.is_loud
        assert sum(ExperimentGroup.objects.values_list("lists", flat=True)) == 400
        clicked = sum(ExperimentGroup.objects.values_list("clicked", flat=True))
        assert clicked == found.control.clicked + found.treatment.clicked

    @pytest.mark.parametrize("addresses", [1, 5])
    def test_a_few_clients_that_make_their_own_cookies_decide_nothing(self, experiment, addresses):
        """They fetch lists with all buckets, so that the division looks sound, and click on the treatment's alone."""
        self.honest(experiment, lambda treated: 2)
        for number in range(350):
            clicks = [2] if is_treatment(experiment, number) else []
            self.visit(experiment, number, f"192.0.2.{number % addresses + 1}", clicks)
        found = compare(experiment)
        assert found.treatment.rate > found.control.rate + 0.2 and not found.has_mismatch
        assert found.verdict is Verdict.UNDECIDED
        if found.is_loud:
            assert "A few clients make the difference" in " ".join(found.sentences())

    def test_a_list_counts_once_in_its_group(self, experiment):
        experiment.bucket = 3
        query = show(experiment.control, [1, 2], product=9, experiment=experiment, address="192.0.2.7")
        request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
        for _ in range(2):
            record_events(query, [("click", 2)], request)
            record_events(query, [("click", 1), ("basket", 1)], request)
        [group] = ExperimentGroup.objects.all()
        assert (group.lists, group.clicked, group.number) == (1, 1, group_of(request, experiment.pk))
