"""However the demo ends, in whatever step, nothing of it stays behind."""

import signal
import time

import pytest

from tests.support.demo_process import left_behind

pytestmark = pytest.mark.slow

EARLY = ["• Postgres and Valkey", "on port", "• Tables", "• Catalogue", "• Web server", "• Model"]


@pytest.mark.parametrize("where", EARLY)
def test_ctrl_c_in_the_early_steps(demo, data, drawn_catalogue, where):
    process = demo("--folder", str(drawn_catalogue), "--port", "0")
    process.wait_for(where)
    process.signal_group(signal.SIGINT)
    assert process.wait() == 128 + signal.SIGINT
    assert "Traceback" not in process.output
    assert "All stopped." in process.output
    assert left_behind(data) == []


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


@pytest.mark.parametrize("where", ["on port", "• Catalogue", "• Web server", "• Model"])
def test_the_next_demo_recovers_from_one_that_was_killed(demo, data, drawn_catalogue, where):
    killed = demo("--folder", str(drawn_catalogue), "--port", "0")
    killed.wait_for(where)
    killed.kill()
    again = demo("--folder", str(drawn_catalogue), "--port", "0")
    again.wait_for("• Model")
    assert "12 " in again.output, "all products are there"
    again.signal_group(signal.SIGINT)
    again.wait()
    assert "All stopped." in again.output
    assert left_behind(data) == []
