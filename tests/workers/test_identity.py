"""Claims of dead workers are told from claims of living ones."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from shop_similarity.catalogue import ImageRow
from shop_similarity.embedding import outbox
from shop_similarity.workers.identity import free_claims_of_the_dead, is_dead, worker_name
from tests.shop_similarity.factories import make_version


def _name_of_another_process() -> tuple[subprocess.Popen, str]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    host, _number, namespace = worker_name().split("|")
    return process, f"{host}|{process.pid}|{namespace}"


def test_only_a_worker_that_ran_here_and_is_gone_is_dead():
    assert not is_dead(worker_name())
    process, name = _name_of_another_process()
    assert not is_dead(name)
    process.communicate(b"\n")
    assert is_dead(name)
    assert not is_dead(name.replace(socket.gethostname(), "elsewhere"))
    assert not is_dead(name + "another namespace")
    assert not is_dead("")
    assert not is_dead("no worker at all")


@pytest.mark.django_db
def test_claims_of_the_dead_are_free_at_once_with_their_try_counted():
    version = make_version()
    process, dead = _name_of_another_process()
    process.communicate(b"\n")
    outbox.enqueue(version.pk, [ImageRow(number, 1, "a.jpg") for number in range(3)])
    outbox.claim(version.pk, 1, dead)
    outbox.claim(version.pk, 1, worker_name())
    outbox.claim(version.pk, 1, "elsewhere|1|")
    assert not outbox.has_due()
    assert free_claims_of_the_dead() == 1
    (claim,) = outbox.claim(version.pk, 9, "w")
    assert (claim.image_id, claim.attempts) == (0, 2)
