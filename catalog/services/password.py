"""Files that only their owner can read: a server's generated password, and logs."""

import os
import secrets
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600


def write_private(path: Path, text: str) -> None:
    """Write a file that only the owner can read, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def open_log(path: Path) -> BinaryIO:
    """Open a log to append to, which only the owner can read; its folder is made for the owner alone if it is missing.

    A log of an earlier release is closed to others.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = open(path, "ab", opener=lambda name, flags: os.open(name, flags, PRIVATE))  # noqa: SIM115
    if os.name == "posix" and os.fstat(file.fileno()).st_uid == os.geteuid():
        os.fchmod(file.fileno(), PRIVATE)
    return file


def read_password(path: Path) -> str | None:
    """The password in the file, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def create_password(path: Path) -> str:
    """Generate a password of 192 random bits and keep it in the file."""
    password = secrets.token_urlsafe(24)
    write_private(path, password + "\n")
    return password
