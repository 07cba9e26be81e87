"""The bytes of photos, from wherever they are kept."""

from __future__ import annotations

import hashlib
import io
from types import SimpleNamespace

import pytest
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, InMemoryStorage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import FileField
from django.db.models.fields.files import FieldFile

from shop_similarity.photos.contents import content_sha256, read_bytes
from shop_similarity.photos.decoding import open_image
from shop_similarity.photos.errors import ImageMissing, ImageTooLarge
from tests.shop_similarity.photos.photo_files import PHOTO, Unseekable, drawn


class RemoteStorage(InMemoryStorage):
    """An object storage: files cannot seek and are looked up at the first read; counts its handles."""

    def __init__(self, failure=None):
        super().__init__()
        self.failure, self.opened, self.closed = failure, 0, 0

    def _open(self, name, mode="rb"):
        storage = self

        class Body(Unseekable):
            def read(self, size=-1):
                if storage.failure:
                    raise storage.failure
                return super().read(size)

            def close(self):
                if not self.closed:
                    storage.closed += 1
                super().close()

        self.opened += 1
        data = b"" if self.failure else super()._open(name, mode).read()
        return File(Body(data), name=name)


def field_file(storage, name="photo.jpg"):
    return FieldFile(SimpleNamespace(), FileField(name="file", storage=storage), name)


@pytest.mark.parametrize(
    "kind", [str, lambda path: path, lambda path: File(path.open("rb")), lambda path: path.open("rb")]
)
def test_paths_and_open_files(kind, tmp_path):
    path = tmp_path / "photo.bin"
    path.write_bytes(PHOTO)
    source = kind(path)
    assert read_bytes(source) == PHOTO
    assert open_image(source).size == drawn().size
    if hasattr(source, "close"):
        assert not source.closed
        source.close()


def test_closed_django_file_is_opened_and_closed_again(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    source = File((tmp_path / "photo.jpg").open("rb"), name=str(tmp_path / "photo.jpg"))
    source.close()
    for _ in range(2):
        assert read_bytes(source) == PHOTO
        assert source.closed


def test_field_file_is_read_through_its_own_handle(tmp_path):
    storage = FileSystemStorage(tmp_path)
    storage.save("photo.jpg", ContentFile(PHOTO))
    source = field_file(storage)
    assert [read_bytes(source), read_bytes(source)] == [PHOTO, PHOTO]
    assert source.closed
    with source.open("rb") as handle:
        handle.seek(7)
        assert read_bytes(source) == PHOTO
        assert handle.tell() == 7


def test_field_file_of_an_object_storage():
    storage = RemoteStorage()
    storage.save("photo.jpg", ContentFile(PHOTO))
    source = field_file(storage)
    assert [read_bytes(source), read_bytes(source)] == [PHOTO, PHOTO]
    assert (storage.opened, storage.closed) == (2, 2)


def test_field_file_that_is_not_saved_yet():
    source = field_file(InMemoryStorage(), SimpleUploadedFile("photo.jpg", PHOTO).name)
    source.file, source._committed = SimpleUploadedFile("photo.jpg", PHOTO), False
    assert open_image(source).size == drawn().size
    assert read_bytes(source) == PHOTO


def test_position_of_an_upload_is_kept():
    upload = SimpleUploadedFile("photo.jpg", PHOTO)
    upload.seek(11)
    assert read_bytes(upload) == PHOTO
    assert upload.tell() == 11


def test_stream_that_cannot_seek():
    assert read_bytes(Unseekable(PHOTO)) == PHOTO
    assert open_image(Unseekable(PHOTO)).size == drawn().size


def test_announced_size_spares_the_download():
    class Huge(Unseekable):
        size = 10**12

        def read(self, size=-1):
            raise AssertionError("downloaded")

    with pytest.raises(ImageTooLarge):
        read_bytes(Huge(b""))


def test_no_more_than_the_limit_is_read_of_an_endless_stream():
    class Endless(Unseekable):
        given = 0

        def read(self, size=-1):
            self.given += size
            return b"x" * size

    source = Endless(b"")
    with pytest.raises(ImageTooLarge):
        read_bytes(source, 3 * 2**20)
    assert source.given == 3 * 2**20 + 1


def test_text_mode_is_a_programming_error():
    with pytest.raises(TypeError, match="binary mode"):
        read_bytes(io.StringIO("text"))


@pytest.mark.parametrize(
    "source",
    [
        lambda folder: folder / "gone.jpg",
        lambda folder: folder,
        lambda folder: folder / "there" / "below.jpg",
        lambda folder: field_file(FileSystemStorage(folder), "gone.jpg"),
        lambda folder: field_file(FileSystemStorage(folder), "../../etc/passwd"),
        lambda folder: field_file(FileSystemStorage(folder), ""),
        lambda folder: field_file(FileSystemStorage(folder), None),
        lambda folder: field_file(RemoteStorage(FileNotFoundError("NoSuchKey")), "gone.jpg"),
    ],
)
def test_missing_file(source, tmp_path):
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(ImageMissing, match=r"upload the photo again\."):
        open_image(source(tmp_path))


@pytest.mark.parametrize(
    "failure", [OSError("disk"), ConnectionResetError(), TimeoutError(), RuntimeError("throttled")]
)
def test_failing_storage_stays_retryable(failure):
    storage = RemoteStorage(failure)
    with pytest.raises(type(failure)) as caught:
        open_image(field_file(storage))
    assert caught.value is failure
    assert storage.closed == storage.opened == 1


def test_content_sha256():
    assert content_sha256(PHOTO) == hashlib.sha256(PHOTO).hexdigest()
