"""One step of training: forward pass, loss, gradients, update.

All photos of a batch go through the network in one pass, whatever their part in a triplet. The parts below the first
trainable layer run without a gradient, in inference mode.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from shop_similarity.training.heads.calibration import ONE_COLOUR
from shop_similarity.training.learning.distribution import Distribution
from shop_similarity.training.learning.losses import Loss, correct, make_loss
from shop_similarity.training.learning.miners import MINERS
from shop_similarity.training.learning.optimizers import make_optimizer
from shop_similarity.training.learning.options import TrainingOptions
from shop_similarity.training.networks.splitting import Split

# Loss scaling of float16 (Micikevicius et al., arXiv 1710.03740): doubled after so many good steps.
_FIRST_SCALE = 2.0**15
_STEPS_TO_DOUBLE = 2000


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a step is given.

    Attributes:
        features: boundary tensors ``(N, ...)``, or one array of photos ``(N, size, size, 3)`` ``uint8``.
        rows: ``(B, 3)`` places of the triplets' photos.
        positive: ``(N, N)`` bool.
        negative: ``(N, N)`` bool.
        instances: ``(N, N)`` bool, photos of one product or style: those of the positives that do not only look alike.
        categories: ``(N,)`` int32 numbers of categories, below 0 where nobody knows.
    """

    features: Sequence[np.ndarray]
    rows: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    instances: np.ndarray
    categories: np.ndarray


@dataclass(frozen=True)
class StepResult:
    """The figures of a step.

    Attributes:
        loss: mean over the terms of all batches of the step; without that of the categories, unless the embedding
            answers two questions.
        correct: triplets with the negative farther than the positive.
        triplets: all of them.
        photos: that went through the network.
    """

    loss: float
    correct: int
    triplets: int
    photos: int


