"""Settings and system checks: each mistake is its own message with a hint."""

from __future__ import annotations

import dataclasses
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from shop_similarity import database
from shop_similarity.catalogue import get_catalogue
from shop_similarity.checks import check_database, check_settings
from shop_similarity.conf import Settings, SettingsError, get_settings

GOOD = {"PRODUCT_MODEL": "catalog.Product", "IMAGES": "photos.file"}


@pytest.mark.parametrize(
    ("value", "code", "message", "hint"),
    [
        (None, "E001", "is missing", "PRODUCT_MODEL"),
        ([], "E001", "is a list", "dict"),
        ({"IMAGES": "image"}, "E001", "lacks 'PRODUCT_MODEL'", "your_app.Product"),
        ({"PRODUCT_MODEL": "catalog.Product"}, "E001", "lacks 'IMAGES'", "image"),
        ({**GOOD, "CATEGORIE": "x"}, "E001", "unknown key 'CATEGORIE'", "Did you mean 'CATEGORY'?"),
        ({**GOOD, "category": "x"}, "E001", "unknown key 'category'", "Did you mean 'CATEGORY'?"),
        ({**GOOD, "ZZZ": 1}, "E001", "unknown key 'ZZZ'", "Known keys:"),
        ({**GOOD, "BATCH_SIZE": "8"}, "E001", "'BATCH_SIZE'] is '8'", "type int"),
        ({**GOOD, "BATCH_SIZE": True}, "E001", "'BATCH_SIZE'] is True", "type int"),
        ({**GOOD, "BATCH_SIZE": 0}, "E001", "'BATCH_SIZE'] is 0", "1 to 1024"),
        ({**GOOD, "RUNTIME": "openvin"}, "E001", "'RUNTIME'] is 'openvin'", "'tensorflow', 'openvino', or the dotted"),
        ({**GOOD, "MONITORING_TOKEN": "short"}, "E001", "'MONITORING_TOKEN'] is wrong", "16 random characters"),
        ({**GOOD, "MONITORING_TOKEN": b"secret"}, "E001", "'MONITORING_TOKEN'] is wrong", "type str"),
        ({**GOOD, "CATEGORY_BOOST": -1}, "E001", "'CATEGORY_BOOST'] is -1", "0 to 2"),
        ({**GOOD, "PRODUCT_MODEL": "Product"}, "E002", "is 'Product'", "app_label.Model"),
        ({**GOOD, "PRODUCT_MODEL": "catalog.Prodct"}, "E002", "not an installed model", "INSTALLED_APPS"),
        ({**GOOD, "IMAGES": "fotos.file"}, "E002", "no relation 'fotos'", "photos"),
        ({**GOOD, "IMAGES": "photos.fil"}, "E002", "has no field 'fil'", "caption"),
        ({**GOOD, "IMAGES": "photos.caption"}, "E002", "is a CharField", "ImageField"),
        ({**GOOD, "IMAGES": "name"}, "E002", "is a CharField", "ImageField"),
        ({**GOOD, "PRODUCTS": "nowhere.at_all"}, "E003", "can't be imported", "dotted path"),
        ({**GOOD, "FALLBACK": "catalog.settings.DEBUG"}, "E003", "is no callable", "function"),
        ({**GOOD, "CATEGORY": "categorie"}, "E004", "no field 'categorie'", "category"),
        ({**GOOD, "CATEGORY": "category__nam"}, "E004", "no field 'nam'", "category"),
        ({**GOOD, "PRICE": "cost"}, "E004", "no field 'cost' on catalog.Product", "path"),
        ({**GOOD, "VARIANT_GROUP": "parent"}, "E004", "no field 'parent'", "path"),
        ({**GOOD, "WEIGHTS_STORAGE": "nope"}, "E005", "'nope'", "STORAGES['nope']"),
        ({**GOOD, "WEIGHTS_STORAGE": "default"}, "W001", "public", "storage of their own"),
        (
            {**GOOD, "ENCODERS": ("nowhere.small",)},
            "E006",
            "'nowhere.small', whose module isn't there",
            "where workers run",
        ),
        ({**GOOD, "ENCODERS": ("small",)}, "E006", "module isn't there", "dotted path"),
        ({**GOOD, "ENCODERS": "tests.settings.small"}, "E001", "ENCODERS", "tuple"),
    ],
)
def test_each_mistake_is_reported_with_a_hint(settings, value, code, message, hint):
    settings.SHOP_SIMILARITY = value
    (found,) = check_settings()
    assert found.id == f"shop_similarity.{code}"
    assert message in found.msg
    assert hint in found.hint


