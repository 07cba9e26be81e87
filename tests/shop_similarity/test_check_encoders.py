"""Which versions in use have an encoder that workers can't load, as far as it can be told without loading anything."""

import sys

import pytest

from shop_similarity import checks, database
from shop_similarity.models import ModelVersion
from tests.shop_similarity.factories import make_version

pytestmark = pytest.mark.django_db


def warnings():
    return [each for each in checks.check_database([database.write_alias()]) if each.id == "shop_similarity.W022"]


def encoder(builder, name):
    return {"encoder": {"builder": builder, "name": name}}


def test_a_path_that_the_settings_do_not_name_is_told_and_never_imported(settings):
    make_version("looks", config=encoder("python", "this.small"))
    make_version("old", ModelVersion.State.RETIRED, config=encoder("python", "antigravity.small"))
    (found,) = warnings()
    assert "looks has the encoder 'this.small'" in found.msg
    assert "its photos wait" in found.msg
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "ENCODERS": ("this.small",)}
    assert warnings() == []
    assert checks.check_settings() == []
    assert "this" not in sys.modules


@pytest.mark.parametrize(("installed", "count"), [({"tensorflow"}, 1), ({"tensorflow", "keras_hub"}, 0), (set(), 0)])
def test_keras_hub_is_missed_where_workers_run_only(monkeypatch, installed, count):
    make_version("looks", config=encoder("keras-hub", "DINOV2Backbone"))
    make_version("plain", ModelVersion.State.CANDIDATE, config={"width": 1.0})
    monkeypatch.setattr(checks, "find_spec", lambda name: name if name in installed else None)
    found = warnings()
    assert len(found) == count
    assert all("[worker,encoders]" in each.hint for each in found)
