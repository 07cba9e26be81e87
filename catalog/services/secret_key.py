"""Django's SECRET_KEY: generated at the first use, kept in a file that only its owner can read."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from .home import SEARCHABLE
from .password import read_password, write_private


def secret_key(path: Path) -> str:
    """The key in the file, generated if there is none; processes that start at once agree on one."""
    if key := read_password(path):
        return key
    # Passable for the servers' users, listable for nobody else.
    path.parent.mkdir(mode=SEARCHABLE, parents=True, exist_ok=True)
    candidate = path.with_name(f"{path.name}.{os.getpid()}")
    write_private(candidate, secrets.token_urlsafe(48) + "\n")
    try:
        with suppress(FileExistsError):
            path.hardlink_to(candidate)  # unlike a rename, never replaces the key of a faster process
    finally:
        candidate.unlink(missing_ok=True)
    return path.read_text(encoding="utf-8").strip()
