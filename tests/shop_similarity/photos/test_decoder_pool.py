"""Real child processes: what they answer, what a photo may cost, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from django.utils import translation
from PIL import Image, ImageChops

from shop_similarity.photos import decoder_pool
from shop_similarity.photos.decoder import decode
from shop_similarity.photos.decoder_pool import DecoderPool
from shop_similarity.photos.errors import DecoderUnavailable, ImageError, ImageTooLarge, ImageUnreadable
from shop_similarity.photos.limits import DEFAULT_LIMITS, ImageLimits
from tests.shop_similarity.photos.bad_files import slow_photo
from tests.shop_similarity.photos.photo_files import drawn, encoded
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="photos are decoded in child processes on POSIX alone")

BIG = ImageLimits(max_pixels=90_000_000)


@pytest.fixture
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(2)
    yield pool
    pool.close()


def child_of(pool: DecoderPool) -> subprocess.Popen:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for child in (*pool._busy, *pool._idle):
            return child.process
        time.sleep(0.01)
    raise AssertionError("no child was started")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def during_decode(pool: DecoderPool, what: Callable[[int], None], limits: ImageLimits) -> Image.Image:
    """Decode a slow photo, and do something to the child in the middle."""

    def interfere() -> None:
        process = child_of(pool)
        ticks = os.sysconf("SC_CLK_TCK")
        # Its processor time says when it is at work on the photo, on a slow machine too.
        assert eventually(
            lambda: sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().split()[13:15])) > used + ticks / 5
        )
        what(process.pid)

    pool.decode(encoded(drawn(), "PNG"), limits)
    used = sum(map(int, Path(f"/proc/{child_of(pool).pid}/stat").read_text().split()[13:15]))
    thread = threading.Thread(target=interfere)
    thread.start()
    try:
        return pool.decode(slow_photo(9_000), limits)
    finally:
        thread.join()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("target_size", [None, 24])
def test_gives_what_this_process_gives(pool, format, target_size):
    data = encoded(drawn().resize((300, 200)), format)
    expected = decode(data, DEFAULT_LIMITS, target_size)
    image = pool.decode(data, DEFAULT_LIMITS, target_size)
    assert (image.mode, image.size, image.info) == ("RGB", expected.size, {})
    assert ImageChops.difference(image, expected).getbbox() is None


def test_a_picture_of_several_pieces_is_whole(pool):
    picture = Image.linear_gradient("L").resize((1_500, 2_345)).convert("RGB")
    image = pool.decode(encoded(picture, "PNG"), DEFAULT_LIMITS)
    assert ImageChops.difference(image, picture).getbbox() is None


def test_says_what_is_wrong_in_the_language_of_the_reader(pool):
    data = encoded(drawn(), "JPEG")
    for hostile in (data[:200], b"GIF89a", b"<html>", b"BM" + bytes(50)):
        with pytest.raises(ImageError) as here:
            decode(hostile, DEFAULT_LIMITS)
        with pytest.raises(ImageError) as there:
            pool.decode(hostile, DEFAULT_LIMITS)
        assert type(there.value) is type(here.value)
        for language in ("en", "de", "fr"):
            with translation.override(language):
                assert str(there.value) == str(here.value)


def test_one_child_serves_many_photos(pool):
    pids = set()
    for _number in range(20):
        pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS)
        pids.add(child_of(pool).pid)
    assert len(pids) == 1


def test_many_threads_share_few_children(pool):
    data = encoded(drawn(), "JPEG")
    with ThreadPoolExecutor(20) as threads:
        sizes = list(threads.map(lambda _number: pool.decode(data, DEFAULT_LIMITS).size, range(100)))
    assert set(sizes) == {drawn().size}
    assert len(pool._idle) <= 2
    assert not pool._busy


def test_processor_time_is_bounded(pool, monkeypatch):
    # On a busy machine that much processor time may take long.
    monkeypatch.setattr(decoder_pool, "GRACE_SECONDS", 300)
    began = time.process_time()
    with pytest.raises(ImageTooLarge, match=r"more than 0\.1 seconds"):
        pool.decode(slow_photo(7_000), replace(BIG, max_seconds=0.1))
    assert time.process_time() - began < 1
    assert pool.decode(encoded(drawn(), "PNG"), BIG).size == drawn().size


def test_memory_is_bounded(pool):
    data = encoded(Image.new("RGB", (5_000, 5_000)), "PNG")
    with pytest.raises(ImageTooLarge, match="more memory"):
        pool.decode(data, replace(BIG, max_memory=50 * 2**20))
    assert pool.decode(data, BIG, 100).size


@pytest.mark.parametrize(
    ("number", "error", "sentence"),
    [
        (signal.SIGSEGV, ImageUnreadable, "crash"),
        (signal.SIGABRT, ImageUnreadable, "crash"),
        # The kernel's, where the machine is short of memory: the photo may be right.
        (signal.SIGKILL, DecoderUnavailable, "exit status -9"),
    ],
)
def test_a_child_that_ends_over_a_photo(pool, number, error, sentence):
    with pytest.raises(error, match=sentence):
        during_decode(pool, lambda pid: os.kill(pid, number), BIG)
    assert pool.decode(encoded(drawn(), "PNG"), BIG).size == drawn().size


def test_signals_to_everybody_end_no_decoding(pool):
    def send(pid: int) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)

    assert during_decode(pool, send, BIG).size == (9_000, 9_000)


def test_a_child_that_says_nothing_is_killed_at_the_deadline(pool, monkeypatch):
    monkeypatch.setattr(decoder_pool, "GRACE_SECONDS", 0)
    pids = []

    def stop(pid: int) -> None:
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    with pytest.raises(DecoderUnavailable, match="within 4 seconds"):
        during_decode(pool, stop, replace(BIG, max_seconds=2))
    assert not is_running(pids[0])


def test_a_child_that_ended_between_two_photos_is_replaced(pool):
    for _number in range(3):
        pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS)
        process = child_of(pool)
        os.kill(process.pid, signal.SIGKILL)
        assert eventually(lambda pid=process.pid: not is_running(pid))
    assert pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS).size == drawn().size


def test_where_all_children_are_busy_one_waits_for_so_long_only(monkeypatch):
    monkeypatch.setattr(decoder_pool, "GRACE_SECONDS", 0)
    pool = DecoderPool(1)
    pool._free.acquire()
    with pytest.raises(DecoderUnavailable, match="busy"):
        pool.decode(encoded(drawn(), "PNG"), replace(DEFAULT_LIMITS, max_seconds=0.1))


def test_says_what_to_do_where_no_child_can_be_started(pool, monkeypatch):
    monkeypatch.setattr(decoder_pool, "_interpreter", lambda: "/nowhere/python")
    with pytest.raises(DecoderUnavailable, match=r"/nowhere/python.*DECODE_SECONDS"):
        pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS)
    monkeypatch.setattr(decoder_pool, "_interpreter", lambda: "/bin/false")
    with pytest.raises(DecoderUnavailable, match=r"exit status 1.*DECODE_SECONDS"):
        pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS)
    monkeypatch.undo()
    assert pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "text",
        {},
        {"size": [1]},
        {"size": ["a", "b"]},
        {"size": [0, 5]},
        {"size": [60_000, 60_000]},
        {"error": "SystemExit", "message": "", "params": {}},
        {"error": "ImageUnreadable", "message": "%(secret)s", "params": {}},
        {"error": "ImageUnreadable", "message": "%d", "params": {"a": "b"}},
        {"error": "ImageUnreadable", "message": 5, "params": []},
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(pool, answer):
    text = json.dumps(answer).encode()
    reply = repr(b"+" + struct.pack("!I", len(text)) + text)
    code = f"import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.sendall({reply}); s.recv(1); input()"
    child = object.__new__(decoder_pool._Child)
    child.socket, theirs = socket.socketpair()
    child.process = subprocess.Popen(
        [sys.executable, "-c", code, str(theirs.fileno())], pass_fds=(theirs.fileno(),), stdin=subprocess.PIPE
    )
    theirs.close()
    pool._idle.append(child)
    with child.process.stdin, pytest.raises(ImageUnreadable, match="crash"):
        pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS)
    assert not is_running(child.process.pid)
    assert pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS).size == drawn().size


def test_a_server_that_embeds_python_finds_an_interpreter(monkeypatch):
    monkeypatch.setattr("multiprocessing.spawn._python_exe", "/usr/bin/uwsgi")
    assert re.search(r"python[\d.]*$", decoder_pool._interpreter())
    assert os.access(decoder_pool._interpreter(), os.X_OK)


def test_idle_children_end_and_leave_no_zombie(pool, monkeypatch):
    monkeypatch.setattr(decoder_pool, "IDLE_SECONDS", 0.2)
    pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS)
    process = child_of(pool)
    assert eventually(lambda: not Path(f"/proc/{process.pid}").exists())
    assert eventually(lambda: pool._tidier is None)


def test_the_shop_s_secrets_stay_behind(pool, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgres://shop:secret@db/shop")
    pool.decode(encoded(drawn(), "PNG"), DEFAULT_LIMITS)
    pid = child_of(pool).pid
    assert b"secret" not in Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    # Nothing of this process is open there but the socket between the two; it looks at its own memory now and then.
    kinds = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}
    assert len(kinds - {"/dev/null", f"/proc/{pid}/statm"}) == 1


FORKS = """
import os, sys, time
from django.conf import settings
settings.configure()
from shop_similarity.photos.decoding import open_image
photo = sys.stdin.buffer.read()
open_image(photo)
from shop_similarity.photos.decoder_pool import decoder_pool
parents = decoder_pool()._idle[0].process.pid
pid = os.fork()
if pid == 0:
    open_image(photo)
    own = decoder_pool()._idle[0].process.pid
    os._exit(0 if own != parents else 1)
_pid, status = os.waitpid(pid, 0)
assert status == 0, status
open_image(photo)
assert decoder_pool()._idle[0].process.pid == parents
print(parents, flush=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_children_belong_to_the_process_that_started_them_and_end_with_it(is_killed):
    command = [sys.executable, "-W", "error", "-c", FORKS, "600" if is_killed else "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        process.stdin.write(encoded(drawn(), "PNG"))
        process.stdin.close()
        pid = int(process.stdout.readline() or -1)
        assert pid > 0, process.stderr.read()
        if is_killed:
            process.kill()
        assert process.wait(60) == (-signal.SIGKILL if is_killed else 0)
        assert process.stderr.read() == b""
    assert eventually(lambda: not is_running(pid))
