"""Collecting the static files when they have changed since the last time."""

import hashlib
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command


def collect() -> bool:
    """Bring STATIC_ROOT up to date; returns whether there was anything to do."""
    root = Path(settings.STATIC_ROOT)
    mark = root / ".fingerprint"
    wanted = _fingerprint()
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return False
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    mark.write_text(wanted, encoding="utf-8")
    return True


def _fingerprint() -> str:
    digest = hashlib.sha256(settings.STORAGES["staticfiles"]["BACKEND"].encode())
    for finder in get_finders():
        for path, storage in finder.list([]):
            state = Path(storage.path(path)).stat()
            digest.update(f"{path}:{state.st_size}:{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
