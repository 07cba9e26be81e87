"""What the architectures are made of besides their backbones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from shop_similarity.training.networks.backbones.trunk import NORMALISATION, Trunk
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.networks.questions import Questions
from shop_similarity.training.plain_values import PlainValues

# The layer whose output is what the last Dense layer, or the head that ends in it, is fed with.
FEATURES = "features"
# The last Dense layer.
HEAD = "embedding"
# What training adds to the last Dense layer in a guarded model, and how far a photo gets it.
CHANGE = "change"
FAMILIARITY = "familiarity"


class Config(PlainValues):
    """Options of an architecture."""

    backbone: str
    embedding_dim: int
    hidden: tuple[int, ...]
    dropout: float
    frozen_through: str | None
    width: float

    def _check_head(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout!r}.")
        if self.embedding_dim < 1 or any(width < 1 for width in self.hidden):
            raise ValueError("embedding_dim and the hidden widths must be positive.")
        if not self.width > 0:
            raise ValueError(f"width must be above 0, not {self.width!r}.")


@keras.saving.register_keras_serializable(package="shop_similarity")
class GeneralizedMeanPooling2D(keras.layers.Layer):
    """Generalised mean over the positions (Radenovic et al., arXiv 1711.02512, eq. 3) with a fixed exponent.

    ``(B, H, W, C)`` of non-negative numbers becomes ``(B, C)``; exponent 1 is the average, infinity the maximum.
    """

    def __init__(self, power: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.power = power

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        # Zero has no finite gradient under the outer root.
        raised = keras.ops.power(keras.ops.maximum(inputs, 1e-6), self.power)
        return keras.ops.power(keras.ops.mean(raised, axis=(1, 2)), 1.0 / self.power)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable(package="shop_similarity")
class PowerNormalization(keras.layers.Layer):
    """Raises numbers to a fixed power and keeps their sign (Perronnin et al., ECCV 2010, section 3.1).

    A power below 1 keeps a few large activations from deciding the cosine alone.
    """

    def __init__(self, power: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.power = power

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        sizes = keras.ops.maximum(keras.ops.absolute(inputs), 1e-12)
        return keras.ops.sign(inputs) * keras.ops.power(sizes, self.power)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "power": self.power}


@keras.saving.register_keras_serializable(package="shop_similarity")
class BoundedNormalization(keras.layers.Layer):
    """VisNet's norm (arXiv 1703.02344), ``x / sqrt(1 + |x|^2)``: ``(B, d)`` to lengths below 1, short ones left short.

    Unlike division by the length it has a gradient at 0.
    """

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return inputs / keras.ops.sqrt(1.0 + keras.ops.sum(keras.ops.square(inputs), axis=-1, keepdims=True))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@keras.saving.register_keras_serializable(package="shop_similarity")
class LocalResponseNormalization(keras.layers.Layer):
    """Normalisation over neighbouring channels (Krizhevsky et al., NIPS 2012, section 3.3), as Caffe computes it.

    ``x / (1 + alpha / size * s)^beta``, where s is the sum of squares of the ``size`` channels around each, of
    ``(B, H, W, C)``.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size
        self.alpha = alpha
        self.beta = beta

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        around = self.size // 2
        squares = keras.ops.pad(keras.ops.square(inputs), [[0, 0], [0, 0], [0, 0], [around, self.size - 1 - around]])
        channels = inputs.shape[-1]
        total = sum(squares[..., start : start + channels] for start in range(self.size))
        return inputs * keras.ops.power(1.0 + self.alpha / self.size * total, -self.beta)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta}


