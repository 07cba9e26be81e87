"""Logs as JSON: an object a line, with the fields of a record and without its objects."""

from __future__ import annotations

import json
import logging
import logging.config

import pytest
from django.test import RequestFactory

from shop_similarity.monitoring.logs import JsonFormatter


def line(**values) -> dict:
    record = logging.LogRecord("shop_similarity.x", logging.WARNING, "x.py", 1, "Photo %s\nfailed", ("a.jpg",), None)
    vars(record).update(values)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return json.loads(text)


def test_a_record_is_one_line_with_its_fields():
    found = line(product="7", photo="12", version="mildnet-1", count=3, is_new=True, nothing=None)
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "WARNING",
        "logger": "shop_similarity.x",
        "message": "Photo a.jpg\nfailed",
        "product": "7",
        "photo": "12",
        "version": "mildnet-1",
        "count": 3,
        "is_new": True,
        "nothing": None,
    }


def test_objects_are_left_out_for_a_request_names_its_visitor():
    request = RequestFactory().get("/search/?q=me", headers={"Authorization": "Bearer x"}, REMOTE_ADDR="192.0.2.7")
    found = line(request=request, status_code=500, level="mine")
    assert found["status_code"] == 500
    assert found["level"] == "WARNING", "a field may not take the place of what every record has"
    assert "192.0.2.7" not in json.dumps(found) and "q=me" not in json.dumps(found)


def test_an_exception_is_told_in_the_line():
    try:
        raise ValueError("no")
    except ValueError as error:
        found = line(exc_info=(type(error), error, error.__traceback__))
    assert found["exception"].endswith("ValueError: no")


def test_it_can_be_named_in_the_settings():
    # Configuring all of logging would close the handlers of whatever else runs in this process.
    configurator = logging.config.DictConfigurator({"version": 1})
    formatter = configurator.configure_formatter({"()": "shop_similarity.monitoring.logs.JsonFormatter"})
    record = logging.makeLogRecord({"msg": "Done", "version": "mildnet-1"})
    assert json.loads(formatter.format(record))["version"] == "mildnet-1"


@pytest.mark.django_db
def test_a_photo_that_fails_is_logged_with_product_photo_and_version(caplog):
    from shop_similarity.embedding.outbox import Claim
    from shop_similarity.workers import line as lines
    from tests.shop_similarity.factories import make_version

    version = make_version()
    assembly = object.__new__(lines.Line)
    assembly.version = version
    photo = lines._Photo(Claim(12, (1,), 1), lines.ImageRow(12, 7, "a.jpg"))
    assert assembly._fields(photo) == {"version": version.name, "photo": "12", "product": "7"}
    assert assembly._fields(lines._Photo(Claim(12, (1,), 1))) == {"version": version.name, "photo": "12"}


def test_a_name_that_is_no_text_can_be_written_all_the_same():
    record = logging.LogRecord("x", logging.WARNING, "x.py", 1, "Photo %s", ("caf\udce9.jpg",), None)
    text = JsonFormatter().format(record)
    assert json.loads(text.encode())["message"] == "Photo caf\udce9.jpg"
