"""The fused Adam makes the steps of Keras's own."""

import keras
import numpy as np
import pytest

from shop_similarity.training.learning.optimizers import FusedAdam, FusedAdamW


@pytest.mark.parametrize(
    ("fused", "plain", "options"),
    [
        (FusedAdam, keras.optimizers.Adam, {}),
        (FusedAdam, keras.optimizers.Adam, {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3}),
        (FusedAdamW, keras.optimizers.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_steps_are_those_of_keras(fused, plain, options):
    generator = np.random.default_rng(0)
    start = [generator.normal(size=(5, 7)).astype("float32"), generator.normal(size=7).astype("float32")]
    variables = [[keras.Variable(value) for value in start] for _ in range(2)]
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 8, warmup_target=0.05, warmup_steps=2)
    optimizers = [fused(schedule, **options), plain(schedule, **options)]
    for optimizer, values in zip(optimizers, variables, strict=True):
        optimizer.build(values)
    for _ in range(10):
        gradients = [generator.normal(size=value.shape).astype("float32") for value in start]
        for optimizer, values in zip(optimizers, variables, strict=True):
            optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in gradients], values)
    for one, other, begin in zip(*variables, start, strict=True):
        assert np.allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
        assert np.abs(one.numpy() - begin).max() > 0.05
    assert [v.shape for v in optimizers[0].variables] == [v.shape for v in optimizers[1].variables]
