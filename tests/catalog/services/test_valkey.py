"""The embedded Valkey: real starts, real kills."""

import os
import socket
import stat
import time

import psutil
import pytest
import redis

from catalog.services.valkey import Valkey


def process(server: Valkey) -> psutil.Process:
    (pid,) = server.pids()
    return psutil.Process(pid)


def test_starts_stops_and_keeps_its_data(make_valkey):
    server = make_valkey()
    assert server.is_running() is False
    assert server.start() is True
    assert server.start() is False
    redis.Redis.from_url(server.url).set("key", "value")
    url = server.url
    assert server.stop() is True
    assert server.pids() == []
    assert server.stop() is False
    server.start()
    assert server.url == url
    assert redis.Redis.from_url(url).get("key") == b"value"


def test_listens_on_loopback_alone_and_wants_the_password(make_valkey):
    server = make_valkey()
    server.start()
    listening = {c.laddr.ip for c in process(server).net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}
    assert stat.S_IMODE(server.password_file.stat().st_mode) == 0o600
    assert server.password not in " ".join(process(server).cmdline())
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=server.port).ping()


def test_keeps_what_it_was_told_through_a_kill(make_valkey):
    server = make_valkey()
    server.start()
    for number in range(100):
        server.client().rpush("list", number)
    time.sleep(1.5)  # appendfsync everysec
    process(server).kill()
    again = make_valkey()
    again.start()
    assert again.client().llen("list") == 100


def test_mends_a_log_whose_end_is_cut(make_valkey, reports):
    server = make_valkey()
    server.start()
    server.client().set("first", "1")
    server.client().set("second", "2")
    server.stop()
    log = newest_log(server)
    os.truncate(log, log.stat().st_size - 5)
    server.start()
    assert server.client().get("first") == b"1"
    assert server.client().get("second") is None
    assert reports == []


def test_moves_a_damaged_log_aside(make_valkey, reports):
    server = make_valkey()
    server.start()
    for number in range(50):
        server.client().set(f"key {number}", "x" * 100)
    server.stop()
    log = newest_log(server)
    content = bytearray(log.read_bytes())
    start = content.index(b"*3", 500)
    content[start : start + 2] = b"!!"
    log.write_bytes(content)
    server.start()
    assert server.client().ping()
    assert server.client().dbsize() == 0
    assert len(list(server.data.glob("appendonlydir.damaged-*"))) == 1
    assert any("damaged" in text for text in reports)


def newest_log(server: Valkey):
    return max((server.data / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)


def test_uses_a_server_that_outlived_its_manager(make_valkey):
    server = make_valkey()
    server.start()
    pid = process(server).pid
    again = make_valkey()
    assert again.start() is False
    assert process(again).pid == pid


def test_ends_an_orphan_that_nobody_recorded(make_valkey):
    server = make_valkey()
    server.start()
    server.client().set("key", "value")
    orphan = process(server)
    server.address.write(server.address_file, port=None)
    again = make_valkey()
    assert again.start() is True
    assert process(again).pid != orphan.pid
    assert again.client().get("key") == b"value"


def test_takes_another_port_when_its_own_is_taken(make_valkey):
    server = make_valkey()
    server.start()
    old = server.port
    server.stop()
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", old))
        taken.listen()
        server.start()
        assert server.port != old
        assert server.client().ping()


def test_tries_again_when_the_port_is_lost_while_it_starts(make_valkey, monkeypatch):
    from catalog.services import ports, server

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        lost = taken.getsockname()[1]
        offered = iter([lost])
        monkeypatch.setattr(server, "free_port", lambda preferred: next(offered, None) or ports.free_port())
        valkey = make_valkey()
        valkey.start()
        assert valkey.port != lost
        assert valkey.is_running()


@pytest.mark.long
def test_a_frozen_server_is_replaced(make_valkey):
    server = make_valkey()
    server.start()
    frozen = process(server)
    frozen.suspend()
    try:
        again = make_valkey()
        assert again.start() is True
        assert again.client().ping()
    finally:
        if frozen.is_running():
            frozen.kill()
