"""How a model is trained: every number that decides about it, in one record that goes into the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("cosine", "step", "constant")
MONITORS = ("val_accuracy", "val_loss", "recall_at_1", "mean_average_precision")


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of a training run.

    Attributes:
        loss: a key of :data:`shop_similarity.training.learning.losses.LOSSES`.
        loss_options: its margins, temperature and so on; what is missing takes the loss's own default.
        nonzero: average the loss over terms that are not zero.
        miner: a key of :data:`shop_similarity.training.learning.miners.MINERS`, for losses over triplets, or None.
        epochs: at most.
        patience: epochs without a better validation after which training ends; 0 never ends it early.
        monitor: the figure by which the best epoch is chosen.
        optimizer: ``"adam"``, ``"adamw"`` or ``"sgd"``.
        learning_rate: the largest.
        schedule: ``"cosine"`` falls to 0 over all epochs, ``"step"`` falls by ``step_factor`` every ``step_epochs``.
        warmup: share of all steps over which the rate rises from 0, with ``"cosine"``.
        step_epochs: see ``schedule``.
        step_factor: see ``schedule``.
        momentum: of ``"sgd"``.
        weight_decay: of ``"adamw"``.
        clip: largest norm of the whole gradient; 0 does not clip.
        accumulate: batches whose gradients are averaged into one step.
        backbone_rate: learning rate of the backbone's layers as a multiple of the head's.
        anchor: weight of the penalty for changes of the cosines between the photos of a batch, compared with the
            start: mean squared difference, over all pairs. It holds on to what the start knew of photos that the
            triplets say nothing about (similarity-preserving distillation, Tung and Mori, arXiv 1907.09682).
        l2_start: weight of half the squared distance of the weights from the start (L2-SP, Li et al., arXiv
            1802.01483, eq. 4).
        average: decay of the running average of the weights, whose result is evaluated and kept; 0 averages nothing.
        blend: share of the trained weights in what is evaluated and kept, the rest being the start's (WiSE-FT,
            Wortsman et al., arXiv 2109.01903, eq. 1). 1 keeps the trained weights alone.
        twins: whether two views of one photo are positives of each other.
        seed: of everything that is drawn.
        checkpoint_seconds: also within an epoch, a checkpoint is written about so often.
        keep_checkpoints: the newest that are kept; 0 keeps all.

    Raises:
        ValueError: for a value that makes no sense.
    """

    loss: str = "supcon"
    loss_options: dict[str, float] = field(default_factory=dict)
    nonzero: bool = False
    miner: str | None = None
    epochs: int = 8
    patience: int = 3
    monitor: str = "val_accuracy"
    optimizer: str = "adam"
    learning_rate: float = 2.5e-4
    schedule: str = "cosine"
    warmup: float = 0.05
    step_epochs: int = 5
    step_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float = 0.0
    accumulate: int = 1
    backbone_rate: float = 1.0
    anchor: float = 0.0
    l2_start: float = 0.0
    average: float = 0.0
    blend: float = 1.0
    twins: bool = False
    seed: int = 0
    checkpoint_seconds: float = 600.0
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("monitor", MONITORS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}.")
        for name in ("epochs", "accumulate", "step_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)!r}.")
        for name in ("patience", "weight_decay", "clip", "anchor", "l2_start", "keep_checkpoints", "backbone_rate"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)!r}.")
        for name in ("learning_rate", "step_factor", "checkpoint_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)!r}.")
        for name in ("warmup", "momentum", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)!r}.")
        if not 0 <= self.blend <= 1:
            raise ValueError(f"blend must be 0 to 1, not {self.blend!r}.")

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            ValueError: for an unknown key or a wrong value.
        """
        unknown = sorted(set(values) - {each.name for each in fields(cls)})
        if unknown:
            raise ValueError(f"Unknown training option: {', '.join(unknown)}.")
        return cls(**values)
