"""What exceptions of storages mean: final ones, passing ones, and those of a storage that asks for fewer requests."""

from __future__ import annotations

import errno
import logging

import pytest

from catalog.models import ProductPhoto
from shop_similarity.photos.contents import read_bytes
from shop_similarity.photos.errors import ImageMissing
from shop_similarity.photos.storage_faults import final_sentence, is_busy, passing_sentence
from shop_similarity.photos.thumbnails import sources
from tests.shop_similarity.factories import add_photo, make_product
from tests.shop_similarity.photos.odd_storage import (
    FORBIDDEN,
    GONE,
    NO_KEY,
    OUTSIDE,
    SLOW_DOWN,
    ClientError,
    make_odd,
)


class ResourceNotFoundError(Exception):
    """As Azure's."""

    status_code = 404


class NotFound(Exception):
    """As Google's."""

    code = 404


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError("a.jpg"), "is not in the storage"),
        (NotADirectoryError(errno.ENOTDIR, "a"), "is not in the storage"),
        (GONE, "is not in the storage"),
        (NO_KEY, "is not in the storage"),
        (ResourceNotFoundError(), "is not in the storage"),
        (NotFound(), "is not in the storage"),
        (OUTSIDE, "takes no file of the name"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "takes no file of the name"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), "takes no file of the name"),
    ],
)
def test_no_other_try_helps(error, said):
    assert said in final_sentence(error, "a.jpg")
    assert "a.jpg" in final_sentence(error, "a.jpg")


@pytest.mark.parametrize(
    "error",
    [
        FORBIDDEN,
        SLOW_DOWN,
        ClientError(500, "InternalError"),
        ConnectionResetError("gone"),
        PermissionError(errno.EACCES, "Permission denied"),
        TimeoutError(),
        ValueError("odd"),
        type("Odd", (Exception,), {"response": None, "code": None})(),
    ],
)
def test_another_try_may_help(error):
    assert final_sentence(error, "a.jpg") == ""
    assert type(error).__name__ in passing_sentence(error)
    assert ("ListBucket" in passing_sentence(error)) == (error is FORBIDDEN)
    assert is_busy(error) == (error is SLOW_DOWN)


@pytest.mark.django_db
@pytest.mark.parametrize("error", [GONE, NO_KEY, OUTSIDE])
def test_missing_photo_is_missing_whatever_the_storage_raises(monkeypatch, caplog, settings, error):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": None}
    photo = add_photo(make_product(), b"content")
    make_odd(monkeypatch, {photo.file.name: error})
    file = ProductPhoto.objects.get().file
    with pytest.raises(ImageMissing):
        read_bytes(file)
    with caplog.at_level(logging.ERROR):
        assert sources(file) is None
    assert caplog.text == ""


@pytest.mark.django_db
@pytest.mark.parametrize("error", [FORBIDDEN, SLOW_DOWN])
def test_storage_that_does_not_answer_costs_no_page(monkeypatch, settings, error):
    settings.SHOP_SIMILARITY = {**settings.SHOP_SIMILARITY, "THUMBNAILS": None}
    photo = add_photo(make_product(), b"content")
    make_odd(monkeypatch, {photo.file.name: error})
    assert sources(ProductPhoto.objects.get().file).src.endswith(photo.file.name)