@keras.saving.register_keras_serializable(package="shop_similarity")
class LastRowsZero(keras.constraints.Constraint):
    """The last ``count`` rows of a kernel ``(d, length)`` are 0, so that the features that they weigh give nothing."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, kernel: keras.KerasTensor) -> keras.KerasTensor:
        kept = np.arange(kernel.shape[0]) < kernel.shape[0] - self.count
        return kernel * keras.ops.cast(kept[:, None], kernel.dtype)

    def get_config(self) -> dict[str, Any]:
        return {"count": self.count}


@keras.saving.register_keras_serializable(package="shop_similarity")
class FamiliarityGate(keras.layers.Layer):
    """How familiar features are: ``(B, d)`` to ``(B, 1)``, 1 for those like the training photos' and 0 for others.

    ``1 / (1 + exp((r - threshold) / width))``, r being the logarithm of the energy that the features have outside
    ``rank`` directions (:mod:`shop_similarity.training.heads.familiarity`). Training leaves it alone; with fresh
    weights it gives 1 for all.

    Args:
        rank: number of directions.
        width: of the passage from 1 to 0, in natural logarithms of energy.
    """

    def __init__(self, rank: int = 24, width: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rank = rank
        self.width = width

    def build(self, input_shape: tuple) -> None:
        length = input_shape[-1]
        self.mean = self.add_weight(name="mean", shape=(length,), initializer="zeros", trainable=False)
        self.directions = self.add_weight(
            name="directions", shape=(length, self.rank), initializer="zeros", trainable=False
        )
        # Above the energy of any features that were divided by their length.
        self.threshold = self.add_weight(
            name="threshold", shape=(), initializer=keras.initializers.Constant(20.0), trainable=False
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        centred = inputs - self.mean
        inside = keras.ops.matmul(centred, self.directions)
        outside = keras.ops.sum(keras.ops.square(centred), axis=-1, keepdims=True) - keras.ops.sum(
            keras.ops.square(inside), axis=-1, keepdims=True
        )
        residual = keras.ops.log(keras.ops.maximum(outside, 1e-12))
        return keras.ops.sigmoid((self.threshold - residual) / self.width)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank, "width": self.width}


@keras.saving.register_keras_serializable(package="shop_similarity")
class ReversedChannels(keras.layers.Layer):
    """``(B, H, W, 3)`` in RGB to the same in BGR."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return keras.ops.flip(inputs, axis=-1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@keras.saving.register_keras_serializable(package="shop_similarity")
class UnitParts(keras.layers.Layer):
    """``(B, length)`` to embeddings that answer two questions: each part gets the length that it has in all of them.

    There are no weights; see :class:`shop_similarity.training.networks.questions.Questions`.
    """

    def __init__(self, length: int, stored: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length
        self.stored = tuple(stored)
        self.trainable = False
        first, second, colours = self.stored
        self._questions = Questions(length, (first, second, colours), (first, second, colours))

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        first, second = self._questions.signs
        rows = in_parts(self._questions, inputs)
        parts = [
            keras.ops.normalize(rows[:, part]) * float(np.sqrt(share))
            for part, share in zip(self._questions.parts, self.stored, strict=True)
        ]
        if (end := self._questions.parts[-1].stop) < self.length:
            parts.append(keras.ops.zeros_like(rows[:, end:]))
        lifted = _transformed(self._questions, keras.ops.concatenate(parts, axis=1) * first)
        return _transformed(self._questions, lifted * second)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "length": self.length, "stored": self.stored}


def in_parts(questions: Questions, rows: keras.KerasTensor) -> keras.KerasTensor:
    """:meth:`~shop_similarity.training.networks.questions.Questions.in_parts` of a tensor."""
    first, second = questions.signs
    return _transformed(questions, _transformed(questions, rows) * second) * first


def _transformed(questions: Questions, rows: keras.KerasTensor) -> keras.KerasTensor:
    one, other = (matrix.astype(np.float32) for matrix in questions.matrices)
    square = keras.ops.reshape(rows, (-1, len(one), len(other)))
    return keras.ops.reshape(keras.ops.matmul(keras.ops.matmul(one, square), other), (-1, questions.length))


def photos_and_pixels(preprocessing: Preprocessing) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input ``(B, size, size, 3)``, RGB, 0..255, and the same with the backbone's normalisation."""
    photos = keras.Input((preprocessing.size, preprocessing.size, 3), dtype="float32", name="photos")
    variance = [value**2 for value in preprocessing.std]
    pixels = keras.layers.Normalization(
        mean=list(preprocessing.mean), variance=variance, dtype="float32", name=NORMALISATION
    )(photos)
    if preprocessing.channels == "BGR":
        pixels = ReversedChannels(dtype="float32", name="channels")(pixels)
    return photos, pixels


