"""Training a guarded linear head in the space that its start maps to.

The start of a guarded head is a linear map that calibration has levelled: in the space behind it, all directions of the
features weigh about the same. In front of it a few directions weigh far more than the others, and an optimizer that
moves every weight equally far moves mostly along those; a head learns there what its photos have in common sooner than
what tells them apart. So the change is learned behind the start, ``y = z + g z D``, which takes a square matrix ``D``
of the features' own length instead of one as wide as the embedding; an embedding that answers two questions has one for
either. It is folded into the weights of the model whenever these are kept: the lift to the embedding's length is an
isometry and changes no cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import keras
import numpy as np

from shop_similarity.training.networks.architectures.parts import CHANGE, FAMILIARITY, FEATURES, HEAD, unit
from shop_similarity.training.networks.questions import Questions
from shop_similarity.training.networks.splitting import Split

# Of the energy along the strongest direction; weaker ones could not be told from rounding.
_LEAST = 1e-7
# Share of a change that may get lost between the two forms.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Frame:
    """The start without its lift.

    Attributes:
        start: ``(d, k)``.
        moved: lengths of the parts of the k numbers that are trained, from the first on.
        lift: ``(n, k)`` to ``(n, embedding_dim)``, an isometry.
        lower: back.
    """

    start: np.ndarray
    moved: tuple[int, ...]
    lift: Callable[[np.ndarray], np.ndarray]
    lower: Callable[[np.ndarray], np.ndarray]

    @classmethod
    def of(cls, kernel: np.ndarray, colours: int, questions: Questions | None) -> _Frame | None:
        """Of a start ``(d, embedding_dim)``; None where several features would map to the same."""
        if questions:
            length = min(len(kernel) - colours, questions.part_length)
            used = np.concatenate([np.arange(part.start, part.stop)[:length] for part in questions.parts[:2]])
            used = np.concatenate([used, np.arange(questions.parts[2].start, questions.parts[2].stop)])

            def lift(rows: np.ndarray) -> np.ndarray:
                parts = np.zeros((len(rows), questions.length), rows.dtype)
                parts[:, used] = rows
                return questions.lift(parts)

            def lower(vectors: np.ndarray) -> np.ndarray:
                return questions.in_parts(vectors)[:, used]

            return cls(lower(kernel), (length, length), lift, lower)
        energies, directions = np.linalg.eigh(kernel @ kernel.T)
        if not energies[0] > _LEAST * energies[-1]:
            return None
        # The symmetric root of the kernel times itself.
        root = (directions * np.sqrt(energies)) @ directions.T
        up = np.linalg.inv(root) @ kernel
        return cls(
            root, (len(kernel) - colours,), lambda rows: rows @ up.astype(rows.dtype), lambda vectors: vectors @ up.T
        )

    @property
    def slices(self) -> list[slice]:
        """Places of the parts that are trained."""
        ends = np.cumsum((0, *self.moved)).tolist()
        return [slice(*pair) for pair in pairwise(ends)]


class HeadSpace:
    """The form in which the change of a guarded head is trained.

    Args:
        model: with :data:`~shop_similarity.training.networks.architectures.parts.CHANGE`.
        split: its halves, between which the features lie.
        frame: of the model's start.
        bias: ``(k,)`` of it.
        scope: of the devices.
        questions: that the embedding answers, if it is more than one.

    Attributes:
        split: the same photos to embeddings that have the same cosines, of another length; its trainable half has the
            matrices ``D`` as its only trainable weights.
        parts: places of the parts that are trained; what stands behind them are the colours.
    """

    def __init__(
        self,
        model: keras.Model,
        split: Split,
        frame: _Frame,
        bias: np.ndarray,
        scope: AbstractContextManager,
        questions: Questions | None,
    ) -> None:
        self._model, self._frame, self._bias = model, frame, bias
        self.parts = frame.slices
        d, k = frame.start.shape
        with scope:
            features = keras.Input((d,), dtype="float32", name="features_in")
            start = keras.layers.Dense(k, dtype="float32", name="start", trainable=False)
            z = start(features)
            familiar = model.get_layer(FAMILIARITY)(features)
            self._changes = [
                keras.layers.Dense(
                    part.stop - part.start, use_bias=False, kernel_initializer="zeros", dtype="float32", name=name
                )
                for part, name in zip(self.parts, _names(self.parts), strict=True)
            ]
            changed = [
                z[:, part] + change(z[:, part]) * familiar
                for part, change in zip(self.parts, self._changes, strict=True)
            ]
            if (end := self.parts[-1].stop) < k:
                changed.append(z[:, end:])
            if questions:
                changed = [
                    unit(part, f"unit_part_{number}") * float(np.sqrt(share))
                    for number, (part, share) in enumerate(zip(changed, questions.stored, strict=True))
                ]
            joined = keras.layers.Concatenate(dtype="float32")(changed) if len(changed) > 1 else changed[0]
            whole = joined if questions else unit(joined, "unit_length")
            trainable = keras.Model([features], whole, name=f"{model.name}_in_its_space")
        start.set_weights([frame.start.astype(np.float32), bias.astype(np.float32)])
        self.split = Split(split.frozen, trainable, split.boundary)

    @classmethod
    def of(
        cls,
        model: keras.Model,
        split: Split,
        colours: int,
        scope: AbstractContextManager,
        questions: Questions | None = None,
    ) -> HeadSpace | None:
        """The space of a model's head; None where its change can't be trained there.

        That is a model without a guard, one whose backbone is trained as well, one that maps several features to the
        same embedding, and one whose change was trained in front of the start.

        Args:
            model: see above.
            split: its halves.
            colours: numbers at the end of the features that training leaves alone.
            scope: of the devices.
            questions: that the embedding answers, if it is more than one.
        """
        names = {layer.name for layer in model.layers}
        if CHANGE not in names or split.boundary != (FEATURES,):
            return None
        kernel, bias = (weights.astype(np.float64) for weights in model.get_layer(HEAD).get_weights())
        frame = _Frame.of(kernel, colours, questions)
        if frame is None or not (_is_kept(frame, kernel) and _is_kept(frame, bias[None])):
            return None
        space = cls(model, split, frame, frame.lower(bias[None])[0], scope, questions)
        return space if space.take() else None

    def lift(self, rows: np.ndarray) -> np.ndarray:
        """``(n, embedding_dim)``: what the model itself would give, of what the trainable half gives."""
        return self._frame.lift(rows)

    def fold(self) -> None:
        """Give the model the change as it is now."""
        kernel, bias = self._change([change.get_weights()[0].astype(np.float64) for change in self._changes])
        self._model.get_layer(CHANGE).set_weights([kernel.astype(np.float32), bias.astype(np.float32)])

    def take(self) -> bool:
        """Take the change over from the model; returns whether it is one that this space has."""
        kernel, bias = (weights.astype(np.float64) for weights in self._model.get_layer(CHANGE).get_weights())
        changes = [np.zeros((part.stop - part.start,) * 2) for part in self.parts]
        if kernel.any():
            lowered = self._frame.lower(kernel)
            for number, part in enumerate(self.parts):
                start = self._frame.start[:, part]
                changes[number] = np.linalg.solve(start.T @ start, start.T @ lowered[:, part])
        for change, matrix in zip(self._changes, changes, strict=True):
            change.set_weights([matrix.astype(np.float32)])
        found, moved = self._change(changes)
        lost = np.square(found - kernel).sum() + np.square(moved - bias).sum()
        return bool(lost <= _TOLERANCE**2 * max(np.square(kernel).sum(), 1e-12))

    def _change(self, changes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias of the model's change."""
        rows = np.zeros((len(self._frame.start) + 1, self._frame.start.shape[1]))
        for part, change in zip(self.parts, changes, strict=True):
            rows[:-1, part] = self._frame.start[:, part] @ change
            rows[-1, part] = self._bias[part] @ change
        lifted = self._frame.lift(rows)
        return lifted[:-1], lifted[-1]


def _names(parts: Sequence[slice]) -> list[str]:
    return [CHANGE, *(f"{CHANGE}_{number}" for number in range(2, len(parts) + 1))]


def _is_kept(frame: _Frame, rows: np.ndarray) -> bool:
    """Whether rows of the embedding's length lie in the space."""
    lost = np.abs(frame.lift(frame.lower(rows)) - rows).max()
    return bool(lost <= _TOLERANCE * max(np.abs(rows).max(), 1e-12))
