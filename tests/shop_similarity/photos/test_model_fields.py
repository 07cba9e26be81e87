"""The model field takes what the plugin decodes, and knows the size of a photo without opening stored files."""

from __future__ import annotations

import pytest
from django import forms
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models
from django.test.utils import isolate_apps
from PIL import Image

from shop_similarity.photos import validators
from shop_similarity.photos.form_fields import PhotoField as PhotoFormField
from shop_similarity.photos.model_fields import PhotoField
from shop_similarity.photos.validators import validate_photo
from tests.shop_similarity.photos.bad_files import damaged_in_the_middle
from tests.shop_similarity.photos.photo_files import PHOTO, drawn, encoded


def upload() -> SimpleUploadedFile:
    return SimpleUploadedFile("photo.jpg", PHOTO, "image/jpeg")


@pytest.fixture(autouse=True)
def no_trace():
    with isolate_apps("catalog"):
        yield


def make_model(storage, **options) -> type[models.Model]:
    class Picture(models.Model):  # noqa: DJ008
        file = PhotoField(storage=storage, width_field="width", height_field="height", **options)
        width = models.PositiveIntegerField(null=True)
        height = models.PositiveIntegerField(null=True)

        class Meta:
            app_label = "catalog"

    return Picture


@pytest.fixture
def storage():
    return InMemoryStorage()


def test_form_and_model_decode_a_file_once(storage, monkeypatch):
    decoded = []
    whole = validators.open_image
    monkeypatch.setattr(
        validators, "open_image", lambda *args, **kwargs: decoded.append(args) or whole(*args, **kwargs)
    )
    model = make_model(storage)
    form = forms.modelform_factory(model, fields=["file"])(files={"file": upload()})
    assert type(form.fields["file"]) is PhotoFormField
    assert form.is_valid(), form.errors
    assert len(decoded) == 1
    assert (form.instance.width, form.instance.height) == (96, 64)
    validate_photo(upload())
    assert len(decoded) == 2


def test_full_clean_refuses_what_no_form_has_seen(storage):
    picture = make_model(storage)(file=ContentFile(damaged_in_the_middle("avif"), "photo.avif"))
    with pytest.raises(ValidationError, match="AVIF file is damaged"):
        picture.full_clean(exclude=["width", "height"], validate_unique=False)


def test_a_stored_file_that_is_bad_does_not_stop_other_changes(storage):
    storage.save("bad.jpg", ContentFile(b"bad"))
    picture = make_model(storage)(file="bad.jpg")
    picture.full_clean(validate_unique=False, exclude=["width", "height"])
    assert (picture.file.width, picture.file.height) == (None, None)


def test_size_without_size_fields(storage):
    class Bare(models.Model):  # noqa: DJ008
        file = PhotoField(storage=storage)

        class Meta:
            app_label = "catalog"

    exif = Image.Exif()
    exif[0x0112] = 6
    bare = Bare(file=ContentFile(encoded(drawn(), "JPEG", exif=exif), "a.jpg"))
    assert (bare.file.width, bare.file.height) == (64, 96)


def test_the_column_is_that_of_an_image_field(storage):
    field = make_model(storage)._meta.get_field("file")
    assert field.get_internal_type() == models.ImageField().get_internal_type()
    _name, path, _args, kwargs = field.deconstruct()
    assert path == "shop_similarity.photos.model_fields.PhotoField"
    assert "validators" not in kwargs