def dense_layers(
    x: keras.KerasTensor, widths: tuple[int, ...], dropout: float, names: str = "hidden"
) -> keras.KerasTensor:
    """ReLU layers with dropout after each, in ``float32``, named ``hidden1``, ``dropout1`` and so on."""
    for number, width in enumerate(widths, start=1):
        x = keras.layers.Dense(width, activation="relu", dtype="float32", name=f"{names}{number}")(x)
        x = keras.layers.Dropout(dropout, dtype="float32", name=f"dropout{number}")(x)
    return x


def joined(parts: list[keras.KerasTensor], name: str = FEATURES) -> keras.KerasTensor:
    """The parts one after another, ``float32``, as the output of the layer ``name``."""
    if len(parts) == 1:
        return keras.layers.Identity(dtype="float32", name=name)(parts[0])
    return keras.layers.Concatenate(dtype="float32", name=name)(parts)


def embedding(
    x: keras.KerasTensor, length: int, activation: str = "linear", questions: Questions | None = None
) -> keras.KerasTensor:
    """The last Dense layer and the division by its length, or by those of its parts where it answers two questions."""
    x = keras.layers.Dense(length, activation=activation, dtype="float32", name=HEAD)(x)
    return _end(x, questions)


def guarded_embedding(
    x: keras.KerasTensor, length: int, rank: int, left_alone: int = 0, questions: Questions | None = None
) -> keras.KerasTensor:
    """A last Dense layer that stays as it is, what training adds to it where photos are familiar, and the division.

    Args:
        x: ``(B, d)`` features.
        length: of the embedding.
        rank: of the :class:`FamiliarityGate`.
        left_alone: training adds nothing to what the last so many features give.
        questions: that the embedding answers, if it is more than one.
    """
    start = keras.layers.Dense(length, dtype="float32", name=HEAD, trainable=False)(x)
    change = keras.layers.Dense(
        length,
        kernel_initializer="zeros",
        kernel_constraint=LastRowsZero(left_alone) if left_alone else None,
        dtype="float32",
        name=CHANGE,
    )(x)
    familiar = FamiliarityGate(rank, dtype="float32", name=FAMILIARITY)(x)
    change = keras.layers.Multiply(dtype="float32", name="familiar_change")([change, familiar])
    return _end(keras.layers.Add(dtype="float32", name="changed")([start, change]), questions)


def _end(x: keras.KerasTensor, questions: Questions | None) -> keras.KerasTensor:
    if questions is None:
        return unit(x, "unit_length")
    return UnitParts(questions.length, questions.stored, dtype="float32", name="unit_parts")(x)


def unit(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Division by the length, in ``float32``."""
    return keras.layers.UnitNormalization(dtype="float32", name=name)(x)


def freeze(model: keras.Model, trunk: Trunk, through: str | None, batch_norm: bool = True) -> None:
    """Keep training away from the lower part of a model.

    Args:
        model: with the trunk's layers in it.
        trunk: which.
        through: the last layer, or the tap, up to which nothing is trained; ``"default"`` leaves it to each
            backbone, ``None`` freezes nothing. Of several backbones, those that it does not belong to are left alone.
        batch_norm: whether all batch normalisations keep their statistics too, also where other layers are trained. A
            batch of triplets is too small and too alike for statistics of its own.

    Raises:
        ValueError: if ``through`` is neither a tap nor a layer of the model.
    """
    names = {layer.name for layer in model.layers}
    for last in trunk.last_frozen(through):
        if last not in names:
            taps = ", ".join(trunk.taps)
            raise ValueError(f"frozen_through names neither a layer of the model nor a tap ({taps}): {through!r}.")
        for layer in keras.Model(model.input, model.get_layer(last).output).layers:
            layer.trainable = False
    if batch_norm:
        # Also those within an encoder.
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False


def feature_model(model: keras.Model) -> keras.Model:
    """The same model up to :data:`FEATURES`: photos to ``(B, feature_dim)``."""
    return keras.Model(model.input, model.get_layer(FEATURES).output, name=f"{model.name}_features")
