"""Adam whose whole update is one pass over memory.

The head alone has six to seven million weights. Keras's own Adam makes some ten passes over them and their moments in
each step, which on a CPU takes as long as the rest of the step; TensorFlow has a kernel that does the same in one.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class _FusedUpdate:
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
