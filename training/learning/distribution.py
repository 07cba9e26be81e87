"""Training on several GPUs or several machines.

The batch of a step is the same on every machine and is cut into one part for each replica. The embeddings of all parts
are gathered before the loss is taken, so that a loss over the batch sees all of it, and training on two devices gives
the losses of training on one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from shop_similarity.training.networks.devices import use_devices


class Distribution:
    """One device, or a ``tf.distribute`` strategy behind the same few calls.

    Args:
        strategy: None for one device.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.strategy = strategy
        self._total = tf.function(lambda value: self.run(self._sum_copy, value), autograph=False)

    @property
    def replicas(self) -> int:
        return self.strategy.num_replicas_in_sync if self.strategy else 1

    @property
    def chief(self) -> bool:
        """Whether this process is the one that writes: the only one, the chief, or worker 0 where there is none."""
        resolver = self.strategy.cluster_resolver if self.strategy else None
        if resolver is None or not resolver.task_type:
            return True
        if resolver.task_type == "chief":
            return True
        return resolver.task_type == "worker" and resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs

    def scope(self) -> AbstractContextManager:
        """Where models and optimizers have to be made."""
        return self.strategy.scope() if self.strategy else nullcontext()

    def cut(self, arrays: Sequence[np.ndarray]) -> Any:
        """Arrays of ``N`` rows as one part for each replica of this process, N divided as evenly as can be."""
        if not self.strategy:
            return list(arrays)
        parts = [np.array_split(array, self.replicas) for array in arrays]
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: [tf.constant(part[context.replica_id_in_sync_group]) for part in parts]
        )

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run on every replica; what this process's first one returns."""
        if not self.strategy:
            return function(*arguments)
        results = self.strategy.run(function, args=arguments)
        return tf.nest.map_structure(lambda value: self.strategy.experimental_local_results(value)[0], results)

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """Rows of all replicas, within :meth:`run`; gradients flow back to where the rows came from."""
        return tf.distribute.get_replica_context().all_gather(tensor, axis=0) if self.replicas > 1 else tensor

    def sum(self, tensors: Any) -> Any:
        """Sum over all replicas, within :meth:`run`."""
        if self.replicas == 1:
            return tensors
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tensors)

    def _sum_copy(self, value: tf.Tensor) -> tf.Tensor:
        # What comes from outside lies on no device that a sum could be sent to.
        return self.sum(tf.identity(value))

    def agree(self, value: float) -> float:
        """The chief's number, on every machine: machines may differ in the last bit and must not part ways over it."""
        if self.strategy is None or self.strategy.cluster_resolver is None:
            return value
        mine = tf.constant(value if self.chief else 0.0, tf.float64)
        return float(self._total(mine)) / len(self.strategy.extended.worker_devices)


def choose_distribution(devices: Sequence[str] | None = None) -> Distribution:
    """What this process should train on.

    ``TF_CONFIG`` with more than one machine: all of them (MultiWorkerMirroredStrategy). Several GPUs: all of them
    (MirroredStrategy). Else one device.

    Args:
        devices: names of the devices of this machine to train on, such as ``["GPU:0", "GPU:1"]``, instead.

    Raises:
        DeviceError: there is no such device.
        ValueError: if ``TF_CONFIG`` can't be read.
    """
    if chosen := use_devices(devices or ()):
        return Distribution(None if chosen in (["CPU:0"], ["GPU:0"]) else tf.distribute.MirroredStrategy(chosen))
    if text := os.environ.get("TF_CONFIG"):
        try:
            cluster = json.loads(text).get("cluster", {})
            machines = sum(len(addresses) for addresses in cluster.values())
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(
                'TF_CONFIG can\'t be read. It must look like {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
                '"task": {"type": "worker", "index": 0}}.'
            ) from error
        if machines > 1:
            return Distribution(tf.distribute.MultiWorkerMirroredStrategy())
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return Distribution(tf.distribute.MirroredStrategy())
    return Distribution()
