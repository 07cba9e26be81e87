"""The dashboard, its retry and the measurement of the coded search."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.models import DailyStatistic, Embedding, EventDay, Experiment, ModelVersion, OutboxEntry, SweepRun
from shop_similarity.rollout.recall import CodeRecall, measure_code_recall, remember, remembered
from tests.shop_similarity.factories import make_version, store_vectors
from tests.shop_similarity.shops import make_shop, mixed

pytestmark = pytest.mark.django_db

VIEW = "shop_similarity.view_dashboard"
RETRY = "shop_similarity.retry_outboxentry"
URL = "admin:shop_similarity_dashboard"


def text_of(client) -> str:
    html = client.get(reverse(URL)).content.decode()
    main = html.split('id="content-main"')[1].split("</main>")[0]
    assert " style=" not in main and "<script" not in main, "the shop's Content-Security-Policy forbids both"
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def fail(version: ModelVersion, product, sentence: str = "The file is cut off.") -> OutboxEntry:
    photo = product.photos.get()
    outbox.enqueue(version.pk, [ImageRow(photo.pk, product.pk, "x.jpg")])
    entry = OutboxEntry.objects.get(version=version, image_id=photo.pk)
    outbox.fail(outbox.Claim(photo.pk, (entry.pk,), 1), sentence, keep_embedding=True)
    return entry


def test_an_empty_shop_says_what_to_do(staff):
    text = text_of(staff(VIEW))
    assert "No version is active yet. Make one with calibrate_mildnet." in text
    assert "No worker has run in the last two weeks." in text
    assert "Nothing was recorded yet." in text


def test_the_state_of_the_shop(staff, shop):
    version = ModelVersion.objects.active()
    shop["Far"].photos.create(file="none/new.jpg", position=1)
    figures = {
        "mean_average_precision": 0.61,
        "recall_at_1": 0.7,
        "intervals": {"mean_average_precision": [0.58, 0.64]},
    }
    looks = {"ndcg_at_10": 0.59, "mean_average_precision": 0.45}
    make_version("second", "candidate", metrics={"evaluation": {"look_alike": looks, "retrieval": figures}})
    SweepRun.objects.create(finished_at=timezone.now(), enqueued=3, removed=2, with_files=True)
    text = text_of(staff(VIEW))
    assert "83.3 %" in text and f"5 of 6 photos embedded for {version.name}" in text
    assert "5 of 5 products" in text
    assert "It queued 3 photos and removed 2 embeddings. The files were asked too." in text
    assert "Mean average precision How far at the front the right products stand; 1 is the best. not measured" in text
    assert "not measured 0.610 0.580 to 0.640" in text
    # What pages show comes before what a search by photo finds.
    looks = text.index("nDCG of ten look-alikes How well the first ten other products match in kind and colour")
    assert looks < text.index("Mean average precision of look-alikes") < text.index("Mean average precision How far")
    assert "1 is the best. not measured 0.590" in text
    assert "1 is always. not measured 0.700" in text
    assert "Index none not needed for so few photos none" in text
    assert "just now" in text
    assert "No photo has failed." in text


def test_a_queue_without_workers_is_told(staff, shop):
    version = ModelVersion.objects.active()
    assert "see whether one runs" not in text_of(staff(VIEW))
    long_ago = timezone.now() - timedelta(hours=2)
    Embedding.objects.update(embedded_at=long_ago)
    outbox.enqueue(version.pk, [ImageRow(99, 98, "a.jpg")])
    OutboxEntry.objects.update(created_at=long_ago)
    text = text_of(staff(VIEW))
    assert "The oldest has waited for 2 hours" in text.replace("\xa0", " ")
    assert "see whether one runs" in text


def test_failures_are_shown_with_their_reasons_and_tried_again(staff, shop):
    version = ModelVersion.objects.active()
    first = fail(version, shop["Near"])
    fail(version, shop["Far"], "The file is not in the storage.")
    looking, mending = staff(VIEW), staff(VIEW, RETRY)
    text = text_of(looking)
    assert "Near The file is cut off. drawn" in text and "The file is not in the storage." in text
    assert "Try again" not in text
    assert "Try again" in text_of(mending)
    retry = reverse("admin:shop_similarity_retry")
    response = mending.post(retry, {"entry": first.pk}, follow=True)
    assert "1 photo is queued again." in response.content.decode()
    assert OutboxEntry.objects.filter(failed_at__isnull=False).count() == 1
    mending.post(retry)
    assert not OutboxEntry.objects.filter(failed_at__isnull=False).exists()
    assert [entry.get_edited_object() for entry in LogEntry.objects.all()] == [version, version]
    assert "Nothing was queued" in mending.post(retry, follow=True).content.decode()
    assert mending.post(retry, {"entry": "x"}).status_code == 404


def test_what_is_tried_again_waits_from_then_on(staff, shop):
    long_ago = timezone.now() - timedelta(days=3)
    Embedding.objects.update(embedded_at=long_ago)
    fail(ModelVersion.objects.active(), shop["Near"])
    OutboxEntry.objects.update(created_at=long_ago)
    client = staff(VIEW, RETRY)
    client.post(reverse("admin:shop_similarity_retry"))
    text = text_of(client)
    assert "Queue 1 The oldest has waited for 0 minutes." in text
    assert "see whether one runs" not in text


def test_actions_are_shown_to_those_who_have_any(staff, shop):
    make_version("second", "candidate")
    assert "Actions" not in text_of(staff(VIEW))
    assert "Actions Activate… second" in text_of(staff(VIEW, "shop_similarity.activate_modelversion"))


def test_a_photo_that_failed_for_several_versions_is_one_photo(staff, shop):
    active, other = ModelVersion.objects.active(), make_version("second", "candidate")
    entry = fail(active, shop["Near"])
    fail(other, shop["Near"])
    fail(active, shop["Far"])
    client = staff(VIEW, RETRY)
    text = text_of(client)
    assert "Failures 2 See which and why" in text and "Try all 2 photos again" in text
    assert text.count("The file is cut off.") == 2 and "second, drawn" in text
    response = client.post(reverse("admin:shop_similarity_retry"), {"entry": entry.pk}, follow=True)
    assert "1 photo is queued again." in response.content.decode()
    assert OutboxEntry.objects.get(failed_at__isnull=False).product_id == shop["Far"].pk


def test_reasons_that_differ_between_versions_are_told_apart(staff, shop):
    active, other = ModelVersion.objects.active(), make_version("second", "candidate")
    fail(active, shop["Near"])
    fail(other, shop["Near"], "The file is empty.")
    assert "The file is empty. (second) The file is cut off. (drawn)" in text_of(staff(VIEW))


def test_the_queue_tells_what_waits_for_which_version(staff, shop):
    active, other = ModelVersion.objects.active(), make_version("second", "candidate")
    outbox.enqueue(active.pk, [ImageRow(99, 98, "a.jpg")])
    assert "for drawn." not in text_of(staff(VIEW))
    outbox.enqueue(other.pk, [ImageRow(99, 98, "a.jpg"), ImageRow(97, 98, "b.jpg")])
    text = text_of(staff(VIEW))
    assert "Queue 3 1 for drawn, 2 for second." in text


def test_links_lead_only_where_the_user_may_go(staff, shop):
    fail(ModelVersion.objects.active(), shop["Near"])
    page = reverse("admin:shop_similarity_product", args=[shop["Near"].pk])
    search = reverse("admin:shop_similarity_products")
    index = reverse("admin:app_list", args=["shop_similarity"])
    for client, sees in ((staff(VIEW), False), (staff(VIEW, "catalog.view_product"), True)):
        html = client.get(reverse(URL)).content.decode()
        assert "Near" in html
        assert (f'href="{page}"' in html) is sees
        assert (f'href="{search}"' in html) is sees
        assert (f'href="{search}"' in client.get(index).content.decode()) is sees


def test_one_version_alone_is_tried_again(staff, shop):
    active, other = ModelVersion.objects.active(), make_version("second", "candidate")
    fail(active, shop["Near"])
    fail(other, shop["Near"])
    staff(RETRY).post(reverse("admin:shop_similarity_retry"), {"version": other.pk})
    assert OutboxEntry.objects.get(failed_at__isnull=False).version == active


def test_permissions_method_and_csrf(staff, shop):
    entry = fail(ModelVersion.objects.active(), shop["Near"])
    retry = reverse("admin:shop_similarity_retry")
    recall = reverse("admin:shop_similarity_recall", args=[entry.version_id])
    assert staff(RETRY).get(reverse(URL)).status_code == 403
    assert staff(VIEW).post(retry, {"entry": entry.pk}).status_code == 403
    assert staff(RETRY, csrf=True).post(retry, {"entry": entry.pk}).status_code == 403
    assert staff(RETRY).get(retry).status_code == 405
    assert staff(RETRY).post(recall).status_code == 403
    assert staff(VIEW).get(recall).status_code == 405
    assert OutboxEntry.objects.filter(failed_at__isnull=False).exists()


def test_whoever_is_not_staff_is_asked_to_log_in(client, shop):
    for name in (URL, "admin:shop_similarity_compare", "admin:shop_similarity_products"):
        response = client.get(reverse(name))
        assert response.status_code == 302 and "/admin/login/" in response.url


def test_the_admins_index_leads_to_it(staff):
    html = staff(VIEW).get(reverse("admin:app_list", args=["shop_similarity"])).content.decode()
    assert reverse(URL) in html
    assert reverse("admin:shop_similarity_compare") not in html
    html = staff("shop_similarity.view_outboxentry").get(reverse("admin:app_list", args=["shop_similarity"]))
    assert reverse(URL) not in html.content.decode()


def test_clicks_by_version_surface_and_position(staff, shop):
    version = ModelVersion.objects.active()
    day = timezone.now().date() - timedelta(days=2)
    DailyStatistic.objects.create(day=day, version=version, surface="widget", impressions=1000, clicks=50, baskets=4)
    for position, clicks in ((1, 30), (2, 20)):
        DailyStatistic.objects.create(
            day=day, version=version, surface="widget", position=position, impressions=1000, clicks=clicks
        )
    EventDay.objects.create(day=day, rolled_up_at=timezone.now(), closed_at=timezone.now())
    text = text_of(staff(VIEW))
    assert "drawn similar products 1,000 50 5.00 % 3.8 to 6.5 % 4" in text
    assert "1 3.00 % 30 of 1,000" in text and "2 2.00 % 20 of 1,000" in text


def test_positions_are_those_of_the_place_with_most_lists(staff, shop):
    version = ModelVersion.objects.active()
    day = timezone.now().date() - timedelta(days=2)
    for surface, lists, places in (("widget", 100, 14), ("visual", 10, 2)):
        for position in range(places + 1):
            DailyStatistic.objects.create(
                day=day, version=version, surface=surface, position=position, impressions=lists, clicks=5
            )
    EventDay.objects.create(day=day, rolled_up_at=timezone.now(), closed_at=timezone.now())
    text = text_of(staff(VIEW))
    assert "By position: similar products" in text
    assert "1 5.00 % 5 of 100" in text and "5 of 110" not in text
    assert "Positions 13 to 14" in text


def test_a_running_experiment_is_shown(staff, shop):
    Experiment.objects.create(
        name="Spring",
        control=ModelVersion.objects.active(),
        treatment=make_version("second", "candidate"),
        started_at=timezone.now(),
    )
    text = text_of(staff(VIEW))
    assert "Spring : second for 50 % of the visitors, drawn for the others." in text
    assert "Nobody has clicked on the control version's lists yet." in text


def test_the_coded_search_is_measured_on_demand_and_remembered(staff, shop):
    version = ModelVersion.objects.active()
    client = staff(VIEW)
    assert "Measure drawn" in text_of(client)
    assert client.post(reverse("admin:shop_similarity_recall", args=[version.pk])).status_code == 302
    measured = remembered([version])[version.pk]
    assert (measured.recall, measured.products, measured.k, measured.path) == (1.0, 5, 10, "codes")
    assert "100.0 % of the first 10 5 products" in text_of(client)


def test_codes_that_lie_are_found_out(shop, settings):
    version = ModelVersion.objects.active()
    products = make_shop({f"More {number}": {"a": number / 40} for number in range(30)}, version)
    # Every code says the opposite of its vector, so the nearest by code are the farthest.
    with connection.cursor() as cursor:
        cursor.execute("UPDATE shop_similarity_embedding SET code = ~code WHERE product_id = ANY(%s)",
                       [[product.pk for product in products.values()]])  # fmt: skip
    settings.SHOP_SIMILARITY = settings.SHOP_SIMILARITY | {"CANDIDATES": 10}
    lying = measure_code_recall(version, products=10, k=5)
    assert lying.products == 10 and lying.recall < 1


def test_a_search_that_finds_too_little_is_warned_of(staff, shop):
    version = ModelVersion.objects.active()
    low = CodeRecall(0.64, 10, 50, "index", False, 3_656.0, 55.0, timezone.now(), 0.24)
    assert "LEAST_RECALL" not in text_of(staff(VIEW))
    remember(version, low)
    text = text_of(staff(VIEW))
    assert "found 24.0 % of what the exact one finds (LEAST_RECALL: 95.0 %)" in text
    assert "64.0 % of the first 10" in text
    remember(version, replace(low, recall=0.97, filtered_recall=0.96, measured_at=timezone.now()))
    assert "LEAST_RECALL" not in text_of(staff(VIEW))


def test_no_time_is_no_measurement(shop):
    measured = measure_code_recall(ModelVersion.objects.active(), seconds=0)
    assert (measured.recall, measured.products, measured.is_cut_short) == (None, 0, True)
    remember(ModelVersion.objects.active(), measured)
    assert remembered([ModelVersion.objects.active()]) == {ModelVersion.objects.active().pk: measured}


def test_queries_do_not_grow(staff, shop):
    active = ModelVersion.objects.active()
    fail(active, shop["Near"])
    client = staff(VIEW, RETRY, "shop_similarity.activate_modelversion", "shop_similarity.compare_modelversion")
    client.get(reverse(URL))
    with CaptureQueriesContext(connection) as few:
        client.get(reverse(URL))
    for number in range(4):
        version = make_version(f"more-{number}", "candidate")
        store_vectors(version, [shop["Far"].photos.get()], [mixed({"a": 1}, "more")])
        fail(version, shop["Far"])
        fail(version, shop["Middle"])
    with CaptureQueriesContext(connection) as many:
        client.get(reverse(URL))
    assert len(many) == len(few) <= 32, [query["sql"] for query in many.captured_queries]
