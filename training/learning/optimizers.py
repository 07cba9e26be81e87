"""Optimizers and their learning rates.

The head alone has six to seven million weights. Keras's own Adam makes some ten passes over them and their moments in
each step, which on a CPU takes as long as the rest of the step; TensorFlow has a kernel that does the same in one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from shop_similarity.training.learning.options import TrainingOptions


def make_optimizer(
    options: TrainingOptions, total_steps: int, steps_per_epoch: int, fused: bool
) -> keras.optimizers.Optimizer:
    """The optimizer of a run, with its schedule.

    Args:
        options: of the run.
        total_steps: of the whole run.
        steps_per_epoch: for a step schedule.
        fused: whether Adam may be TensorFlow's kernel: for ``float32`` weights on one device.
    """
    rate = _schedule(options, total_steps, steps_per_epoch)
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=options.momentum)
    if options.optimizer == "adamw":
        return (FusedAdamW if fused else keras.optimizers.AdamW)(rate, weight_decay=options.weight_decay)
    return (FusedAdam if fused else keras.optimizers.Adam)(rate)


def _schedule(options: TrainingOptions, total_steps: int, steps_per_epoch: int) -> Any:
    schedules = keras.optimizers.schedules
    warmup = int(options.warmup * total_steps)
    if options.schedule == "cosine":
        after = max(1, total_steps - warmup)
        if not warmup:
            return schedules.CosineDecay(options.learning_rate, after)
        return schedules.CosineDecay(0.0, after, warmup_target=options.learning_rate, warmup_steps=warmup)
    if options.schedule == "step":
        return schedules.ExponentialDecay(
            options.learning_rate, options.step_epochs * steps_per_epoch, options.step_factor, staircase=True
        )
    # A schedule all the same, so that the optimizer's state has one form.
    return schedules.PiecewiseConstantDecay([total_steps + 1], [options.learning_rate, options.learning_rate])


class _FusedUpdate:
    # What it finds in the optimizer that it is mixed into.
    iterations: Any
    beta_1: float
    beta_2: float
    epsilon: float
    _momentums: list[Any]
    _velocities: list[Any]
    _get_variable_index: Callable[[Any], int]

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: Any) -> None:
        place = self._get_variable_index(variable)
        number = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[place]),
            v=_handle(self._velocities[place]),
            beta1_power=tf.pow(self.beta_1, number),
            beta2_power=tf.pow(self.beta_2, number),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class FusedAdam(_FusedUpdate, keras.optimizers.Adam):
    """:class:`keras.optimizers.Adam` (Kingma and Ba, arXiv 1412.6980) for ``float32`` weights on one device."""


class FusedAdamW(_FusedUpdate, keras.optimizers.AdamW):
    """:class:`keras.optimizers.AdamW` (Loshchilov and Hutter, arXiv 1711.05101), likewise."""


def _handle(variable: Any) -> tf.Tensor:
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
