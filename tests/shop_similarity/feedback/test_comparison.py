from datetime import timedelta

import pytest
from django.utils import timezone
from django.utils.translation import override

from shop_similarity.feedback.comparison import Arm, Comparison, Verdict, compare
from shop_similarity.feedback.daily_sums import today
from shop_similarity.feedback.experiments import stop, treatment_buckets
from shop_similarity.feedback.inference import division_probability, newcombe
from shop_similarity.feedback.roll_up import roll_up
from shop_similarity.models import Event, Experiment, Surface
from tests.shop_similarity.factories import make_version
from tests.shop_similarity.feedback.lists import show


def comparison(control, treatment, *, clustered=True, mismatch=0.5, days=10, **values):
    experiment = Experiment(name="e", started_at=timezone.now() - timedelta(days=days), **values)
    arms = [
        Arm(number, name, *counts, 0)
        for number, (name, counts) in enumerate(zip("ct", (control, treatment), strict=True))
    ]
    interval = newcombe(treatment[1], treatment[0], control[1], control[0])
    return Comparison(experiment, *arms, interval, clustered, mismatch, days)


def test_nothing_is_called_better_unless_the_interval_excludes_0():
    assert comparison((1000, 100), (1000, 120)).verdict is Verdict.UNDECIDED
    assert comparison((10_000, 1000), (10_000, 1200)).verdict is Verdict.BETTER
    assert comparison((10_000, 1200), (10_000, 1000)).verdict is Verdict.WORSE
    assert comparison((0, 0), (0, 0)).verdict is Verdict.UNDECIDED
    assert comparison((10_000, 1000), (10_000, 1200), mismatch=1e-5).verdict is Verdict.UNDECIDED
    assert comparison((10_000, 1000), (10_000, 1200), clustered=False).verdict is Verdict.UNDECIDED


def test_it_says_what_is_known_and_what_is_not():
    early = comparison((1000, 100), (1000, 120))
    said = " ".join(early.sentences())
    assert "Neither is better" in said and "-0.75 and 4.76 percentage points" in said
    assert "too early to decide" in said and f"{early.more_lists_needed():,} more lists are needed" in said
    assert early.more_lists_needed(0.02) == 7_677 - 2000
    late = comparison((100_000, 10_000), (100_000, 12_000))
    assert late.sentences() == ["t is clicked more often than c, by 1.73 to 2.27 percentage points (95 % interval)."]
    assert any("too early" in each for each in comparison((100_000, 10_000), (100_000, 12_000), days=2).sentences())
    assert "less often" in comparison((100_000, 12_000), (100_000, 10_000)).sentences()[0]
    assert "not divided as they should be" in comparison((10, 1), (10, 1), mismatch=1e-9).sentences()[0]
    nobody = comparison((10, 0), (10, 1))
    assert nobody.more_lists_needed() is None and "Nobody has clicked" in " ".join(nobody.sentences())


def test_what_has_ended_is_not_told_to_go_on():
    ended = {"ended_at": timezone.now()}
    assert len(comparison((100_000, 10_000), (100_000, 12_000), **ended).sentences()) == 1
    early = " ".join(comparison((1000, 100), (1000, 120), days=2, **ended).sentences())
    assert "It ended after less than 7 days" in early and "27,497 more lists would have been needed" in early
    assert "too early to decide" not in early


def test_numbers_are_written_as_the_reader_writes_them():
    with override("de"):
        said = " ".join(comparison((1000, 100), (1000, 120)).sentences())
    assert "-0,75" in said and "27.497" in said


@pytest.mark.django_db
def test_an_experiment_from_its_events(django_assert_num_queries):
    control, treatment = make_version("control"), make_version("treatment", "candidate")
    experiment = Experiment.objects.create(
        name="e", control=control, treatment=treatment, started_at=timezone.now() - timedelta(days=5)
    )
    with pytest.raises(ValueError, match="has not been started"):
        compare(Experiment(name="never"))
    treated = treatment_buckets(experiment.salt, experiment.share)
    for bucket in range(0, 1000, 10):
        experiment.bucket = bucket
        version = treatment if bucket in treated else control
        clicked = [2] if version == treatment or bucket % 20 else []
        show(version, [1, 2], product=9, clicks=clicked, experiment=experiment, day=today() - timedelta(days=3))
        show(version, [1, 2], product=9, experiment=experiment)
        show(version, [1], surface=Surface.API, clicks=[1], experiment=experiment)
    # What is shown outside the experiment does not count.
    show(control, [1, 2], product=9, clicks=[1])
    found = compare(experiment, Surface.WIDGET)
    lists = sum(2 for bucket in range(0, 1000, 10) if bucket in treated)
    assert (found.treatment.lists, found.treatment.clicked) == (lists, lists // 2)
    assert found.control.lists == 200 - lists and found.control.clicked == sum(
        1 for bucket in range(0, 1000, 10) if bucket not in treated and bucket % 20
    )
    assert found.clustered and found.treatment.version == "treatment" and 4.9 < found.days < 5.1
    # 100 buckets of two lists each: about half of them should be treated.
    assert found.mismatch == division_probability(dict.fromkeys(range(0, 1000, 10), 2), treated)
    everywhere = compare(experiment)
    assert everywhere.control.lists + everywhere.treatment.lists == 300
    roll_up()
    again = compare(experiment, Surface.WIDGET)
    assert (again.control, again.treatment, again.interval) == (found.control, found.treatment, found.interval)
    experiment = Experiment.objects.select_related("control", "treatment").get()
    with django_assert_num_queries(4):
        compare(experiment)
    # When the raw events are gone, the sums remain and the interval is known to be too narrow.
    Event.objects.filter(shown_at__lt=timezone.now() - timedelta(days=1)).delete()
    stop(experiment)
    Event.objects.all().delete()
    late = compare(experiment, Surface.WIDGET)
    assert late.control.lists + late.treatment.lists == 100 and not late.clustered
    assert late.verdict is Verdict.UNDECIDED and "too narrow" in " ".join(late.sentences())
