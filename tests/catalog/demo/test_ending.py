"""However the demo ends, in whatever step, nothing of it stays behind."""

import os
import pty
import re
import signal
import sys
import time
from urllib.request import urlopen

import pytest

from tests.support.demo_process import OF_THE_TESTS, PROJECT, left_behind
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


def products_on_sale(shop: str) -> set[str]:
    """The addresses of the products on the shop's pages of categories."""
    pages = [urlopen(f"{shop}category/{name}/", timeout=30).read().decode() for name in ("discs", "squares")]
    return {address for page in pages for address in re.findall(r'href="(/product/[^"]+)"', page)}


LONG = pytest.mark.long
EARLY = [
    pytest.param("• Postgres and Valkey", id="before the servers", marks=LONG),
    pytest.param("on port", id="servers"),
    pytest.param("• Tables", id="tables", marks=LONG),
    pytest.param("• Catalogue", id="catalogue", marks=LONG),
    pytest.param("• Web server", id="web server", marks=LONG),
    pytest.param("• Model", id="model", marks=LONG),
]


@pytest.mark.parametrize("where", EARLY)
def test_ctrl_c_in_the_early_steps(demo, data, drawn_catalogue, where):
    process = demo("--folder", str(drawn_catalogue), "--port", "0")
    process.wait_for(where)
    process.signal_group(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    assert "Traceback" not in process.output
    assert "All stopped." in process.output
    assert left_behind(data) == []


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_it_too(demo, data, drawn_catalogue, number):
    process = demo("--folder", str(drawn_catalogue), "--port", "0")
    process.wait_for("• Catalogue")
    process.process.send_signal(number)
    assert process.wait() == 128 + number
    assert "Traceback" not in process.output
    assert left_behind(data) == []


def test_a_second_signal_does_not_cut_the_orderly_end_short(demo, data, drawn_catalogue):
    process = demo("--folder", str(drawn_catalogue), "--port", "0")
    process.wait_for("• Web server")
    process.signal_group(signal.SIGINT)
    for _ in range(20):
        time.sleep(0.02)
        if process.process.poll() is None:
            process.signal_group(signal.SIGINT)
    process.wait()
    assert "All stopped." in process.output
    assert left_behind(data) == []


@pytest.mark.long
def test_a_second_demo_on_the_same_data_is_refused(demo, data, drawn_catalogue):
    first = demo("--folder", str(drawn_catalogue), "--port", "0")
    first.wait_for("• Model")
    second = demo("--port", "0")
    assert second.wait() == 1
    assert f"The demo runs already at {first.url()} (process {first.process.pid})" in second.output
    assert first.process.poll() is None
    first.signal_group(signal.SIGINT)
    first.wait()
    assert left_behind(data) == []


@pytest.mark.long
@pytest.mark.parametrize("where", [EARLY[1], EARLY[5]])
def test_the_next_demo_recovers_from_one_that_was_killed(demo, data, drawn_catalogue, where):
    killed = demo("--folder", str(drawn_catalogue), "--port", "0")
    killed.wait_for(where)
    killed.kill()
    again = demo("--folder", str(drawn_catalogue), "--port", "0")
    again.wait_for("• Model")
    assert len(products_on_sale(again.url())) == 12
    again.signal_group(signal.SIGINT)
    again.wait()
    assert "All stopped." in again.output
    assert left_behind(data) == []


def test_closing_the_terminal_ends_it(data, drawn_catalogue):
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {n: v for n, v in os.environ.items() if not n.startswith("SHOP_") and n not in OF_THE_TESTS}
        os.chdir(PROJECT)
        os.execve(
            sys.executable,
            [sys.executable, "manage.py", "demo", "--port", "0", "--folder", str(drawn_catalogue)],
            environment | {"SHOP_DATA": str(data)},
        )
    seen = b""
    while "• Web server".encode() not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    wait_until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0), lambda: "The demo goes on without a terminal.")
    assert left_behind(data) == []
