"""What the reference shop writes is its owner's alone, but for what a web server serves."""

import os
import stat

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage

from catalog.services.password import open_log


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_a_log_is_its_owner_s_alone_also_one_of_an_earlier_release(tmp_path):
    before = os.umask(0o022)
    try:
        with open_log(tmp_path / "log" / "web.log") as log:
            log.write(b"one\n")
        (tmp_path / "log" / "worker.log").write_bytes(b"before\n")
        with open_log(tmp_path / "log" / "worker.log") as log:
            log.write(b"after\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700
    for name, content in (("web.log", b"one\n"), ("worker.log", b"before\nafter\n")):
        assert stat.S_IMODE((tmp_path / "log" / name).stat().st_mode) == 0o600
        assert (tmp_path / "log" / name).read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_weights_in_the_reference_shop_are_private_and_photos_are_served(tmp_path, settings):
    before = os.umask(0o022)
    try:
        modes = {}
        for name, alias in (("weights", "shop_similarity"), ("media", "default")):
            options = settings.STORAGES[alias].get("OPTIONS", {}) | {"location": tmp_path / name}
            storage = FileSystemStorage(**options)
            storage.save("folder/file", ContentFile(b"x"))
            modes[name] = [
                stat.S_IMODE(path.stat().st_mode)
                for path in (tmp_path / name, tmp_path / name / "folder", tmp_path / name / "folder" / "file")
            ]
    finally:
        os.umask(before)
    assert modes == {"weights": [0o700, 0o700, 0o600], "media": [0o755, 0o755, 0o644]}
