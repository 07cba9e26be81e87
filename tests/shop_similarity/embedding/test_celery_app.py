"""The settings of the plugin's own Celery app, which are the shop's only as far as they are about the broker."""

from __future__ import annotations

import pytest
from celery import Celery
from kombu import Exchange, Queue

from shop_similarity.conf import SettingsError, get_settings
from shop_similarity.embedding.celery_app import make_app


def _queue_of_the_shops_worker(name: str) -> Queue:
    """As ``celery -A shop worker -Q name`` declares it."""
    app = Celery("shop", set_as_current=False)
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.amqp.queues.select([name])
    return app.amqp.queues.consume_from[name]


@pytest.mark.parametrize(
    "of_the_shop",
    [
        {},
        {"TASK_CREATE_MISSING_QUEUE_TYPE": "quorum", "TASK_QUEUE_MAX_PRIORITY": 5},
        {"TASK_DEFAULT_EXCHANGE": "orders", "TASK_DEFAULT_EXCHANGE_TYPE": "topic", "TASK_DEFAULT_QUEUE": "orders"},
        {
            "TASK_QUEUES": [
                Queue("orders"),
                Queue("photos", Exchange("pictures", "topic"), "new.#", queue_arguments={"x-queue-type": "quorum"}),
            ]
        },
    ],
)
def test_the_queue_is_declared_as_the_shops_worker_declares_it(settings, of_the_shop):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "QUEUE": "photos"}
    for name, value in of_the_shop.items():
        setattr(settings, f"CELERY_{name}", value)
    (queue,) = make_app(set_as_current=False).amqp.queues.consume_from.values()
    theirs = _queue_of_the_shops_worker("photos")
    assert (queue.name, queue.exchange, queue.routing_key, queue.queue_arguments) == (
        "photos",
        theirs.exchange,
        theirs.routing_key,
        theirs.queue_arguments,
    )


def test_what_is_about_broker_messages_and_logs_stays_the_shops(settings):
    kept = {
        "broker_url": "redis://elsewhere:1/2",
        "broker_transport_options": {"global_keyprefix": "shop:"},
        "accept_content": ["yaml"],
        "task_serializer": "yaml",
        "result_backend": "cache+memory://",
        "worker_log_format": "%(message)s",
    }
    for name, value in kept.items():
        setattr(settings, f"CELERY_{name.upper()}", value)
    conf = make_app(set_as_current=False).conf
    assert {name: conf[name] for name in kept} == kept


def test_what_is_about_the_shops_own_tasks_is_not_heard(settings):
    shop = {
        "task_routes": {"*": {"queue": "orders"}},
        "task_queues": [Queue("orders")],
        "task_default_queue": "orders",
        "task_time_limit": 1,
        "task_always_eager": True,
        "imports": ("shop.tasks",),
        "worker_pool": "solo",
    }
    for name, value in shop.items():
        setattr(settings, f"CELERY_{name.upper()}", value)
    conf = make_app(own={"worker_pool": "threads"}, set_as_current=False).conf
    heard = {name: conf[name] for name in shop if conf[name] == shop[name]}
    assert heard == {}
    assert (conf.worker_pool, conf.task_default_queue) == ("threads", get_settings().queue)


def test_a_mistake_in_the_plugins_settings_is_not_passed_over(settings):
    settings.SHOP_SIMILARITY = {"QUEUE": 7}
    with pytest.raises(SettingsError):
        _ = make_app(set_as_current=False).conf.task_queues
