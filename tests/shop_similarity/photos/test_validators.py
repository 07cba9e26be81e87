"""Uploads are validated by the plugin's own decoder, in a form and anywhere else."""

from __future__ import annotations

import io
import re
import subprocess
from pathlib import Path

import pytest
from django import forms
from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.db import models
from django.test.utils import isolate_apps
from PIL import Image

from shop_similarity.photos.errors import ImageTooLarge, ImageTypeNotAllowed
from shop_similarity.photos.form_fields import PhotoField as PhotoFormField
from shop_similarity.photos.model_fields import PhotoField
from shop_similarity.photos.validators import validate_photo
from tests.shop_similarity.photos.bad_files import BAD_FILES, EPS
from tests.shop_similarity.photos.photo_files import PHOTO, drawn, encoded

CODES = {ImageTooLarge: "too_large", ImageTypeNotAllowed: "type_not_allowed"}


def upload(data: bytes = PHOTO, name: str = "photo.jpg", content_type: str = "image/jpeg") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data, content_type)


@pytest.mark.parametrize("bad", BAD_FILES, ids=lambda bad: bad.name)
def test_a_bad_file_is_refused_with_a_sentence_before_pillow_opens_it_at_will(bad, monkeypatch):
    opened = []
    whole = Image.open
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: opened.append(kwargs) or whole(*args, **kwargs))
    field = PhotoFormField(required=False)
    with pytest.raises(ValidationError) as caught:
        field.clean(upload(bad.build()))
    assert all(kwargs.get("formats") for kwargs in opened), "Pillow chose the format"
    if bad.name != "empty":  # Django's sentence
        assert caught.value.error_list[0].code == CODES.get(bad.error, "unreadable")
    assert caught.value.messages[0].endswith(".")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF"])
def test_every_format_that_is_embedded_may_be_uploaded(kind):
    name = f"photo.{kind.lower()}"
    file = upload(encoded(drawn(), kind), name, "text/html")
    assert PhotoFormField().clean(file) is file
    assert file.content_type == Image.MIME[kind]
    assert file.tell() == 0


def test_formats_follow_the_settings(settings):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "IMAGE_FORMATS": ["PNG"], "MAX_IMAGE_PIXELS": 96 * 64}
    with pytest.raises(ValidationError, match="of type JPEG; upload the photo as PNG"):
        validate_photo(upload())
    validate_photo(upload(encoded(drawn(), "PNG"), "a.png"))
    with pytest.raises(ValidationError, match="96 x 65 pixels"):
        validate_photo(upload(encoded(drawn(96, 65), "PNG"), "a.png"))


@pytest.mark.parametrize("name", ["photo.html", "photo.svg", "photo.eps", "photo", "photo.jpg.php", ".jpg"])
def test_a_name_that_servers_would_take_for_something_else(name):
    with pytest.raises(ValidationError) as caught:
        validate_photo(upload(name=name))
    assert caught.value.code == "extension_not_allowed"
    assert ".jpeg, .jpg" in caught.value.messages[0]


def test_nothing_is_executed(monkeypatch, settings):
    # Within this process, whose calls are seen.
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "DECODE_SECONDS": 0}
    calls = []
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: calls.append(args))
    for field in (PhotoFormField(), PhotoField()):
        with pytest.raises(ValidationError):
            field.clean(upload(EPS), None) if isinstance(field, models.Field) else field.clean(upload(EPS))
    assert calls == []


def test_an_upload_on_disk():
    file = TemporaryUploadedFile("photo.jpg", "image/jpeg", len(PHOTO), None)
    file.write(PHOTO)
    file.seek(0)
    assert PhotoFormField().clean(file) is file


def test_a_stored_file_is_kept_when_none_is_sent():
    assert PhotoFormField().clean(None, "stored.jpg") == "stored.jpg"
    assert PhotoFormField(required=False).clean(None) is None


PAGE = Path(django_settings.BASE_DIR, "docs/photos.md")


@isolate_apps("catalog")
def test_the_examples_of_the_docs(tmp_path):
    # Within the app, where the model finds its label.
    space = {"__name__": "catalog.documented"}
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), space)
    form = forms.modelform_factory(space["Picture"], fields=["file"])
    assert form(files={"file": upload()}).is_valid()
    for files in ({"file": upload(EPS)}, {"file": upload(b"")}):
        assert not form(files=files).is_valid()
    assert space["PictureForm"](files={"picture": upload()}).is_valid()
    assert not space["PictureForm"](files={"picture": upload(EPS)}).is_valid()
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(PHOTO)
    bad.write_bytes(EPS)
    assert space["is_photo"](str(good))
    assert not space["is_photo"](str(bad))
    assert space["small_copy"](io.BytesIO(PHOTO)).size == (96, 64)
    assert space["small_copy"](io.BytesIO(EPS)) is None
