"""Pages and mails about an error name no secret."""

from __future__ import annotations

import sys

from django.test import RequestFactory
from django.views.debug import ExceptionReporter

SECRET = "hush-hush"


def test_addresses_of_servers_are_hidden(settings):
    settings.DEBUG = True
    settings.CELERY_BROKER_URL = f"redis://:{SECRET}@127.0.0.1/0"
    settings.CELERY_RESULT_BACKEND = f"redis://:{SECRET}@127.0.0.1/1"
    settings.DATABASES = {"default": settings.DATABASES["default"] | {"PASSWORD": SECRET}}
    # The development server's requests carry the whole environment.
    request = RequestFactory().get(
        "/", DATABASE_URL=f"postgresql://u:{SECRET}@h/d", REDIS_URL=f"redis://:{SECRET}@h", CELERY_BROKER_URL=SECRET
    )
    try:
        raise ValueError("what went wrong")
    except ValueError:
        reporter = ExceptionReporter(request, *sys.exc_info())
    for report in (reporter.get_traceback_html(), reporter.get_traceback_text()):
        assert "what went wrong" in report
        assert "CELERY_BROKER_URL" in report and "DATABASE_URL" in report
        # The test's own lines are in the traceback, with the word in quotes.
        assert f":{SECRET}@" not in report
