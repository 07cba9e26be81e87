import uuid

import pytest
from django.core import signing
from django.test import override_settings

from shop_similarity.feedback import tokens
from shop_similarity.models import Experiment, Surface
from tests.shop_similarity.factories import make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def version():
    return make_version()


def test_a_token_brings_back_what_was_shown_and_the_database_is_not_asked(version, django_assert_num_queries):
    with django_assert_num_queries(0):
        token = tokens.issue(version=version, surface=Surface.WIDGET, product_id=7, shown=[3, 1, 2])
        query = tokens.read(token)
    assert (query.version_id, query.surface, query.product_id, query.shown) == (
        version.pk,
        "widget",
        "7",
        ("3", "1", "2"),
    )
    assert isinstance(query.id, uuid.UUID) and query.experiment_id is None and query.bucket is None
    other = tokens.read(tokens.issue(version=version, surface=Surface.WIDGET, product_id=7, shown=[3, 1, 2]))
    assert other.id != query.id


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: "A" + t[1:], lambda t: "", lambda t: t * 50])
def test_a_changed_token_is_refused(version, change):
    token = tokens.issue(version=version, surface=Surface.WIDGET, shown=[1])
    with pytest.raises(tokens.BadToken):
        tokens.read(change(token))


def test_a_signature_made_for_something_else_is_no_token(version):
    with pytest.raises(tokens.BadToken, match="not issued by this shop"):
        tokens.read(signing.dumps([1, 2, 3], salt="another"))


def test_a_token_lasts_a_day(version, time_machine_seconds):
    token = tokens.issue(version=version, surface=Surface.WIDGET, shown=[1])
    time_machine_seconds(tokens.MAX_AGE_SECONDS - 5)
    assert tokens.read(token).shown == ("1",)
    time_machine_seconds(tokens.MAX_AGE_SECONDS + 5)
    with pytest.raises(tokens.BadToken, match="older than a day"):
        tokens.read(token)


@pytest.fixture
def time_machine_seconds(monkeypatch):
    import time

    now = time.time()
    return lambda seconds: monkeypatch.setattr("django.core.signing.time.time", lambda: now + seconds)


def test_a_token_is_bounded(version):
    longest = tokens.issue(version=version, surface=Surface.WIDGET, shown=[uuid.uuid4() for _ in range(150)])
    assert len(longest) <= tokens.MAX_LENGTH
    assert len(tokens.read(longest).shown) == tokens.MAX_SHOWN
    # Keys that can't be compressed and are long: fewer of them are counted.
    wild = ["".join(uuid.uuid4().hex for _ in range(6)) for _ in range(100)]
    token = tokens.issue(version=version, surface=Surface.WIDGET, shown=wild)
    assert 0 < len(tokens.read(token).shown) < 100 and len(token) <= tokens.MAX_LENGTH


def test_no_token_where_nothing_is_to_be_recorded(version, settings):
    assert tokens.issue(version=version, surface=Surface.WIDGET, shown=[]) == ""
    with override_settings(SHOP_SIMILARITY=settings.SHOP_SIMILARITY | {"RECORD_EVENTS": False}):
        assert tokens.issue(version=version, surface=Surface.WIDGET, shown=[1]) == ""


def test_an_unknown_surface_is_a_mistake_of_the_caller(version):
    with pytest.raises(ValueError, match="nowhere"):
        tokens.issue(version=version, surface="nowhere", shown=[1])


def test_only_a_version_of_the_experiment_counts_for_it(version):
    other, third = make_version("other", "candidate"), make_version("third", "candidate")
    experiment = Experiment.objects.create(name="e", control=version, treatment=other)
    experiment.bucket = 17
    taken = tokens.read(tokens.issue(version=other, surface=Surface.WIDGET, shown=[1], experiment=experiment))
    assert (taken.experiment_id, taken.bucket) == (experiment.pk, 17)
    left = tokens.read(tokens.issue(version=third, surface=Surface.WIDGET, shown=[1], experiment=experiment))
    assert (left.experiment_id, left.bucket) == (None, None)
