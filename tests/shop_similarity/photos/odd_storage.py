"""A storage that raises what the libraries of object storages raise, for some of its files."""

from __future__ import annotations

from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage


class ClientError(Exception):
    """As botocore's: no OSError, told apart by what the server answered."""

    def __init__(self, status: int, code: str, operation: str = "HeadObject") -> None:
        super().__init__(f"An error occurred ({code}) when calling the {operation} operation")
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


GONE = ClientError(404, "404")
NO_KEY = ClientError(404, "NoSuchKey", "GetObject")
FORBIDDEN = ClientError(403, "403")
SLOW_DOWN = ClientError(503, "SlowDown", "GetObject")
OUTSIDE = SuspiciousFileOperation("The joined path is located outside of the base path component")


def make_odd(monkeypatch, errors: dict[str, Exception]) -> None:
    """Have the storages of local files raise these whenever a file of these names is asked for anything."""

    def odd(method):
        def asked(self, name, *args, **kwargs):
            if name in errors:
                raise errors[name]
            return method(self, name, *args, **kwargs)

        return asked

    for name in ("_open", "size", "get_modified_time"):
        monkeypatch.setattr(FileSystemStorage, name, odd(getattr(FileSystemStorage, name)))
