"""Training on two devices and on two machines gives what training on one gives."""

import json
import os
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from shop_similarity.training.learning.distribution import Distribution, choose_distribution
from tests.training.small_run import figures, make_trainer


def start(*arguments, **env):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.distributed_run", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **env},
    )


def outcome(process):
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


def nearly(one, other):
    return all(a == pytest.approx(b, rel=1e-4) for a, b in zip(one, other, strict=True))


@pytest.mark.long
def test_two_devices_give_the_losses_of_one(tmp_path):
    options = {
        "epochs": 2,
        "config": {"frozen_through": "block4_pool"},
        "backbone_rate": 0.5,
        "average": 0.5,
        "clip": 1,
    }
    process = start("two", tmp_path / "two", json.dumps(options))
    tf.config.experimental.enable_op_determinism()
    alone = make_trainer(tmp_path / "one", **options).fit()
    result = outcome(process)
    assert result["replicas"] == 2
    assert result["chief"]
    assert nearly(result["history"], figures(alone.history))


@pytest.mark.long
@pytest.mark.slow
def test_gradients_of_several_batches_are_summed_over_devices(tmp_path):
    options = {"epochs": 1, "accumulate": 3, "blend": 0.5}
    process = start("two", tmp_path / "two", json.dumps(options))
    alone = make_trainer(tmp_path / "one", **options).fit()
    assert nearly(outcome(process)["history"], figures(alone.history))


@pytest.mark.long
@pytest.mark.slow
def test_two_machines_agree_and_only_the_chief_writes(tmp_path):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    folder = tmp_path / "shared"
    processes = [
        start(
            "machines",
            folder,
            json.dumps({"epochs": 2}),
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
        )
        for index in range(2)
    ]
    first, second = (outcome(process) for process in processes)
    assert first["replicas"] == second["replicas"] == 2
    assert [first["chief"], second["chief"]] == [True, False]
    assert first["history"] == second["history"]
    alone = make_trainer(tmp_path / "one", epochs=2).fit()
    assert nearly(first["history"], figures(alone.history))
    assert len((folder / "history.jsonl").read_text().splitlines()) == 3


def test_one_device_is_the_rule(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    distribution = choose_distribution()
    assert distribution.strategy is None
    assert distribution.replicas == 1
    assert distribution.chief
    assert distribution.agree(0.25) == 0.25
    # One machine alone needs no other.
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["localhost:1"]}, "task": {"index": 0}}))
    assert choose_distribution().strategy is None


def test_a_broken_tf_config_is_told(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG can't be read"):
        choose_distribution()


class _Resolver:
    def __init__(self, task_type, task_id, jobs):
        self.task_type, self.task_id, self._jobs = task_type, task_id, jobs

    def cluster_spec(self):
        return tf.train.ClusterSpec({job: ["localhost:1"] for job in self._jobs})


@pytest.mark.parametrize(
    ("task_type", "task_id", "jobs", "chief"),
    [
        ("worker", 0, ["worker"], True),
        ("worker", 1, ["worker"], False),
        ("worker", 0, ["chief", "worker"], False),
        ("chief", 0, ["chief", "worker"], True),
    ],
)
def test_who_is_chief(task_type, task_id, jobs, chief):
    strategy = type("Strategy", (), {"cluster_resolver": _Resolver(task_type, task_id, jobs)})()
    assert Distribution(strategy).chief is chief
