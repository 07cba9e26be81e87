import os
import stat

import pytest

from shop_similarity.training.files import file_sha256, part_beside, replacement, write_atomically


@pytest.mark.parametrize("content", ["ä\n", b"\xff\x00"])
@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_and_nothing_lies_beside_it(tmp_path, content, durable):
    path = tmp_path / "made" / "file.json"
    write_atomically(path, "before", durable=durable)
    write_atomically(path, content, durable=durable)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(path.parent.iterdir()) == [path]
    assert file_sha256(path) == file_sha256(path) and len(file_sha256(path)) == 64


def test_what_breaks_off_leaves_the_file_before(tmp_path):
    path = tmp_path / "best.weights.h5"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), replacement(path) as part:
        assert part.parent == tmp_path and part.name.endswith(".weights.h5")
        part.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_may_get_its_name_when_it_is_known(tmp_path):
    with part_beside(tmp_path / "x") as part:
        part.write_text("whole")
        part.replace(tmp_path / "y")
    with part_beside(tmp_path / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["y"]


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
def test_files_and_folders_are_their_owner_s_alone_whatever_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "runs" / "one" / "run.json", "{}")
        there = tmp_path / "shared"
        there.mkdir(0o755)
        write_atomically(there / "run.json", "{}")
    finally:
        os.umask(before)
    for path in (tmp_path / "runs", tmp_path / "runs" / "one"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (tmp_path / "runs" / "one" / "run.json", there / "run.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # A folder that somebody shares on purpose stays shared.
    assert stat.S_IMODE(there.stat().st_mode) == 0o755