def test_a_secret_is_in_no_report_of_the_settings():
    assert "a-token" not in repr(Settings("catalog.Product", "photos.file", monitoring_token="a-token-of-characters"))


def test_a_shop_without_a_broker_is_warned(settings, monkeypatch):
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)
    settings.CELERY_BROKER_URL = None
    (found,) = check_settings()
    assert found.id == "shop_similarity.W003"
    assert "no worker starts" in found.msg
    assert "CELERY_BROKER_URL = 'redis://" in found.hint
    # Celery reads it from there too.
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere")
    assert check_settings() == []


@pytest.mark.parametrize(
    "sign", [{"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}, {"USE_X_FORWARDED_HOST": True}]
)
def test_a_shop_behind_a_proxy_that_it_does_not_speak_of_is_warned(settings, sign):
    assert check_settings() == []
    for name, value in sign.items():
        setattr(settings, name, value)
    (found,) = check_settings()
    assert found.id == "shop_similarity.W004"
    assert next(iter(sign)) in found.msg
    assert "SHOP_SIMILARITY['PROXIES']" in found.hint
    for proxies in (0, 1):
        settings.SHOP_SIMILARITY = {**GOOD, "PROXIES": proxies}
        assert check_settings() == []
    settings.SHOP_SIMILARITY = GOOD
    settings.REST_FRAMEWORK = {"NUM_PROXIES": 1}
    assert check_settings() == []


def test_all_mistakes_are_reported_at_once_by_manage_py_check(settings):
    settings.SHOP_SIMILARITY = {**GOOD, "BATCH_SIZ": 1, "POLL_SECONDS": "x"}
    with pytest.raises(SystemCheckError) as caught:
        call_command("check", stdout=StringIO(), stderr=StringIO())
    assert "Did you mean 'BATCH_SIZE'?" in str(caught.value)
    assert "POLL_SECONDS" in str(caught.value)


def test_settings_are_read_lazily_and_again_when_they_change(settings):
    settings.SHOP_SIMILARITY = {**GOOD, "BATCH_SIZE": 3}
    assert get_settings().batch_size == 3
    settings.SHOP_SIMILARITY = {**GOOD, "IMAGE_FORMATS": ["PNG"]}
    assert get_settings().batch_size == Settings("", "").batch_size
    assert get_settings().image_formats == ("PNG",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        get_settings().batch_size = 4
    settings.SHOP_SIMILARITY = {}
    with pytest.raises(SettingsError, match="PRODUCT_MODEL"):
        get_settings()


@pytest.mark.django_db
def test_products_callable_must_return_products(settings):
    settings.SHOP_SIMILARITY = {**GOOD, "PRODUCTS": "catalog.settings._words"}
    with pytest.raises(TypeError):
        get_catalogue().visible_products()
    settings.SHOP_SIMILARITY = {**GOOD, "PRODUCTS": "catalog.services.shop.data_folder"}
    with pytest.raises(SettingsError, match=r"Return a queryset of catalog\.Product"):
        get_catalogue().visible_products()


@pytest.mark.django_db
def test_database_that_fits_is_not_complained_about():
    assert check_database(databases=[database.write_alias()]) == []


@pytest.mark.django_db
def test_key_column_of_another_type_is_reported(transactional_db):
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE shop_similarity_embedding ALTER COLUMN product_id TYPE integer")
    try:
        (found,) = check_database(databases=[database.write_alias()])
        assert found.id == "shop_similarity.E012"
        assert "of type integer, but the shop's key is bigint" in found.msg
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE shop_similarity_embedding ALTER COLUMN product_id TYPE bigint")


@pytest.mark.django_db
def test_no_migration_is_missing():
    call_command("makemigrations", "shop_similarity", check=True, dry_run=True, stdout=StringIO())


def test_every_setting_is_explained():
    from pathlib import Path

    import shop_similarity

    text = (Path(shop_similarity.__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(Settings):
        assert f"`{field.name.upper()}`" in text, f"docs/settings.md lacks {field.name.upper()}"
        assert field.metadata["help"].endswith("."), field.name


def test_every_range_holds_the_default():
    for field in dataclasses.fields(Settings):
        numeric = field.type.split(" | ")[0] in ("int", "float")
        assert (field.metadata["range"] is not None) == numeric, field.name
        if numeric and field.default is not None:
            low, high = field.metadata["range"]
            assert low <= field.default <= high, field.name
