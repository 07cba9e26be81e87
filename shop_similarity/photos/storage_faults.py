"""What an exception of a storage means for one photo: that it is gone for good, or that asking again makes sense.

Storages raise what their libraries raise. Django's own for local files raises :class:`OSError`; botocore, the
libraries of Azure and Google and others have exceptions of their own, told apart by a status of HTTP and a code.
Sentences are in English, for workers store them and read no language.
"""

from __future__ import annotations

import errno
from typing import Any

from django.core.exceptions import SuspiciousOperation

_MISSING = {"404", "NoSuchKey", "NotFound", "BlobNotFound"}
_REFUSED = {"401", "403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_BUSY = {"429", "503", "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "ServerBusy"}
# Of a path on a disk that no file can have.
_NO_NAME = {errno.ENAMETOOLONG, errno.EISDIR}


def is_missing(error: BaseException) -> bool:
    """Whether the storage says that it has no such file."""
    return isinstance(error, FileNotFoundError | NotADirectoryError) or bool(_MISSING & _codes(error))


def is_busy(error: BaseException) -> bool:
    """Whether the storage asks for fewer requests."""
    return bool(_BUSY & _codes(error))


def final_sentence(error: BaseException, name: str) -> str:
    """Why no further try can read the file, and what to do; "" where one may.

    Refused access may be lifted, and a storage that is busy or away answers again.

    Args:
        error: what the storage raised.
        name: of the file.
    """
    if is_missing(error):
        return f"The file {name} is not in the storage. Upload the photo again."
    if isinstance(error, SuspiciousOperation) or getattr(error, "errno", None) in _NO_NAME:
        return f"The storage takes no file of the name {name}. Upload the photo again."
    return ""


def passing_sentence(error: BaseException) -> str:
    """What is wrong for now, and what to do where somebody has to do something."""
    sentence = f"The storage could not be read: {type(error).__name__}: {error}"
    if not _REFUSED & _codes(error):
        return sentence
    advice = (
        "It refuses access. S3 says so of a missing file, too, where the role may not list the bucket "
        "(s3:ListBucket): upload the photo again, or mend the role's rights."
    )
    return f"{sentence} {advice}"


def _codes(error: BaseException) -> set[str]:
    """Status and code, whatever the library calls them, as text."""
    codes: list[Any] = [getattr(error, name, None) for name in ("status_code", "code", "error_code", "status")]
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        codes += [
            _in(response, "Error", "Code"),
            _in(response, "ResponseMetadata", "HTTPStatusCode"),
        ]
    else:
        codes.append(getattr(response, "status_code", None))
    return {str(int(code) if isinstance(code, int) else code) for code in codes if isinstance(code, int | str)}


def _in(response: Any, *names: str) -> Any:
    for name in names:
        response = response.get(name) if isinstance(response, dict) else None
    return response
