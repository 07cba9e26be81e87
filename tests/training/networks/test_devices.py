"""Devices are named strictly, and those that are not named are left alone."""

import re

import pytest
import tensorflow as tf
from django.core.management import call_command
from django.core.management.base import CommandError

from shop_similarity.training.networks.devices import DeviceError, parse_devices, use_devices

THERE = {"CPU": 1, "GPU": 2}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["GPU:1"], ("GPU", [1])),
        (["gpu:1", "GPU:0"], ("GPU", [0, 1])),
        (["CPU:0"], ("CPU", [0])),
    ],
)
def test_devices_that_are_there(names, expected):
    assert parse_devices(names, THERE) == expected


@pytest.mark.parametrize(
    "name", ["GPU:7", "GPU", "GPU:", "gpu0", "GPU:01", "GPU:-1", "GPU:٣", "/GPU:0", "TPU:0", "", "1"]
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name):
    with pytest.raises(DeviceError, match=rf"no device {re.escape(name)} here\. There are CPU:0, GPU:0, GPU:1: name"):
        parse_devices([name], THERE)


def test_a_missing_gpu_is_told_as_such():
    with pytest.raises(DeviceError, match=r"There is CPU:0: .* sees no GPU"):
        parse_devices(["GPU:0"], {"CPU": 1, "GPU": 0})


@pytest.mark.parametrize("names", [["GPU:0", "GPU:0"], ["CPU:0", "GPU:0"]])
def test_devices_that_do_not_go_together(names):
    with pytest.raises(DeviceError, match="name each once, all CPU or all GPU"):
        parse_devices(names, THERE)


class _Machine:
    """What TensorFlow is asked on a machine with three GPUs, and what it is told."""

    gpus = ("gpu 0", "gpu 1", "gpu 2")

    def __init__(self, monkeypatch):
        self.grow: list[str] = []
        self.visible: list[str] | None = None
        found = {"GPU": list(self.gpus), "CPU": ["cpu"]}
        monkeypatch.setattr(tf.config, "list_physical_devices", found.get)
        monkeypatch.setattr(tf.config, "get_logical_device_configuration", lambda device: None)
        monkeypatch.setattr(tf.config, "set_visible_devices", self._see)
        monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, grow: self.grow.append(gpu))

    def _see(self, devices, kind):
        assert kind == "GPU"
        self.visible = devices


@pytest.mark.parametrize(
    ("names", "visible", "called"),
    [
        (["GPU:2"], ["gpu 2"], ["GPU:0"]),
        (["GPU:2", "GPU:0"], ["gpu 0", "gpu 2"], ["GPU:0", "GPU:1"]),
        (["CPU:0"], [], ["CPU:0"]),
        ([], None, []),
    ],
)
def test_other_gpus_are_hidden_and_no_memory_is_taken_at_once(monkeypatch, names, visible, called):
    machine = _Machine(monkeypatch)
    assert use_devices(names) == called
    assert machine.visible == visible
    assert machine.grow == list(machine.gpus)


def test_a_process_that_computes_already_says_so(monkeypatch):
    _Machine(monkeypatch)

    def begun(devices, kind):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", begun)
    with pytest.raises(DeviceError, match=r"other devices than GPU:1\. Start the command in a process of its own"):
        use_devices(["GPU:1"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "command", [["calibrate_mildnet"], ["evaluate_mildnet", "--retrieval", ".", "--baselines", "colour"]]
)
def test_commands_refuse_a_device_that_is_not_there(command):
    with pytest.raises(CommandError, match=r"no device GPU:7 here\. There is CPU:0"):
        call_command(*command, "--device", "GPU:7", verbosity=0)