class TrainingStep:
    """Trains the trainable half of a split model.

    Args:
        split: the model.
        options: see :class:`~shop_similarity.training.learning.options.TrainingOptions`.
        total_steps: of the whole run, for the schedule.
        steps_per_epoch: for the schedule.
        from_photos: whether the inputs are photos, which go through the frozen half in every step.
        distribution: devices.
        backbone: names of the layers that ``backbone_rate`` holds for.
        colours: numbers at the end of the inputs that are a histogram of colours; 0 for none.
        questions: from embeddings to what look-alikes and what photos of one product are compared by, each of length 1;
            None where that is the whole.

    Raises:
        ValueError: for options that the loss or the miner does not have.
    """

    def __init__(
        self,
        split: Split,
        options: TrainingOptions,
        total_steps: int,
        steps_per_epoch: int,
        from_photos: bool = False,
        distribution: Distribution | None = None,
        backbone: Collection[str] = (),
        colours: int = 0,
        questions: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]] | None = None,
    ) -> None:
        self.split = split
        self.options = options
        self.loss = chosen_loss(options)
        self._colours = colours
        over_pairs = self.loss.kind == "batch"
        self._by_category = options.category_weight if over_pairs else 0.0
        self._by_look = options.look_alike_weight if over_pairs and colours else 0.0
        self._questions = questions if over_pairs and colours else None
        self._miner = MINERS[options.miner] if options.miner else None
        self._from_photos = from_photos
        self._distribution = distribution or Distribution()
        self._model = split.trainable
        self._variables = list(self._model.trainable_variables)
        slow = {
            id(variable)
            for layer in self._model.layers
            if layer.name in backbone
            for variable in layer.trainable_variables
        }
        self._slow = [v for v in self._variables if id(v) in slow] if options.backbone_rate != 1 else []
        self._float16 = any(getattr(layer, "compute_dtype", "") == "float16" for layer in self._model.layers)
        self._scale, self._good_steps = _FIRST_SCALE, 0
        with self._distribution.scope():
            fused = self._distribution.strategy is None
            self.optimizer = make_optimizer(options, total_steps, steps_per_epoch, fused)
            self.optimizer.build(self._variables)
            self._averages = [_copy(v) for v in self._variables] if options.average else []
            self._start = [_copy(v) for v in self._model.weights] if options.blend != 1 else []
        self._compile()

    def __call__(self, batches: Sequence[Inputs]) -> StepResult:
        """Make one step on one batch, or on several as if they were one.

        Each batch counts by the terms that its loss is the mean of. So the step of a loss over triplets is that of one
        batch with all of them; losses over batches and miners see each batch by itself.

        Returns:
            The figures before the step. Where the loss is not finite, training has gone wrong and the weights are
            spoilt: go back to a checkpoint.
        """
        triplets = sum(len(batch.rows) for batch in batches)
        photos = sum(len(batch.features[0]) for batch in batches)
        if len(batches) == 1 and not self._float16:
            loss, right = self._whole(*self._arguments(batches[0]))
            return StepResult(float(loss), int(right), triplets, photos)
        total: list[tf.Tensor] = []
        sums, rights = np.zeros(2), 0
        scale = tf.constant(self._scale if self._float16 else 1.0, tf.float32)
        for batch in batches:
            loss, count, right, gradients = self._gradients(*self._arguments(batch), scale)
            sums += float(loss) * float(count), float(count)
            rights += int(right)
            shares = [gradient * count for gradient in gradients]
            total = shares if not total else [one + other for one, other in zip(total, shares, strict=True)]
        gradients = [gradient / max(sums[1], 1.0) for gradient in total]
        finite = bool(self._finite(gradients))
        if finite:
            self._apply(gradients)
        # Without a scale that could be smaller, a step that can't be made will never be.
        stuck = not finite and (not self._float16 or self._scale <= 1)
        result = StepResult(np.nan if stuck else float(sums[0] / max(sums[1], 1.0)), rights, triplets, photos)
        if self._float16:
            # A scale too large overflows: the step is left out and tried no more with it.
            self._good_steps = self._good_steps + 1 if finite else 0
            if not finite:
                self._scale = max(1.0, self._scale / 2)
            elif self._good_steps >= _STEPS_TO_DOUBLE:
                self._scale, self._good_steps = self._scale * 2, 0
        return result

    def evaluate(self, embeddings: np.ndarray, rows: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
        """The loss of a batch of given embeddings."""
        return float(
            self._loss_of(
                tf.constant(embeddings, tf.float32), tf.constant(rows), tf.constant(positive), tf.constant(negative)
            )
        )

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    @contextmanager
    def kept_weights(self) -> Iterator[None]:
        """The model has the weights that are measured and kept: averaged and blended with the start, if asked for."""
        if not self._averages and not self._start:
            yield
            return
        weights = self._model.get_weights()
        for variable, average in zip(self._variables, self._averages, strict=False):
            variable.assign(average)
        if self._start:
            share = self.options.blend
            self._model.set_weights(
                [
                    (share * trained + (1 - share) * start.numpy()).astype(trained.dtype)
                    for trained, start in zip(self._model.get_weights(), self._start, strict=True)
                ]
            )
        try:
            yield
        finally:
            self._model.set_weights(weights)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that has to be kept to go on from here."""
        return {name: keras.ops.convert_to_numpy(variable) for name, variable in self._state().items()}

    def numbers(self) -> dict[str, float]:
        """The rest of it, plain JSON values."""
        return {"loss_scale": self._scale, "good_steps": self._good_steps}

    def restore(self, arrays: Mapping[str, np.ndarray], numbers: Mapping[str, float]) -> None:
        """Take up what :meth:`arrays` and :meth:`numbers` gave.

        Raises:
            ValueError: if they are of another model or other options.
        """
        state = self._state()
        if set(state) != set(arrays) or any(
            tuple(variable.shape) != arrays[name].shape for name, variable in state.items()
        ):
            raise ValueError("The checkpoint is of another model or of other options. Start a new run.")
        for name, variable in state.items():
            variable.assign(arrays[name])
        self._scale, self._good_steps = float(numbers["loss_scale"]), int(numbers["good_steps"])

    def _state(self) -> dict[str, Any]:
        groups = {
            # Also the moving statistics of batch normalisation and the states of random generators.
            "model": self._model.variables,
            "optimizer": self.optimizer.variables,
            "average": self._averages,
            "blend": self._start,
        }
        return {f"{group}/{place:04d}": v for group, values in groups.items() for place, v in enumerate(values)}

    def _arguments(self, batch: Inputs) -> tuple[Any, ...]:
        features = self._distribution.cut(batch.features)
        return features, *map(
            tf.constant, (batch.rows, batch.positive, batch.negative, batch.instances, batch.categories)
        )

    def _compile(self) -> None:
        rest = (
            tf.TensorSpec((None, 3), tf.int32),
            *[tf.TensorSpec((None, None), tf.bool)] * 3,
            tf.TensorSpec((None,), tf.int32),
        )
        # Batches differ in the number of their photos, which must not be compiled anew each time.
        if self._distribution.strategy:
            self._whole = tf.function(self._whole_step, reduce_retracing=True, autograph=False)
            self._gradients = tf.function(self._gradients_of, reduce_retracing=True, autograph=False)
        else:
            if self._from_photos:
                features = [tf.TensorSpec((None, *self.split.frozen.input_shape[1:]), tf.uint8)]
            else:
                features = [
                    tf.TensorSpec((None, *shape), tf.float32 if len(shape) == 1 else tf.float16)
                    for shape in self.split.shapes
                ]
            self._whole = tf.function(self._whole_step, input_signature=[features, *rest], autograph=False)
            self._gradients = tf.function(
                self._gradients_of,
                input_signature=[features, *rest, tf.TensorSpec((), tf.float32)],
                autograph=False,
            )
        self._apply = tf.function(self._update, autograph=False)
        self._finite = tf.function(
            lambda gradients: tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        )
        self._loss_of = tf.function(
            self.loss.__call__, input_signature=[tf.TensorSpec((None, None), tf.float32), *rest[:3]], autograph=False
        )

    def _whole_step(self, features: Any, *rest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        loss, _, right, gradients = self._gradients_of(features, *rest, tf.constant(1.0))
        self._update(gradients)
        return loss, right

    def _gradients_of(self, features: Any, *rest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        return self._distribution.run(self._replica_gradients, features, *rest)

    def _replica_gradients(
        self,
        features: Any,
        rows: tf.Tensor,
        positive: tf.Tensor,
        negative: tf.Tensor,
        instances: tf.Tensor,
        categories: tf.Tensor,
        scale: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        replicas = self._distribution.replicas
        features = boundary(self.split, features, self._from_photos)
        with tf.GradientTape() as tape:
            embeddings = self._distribution.gather(self._model(features, training=True))
            triplets = self._miner(embeddings, positive, negative) if self._miner else rows
            loss, count, whole = self._losses(
                embeddings, features[0], triplets, positive, negative, instances, categories
            )
            # Every replica takes the whole loss; summed over them the gradient would be that many times too large.
            scaled = whole * scale / replicas
        gradients = tape.gradient(scaled, [v.value for v in self._variables])
        gradients = [
            tf.zeros_like(variable.value) if gradient is None else tf.convert_to_tensor(gradient)
            for gradient, variable in zip(gradients, self._variables, strict=True)
        ]
        gradients = [gradient / scale for gradient in self._distribution.sum(gradients)]
        right = tf.reduce_sum(tf.cast(correct(embeddings, rows), tf.int32))
        return loss, count, right, gradients

    def _losses(
        self,
        embeddings: tf.Tensor,
        features: tf.Tensor,
        rows: tf.Tensor,
        positive: tf.Tensor,
        negative: tf.Tensor,
        instances: tf.Tensor,
        categories: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The loss that is told, how many terms it is the mean of, and the sum of all losses.

        What is told is the loss by what triplets name; of two questions it is the sum, by triplet, for there may be no
        second photo of any product.
        """
        alike: Any = None
        if self._by_look or self._questions:
            colours = self._distribution.gather(features[:, -self._colours :])
            alike = tf.matmul(colours, colours, transpose_b=True) >= ONE_COLOUR
        if self._questions:
            looks, products = self._questions(embeddings)
            # What shows a product in another colour is no look-alike of it; what looks like it need not be it.
            whole = self.loss(products, rows, instances, negative)
            whole += self.loss(looks, rows, instances & alike, negative)
            nearer = instances
        else:
            looks, nearer = embeddings, positive
            loss, count = self.loss.with_count(embeddings, rows, positive, negative)
            whole = loss
        if self._by_category or self._by_look:
            category, others = of_one_category(categories, nearer, negative)
            whole += self._by_category * self.loss(looks, rows, category, others)
        if self._by_look:
            others |= category & ~alike & negative
            whole += self._by_look * self.loss(looks, rows, category & alike, others)
        if self._questions:
            return whole, tf.cast(tf.shape(rows)[0], tf.float32), whole
        return loss, count, whole

    def _update(self, gradients: list[tf.Tensor]) -> None:
        if self.options.clip:
            gradients, _ = tf.clip_by_global_norm(gradients, self.options.clip)
        before = [tf.identity(variable.value) for variable in self._slow]
        # The optimizer sums over the replicas once more.
        shares = [gradient / self._distribution.replicas for gradient in gradients]
        self._distribution.run(self._optimize, shares)
        # Every optimizer's step is linear in the learning rate, so a part of the step is a smaller rate.
        for variable, value in zip(self._slow, before, strict=True):
            variable.value.assign(value + self.options.backbone_rate * (variable.value - value))
        decay = self.options.average
        for average, variable in zip(self._averages, self._variables, strict=False):
            average.assign(decay * average + (1 - decay) * variable.value)

    def _optimize(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        # Each replica needs a tensor of its own to sum over.
        self.optimizer.apply([tf.identity(gradient) for gradient in gradients], self._variables)
        return tf.constant(0)


def of_one_category(categories: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pairs of a batch by their categories.

    Args:
        categories: ``(N,)`` numbers, below 0 where nobody knows.
        positive: ``(N, N)`` bool, pairs that belong together more closely than by their category.
        negative: ``(N, N)`` bool, pairs that may be pushed apart.

    Returns:
        ``(N, N)`` bool each: different photos of one category, without ``positive``; and those of ``negative`` that are
        of different categories.
    """
    known = (categories >= 0)[:, None] & (categories >= 0)[None]
    same = categories[:, None] == categories[None]
    itself = tf.eye(tf.shape(categories)[0], dtype=tf.bool)
    return known & same & ~positive & ~itself, known & ~same & negative


def chosen_loss(options: TrainingOptions) -> Loss:
    """The loss of a run.

    Raises:
        ValueError: for a loss that there is not, options that it does not have, or a miner for a loss that takes none.
    """
    loss = make_loss(options.loss, nonzero=options.nonzero, **options.loss_options)
    if options.miner is not None and loss.kind != "triplet":
        raise ValueError(f"The loss {options.loss} looks at all pairs of a batch: it takes no miner.")
    return loss


def boundary(split: Split, features: Any, from_photos: bool) -> list[tf.Tensor]:
    """Boundary tensors in the types that the trainable half expects, of photos or of cached features."""
    if from_photos:
        features = split.features(features[0])
    return [
        tf.stop_gradient(tf.cast(feature, tensor.dtype))
        for feature, tensor in zip(features, split.trainable.inputs, strict=True)
    ]


def _copy(variable: keras.Variable) -> tf.Variable:
    return tf.Variable(keras.ops.convert_to_numpy(variable), trainable=False)
