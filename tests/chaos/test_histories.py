"""Five short histories in which workers and servers are killed; `make chaos` runs longer ones."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from django.conf import settings

SEEDS = 5


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_nothing_is_lost_doubled_or_stale_whatever_is_killed():
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--actions", "40", "--seed", "1", "--histories", str(SEEDS)],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr[-8000:]}"
    assert [line["seed"] for line in lines] == list(range(1, SEEDS + 1))
    assert sum(line["kills"] for line in lines) > SEEDS
    for line in lines:
        assert [line[name] for name in ("lost", "duplicate", "stale", "outbox", "errors")] == [0] * 5, line


def test_a_seed_always_draws_the_same_history():
    from tests.chaos.plan import ACTIONS, FAULTS, draw

    assert draw(7, 200) == draw(7, 200) != draw(8, 200)
    assert {step.action for step in draw(7, 400)} == set(ACTIONS)
    assert {step.fault for step in draw(7, 400)} == {*FAULTS, None}
