"""Options of a training run: each stands here once, with its default, its range and its help.

``train_mildnet`` derives its arguments from them (:mod:`shop_similarity.training.commands.arguments`), and the record
of a run keeps their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from shop_similarity.training.learning.relations import NEGATIVES
from shop_similarity.training.plain_values import PlainValues

# Options that there were once. None of them made a run better; records of runs that left them alone still name them.
_FORMER = {"anchor", "l2_start", "twins", "bystanders", "plain_view"}

# Options that there were not from the beginning: a run whose record does not name them goes on without.
_LATER = {"category_weight": 0.0, "look_alike_weight": 0.0, "epoch_batches": 1}

# What can be watched only where there is a retrieval set.
NEEDS_RETRIEVAL = ("recall_at_1", "mean_average_precision")
# What can be watched only where there is a look-alike set.
NEEDS_LOOK_ALIKE = ("look_alike_ndcg_at_10", "look_alike_map")
LOSS, BATCHES, STEPS, RUN, DATA = "loss", "batches", "epochs and steps", "run", "data"


@dataclass(frozen=True)
class _Range:
    words: str
    holds: Callable[[Any], bool]


_COUNT = _Range("1 or more", lambda value: value >= 1)
_NOT_NEGATIVE = _Range("0 or more", lambda value: value >= 0)
_POSITIVE = _Range("above 0", lambda value: value > 0)
_SHARE = _Range("0 to 1", lambda value: 0 <= value <= 1)
_BELOW_ONE = _Range("at least 0 and below 1", lambda value: 0 <= value < 1)
_PART = _Range("above 0 and below 1", lambda value: 0 < value < 1)


def _option(
    default: Any, group: str, help: str, within: _Range | None = None, *, choices: Sequence[str] = (), metavar: str = ""
) -> Any:
    """A field, and the argument that is derived from it: ``--`` and its name, of the type of its default.

    Args:
        default: True or False for a switch.
        group: of arguments in ``--help``.
        help: for people; ``%(choices)s`` stands for the choices.
        within: what values there are.
        choices: the only values, besides the default.
        metavar: what stands for a name in ``--help``; numbers have letters of their own.
    """
    return field(
        default=default,
        metadata={"group": group, "help": help, "range": within, "choices": choices, "metavar": metavar},
    )


class Options(PlainValues):
    """A frozen dataclass whose fields are made by :func:`_option`.

    Raises:
        ValueError: for a value that makes no sense.
    """

    kind: ClassVar[str] = "training option"

    def __post_init__(self) -> None:
        for each in fields(self):
            value, choices, within = getattr(self, each.name), each.metadata.get("choices"), each.metadata.get("range")
            if choices and value not in (*choices, each.default):
                raise ValueError(f"{each.name} must be one of {', '.join(choices)}, not {value!r}.")
            if within and not within.holds(value):
                raise ValueError(f"{each.name} must be {within.words}, not {value!r}.")

    @classmethod
    def of_arguments(cls, arguments: Mapping[str, Any], **others: Any) -> Self:
        """From the values of the derived arguments, by name, and of fields that have none."""
        return cls(**{each.name: arguments[each.name] for each in fields(cls) if each.metadata}, **others)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_dict` wrote, now or in an earlier version.

        Raises:
            ValueError: for an unknown key or a wrong value.
        """
        names = {each.name for each in fields(cls)}
        former = _FORMER - names
        later = {name: value for name, value in _LATER.items() if name in names}
        return super().from_dict(later | {name: value for name, value in values.items() if name not in former})


@dataclass(frozen=True, slots=True)
class TrainingOptions(Options):
    """How a model is trained on the batches that it is given.

    ``loss_options`` are margins, temperature and so on; what is missing takes the loss's own default. ``blend`` is
    WiSE-FT (Wortsman et al., arXiv 2109.01903, eq. 1).
    """

    loss: str = _option(
        "supcon",
        LOSS,
        "supcon, infonce or multi-similarity over all pairs of a batch; contrastive, contrastive-margins, triplet, "
        "triplet-squared, triplet-both or angular over its triplets",
        metavar="NAME",
    )
    loss_options: dict[str, float] = field(default_factory=dict)
    nonzero: bool = _option(False, LOSS, "Average the loss over terms that are not zero")
    category_weight: float = _option(
        0.5,
        LOSS,
        "For losses over all pairs of a batch, weight of the same loss with photos of one category as positives and "
        "those of others as negatives, as far as triplets name negatives within a category; 0 for none",
        _NOT_NEGATIVE,
    )
    look_alike_weight: float = _option(
        0.5,
        LOSS,
        "Likewise with photos of one category and alike in colour as positives, all others as negatives, where a head "
        "is trained on features that hold a histogram of colours; 0 for none",
        _NOT_NEGATIVE,
    )
    miner: str | None = _option(
        None,
        LOSS,
        "For losses over triplets, choose negatives within the batch: %(choices)s",
        choices=("semi-hard", "hard"),
    )
    epochs: int = _option(4, STEPS, "At most so many", _COUNT)
    patience: int = _option(3, STEPS, "Stop after so many epochs without a better one; 0 never does", _NOT_NEGATIVE)
    monitor: str = _option(
        "auto",
        STEPS,
        "What the best epoch is best in: %(choices)s; auto is look_alike_ndcg_at_10 where there is a look-alike set, "
        "and else val_accuracy",
        choices=("auto", "val_accuracy", "val_loss", *NEEDS_RETRIEVAL, *NEEDS_LOOK_ALIKE),
    )
    optimizer: str = _option("adam", STEPS, "%(choices)s", choices=("adam", "adamw", "sgd"))
    learning_rate: float = _option(2.5e-4, STEPS, "The largest", _POSITIVE)
    schedule: str = _option(
        "cosine",
        STEPS,
        "How the learning rate goes on: cosine falls to 0, step now and then, constant stays",
        choices=("cosine", "step", "constant"),
    )
    warmup: float = _option(0.05, STEPS, "Share of all steps over which a cosine schedule rises first", _BELOW_ONE)
    step_epochs: int = _option(5, STEPS, "Epochs between the falls of a step schedule", _COUNT)
    step_factor: float = _option(0.1, STEPS, "What the learning rate is multiplied by then", _POSITIVE)
    momentum: float = _option(0.9, STEPS, "Of sgd", _BELOW_ONE)
    weight_decay: float = _option(1e-4, STEPS, "Of adamw", _NOT_NEGATIVE)
    clip: float = _option(0.0, STEPS, "Largest norm of the whole gradient; 0 does not clip", _NOT_NEGATIVE)
    accumulate: int = _option(1, STEPS, "Batches whose gradients are averaged into one step", _COUNT)
    backbone_rate: float = _option(
        1.0, STEPS, "Learning rate of the backbone as a multiple of the head's", _NOT_NEGATIVE
    )
    average: float = _option(
        0.0, STEPS, "Decay of the running average of the weights that is measured and kept; 0 for none", _BELOW_ONE
    )
    blend: float = _option(
        1.0, STEPS, "Share of the trained weights in what is measured and kept, the rest being the start's", _SHARE
    )
    seed: int = _option(0, RUN, "Of everything that is drawn")
    checkpoint_seconds: float = _option(600.0, RUN, "Save the state so often within an epoch", _POSITIVE)
    keep_epochs: int = _option(
        0, RUN, "Weights of so many of the newest epochs are kept by name, besides the best one's", _NOT_NEGATIVE
    )
    keep_checkpoints: int = _option(2, RUN, "So many of the newest; 0 keeps all", _NOT_NEGATIVE)


@dataclass(frozen=True, slots=True)
class SamplingOptions(Options):
    """How batches are put together."""

    batch_size: int = _option(64, BATCHES, "Triplets in a batch", _COUNT)
    epoch_batches: int = _option(
        75,
        BATCHES,
        "Batches that an epoch has at least: it goes through the triplets of a small shop several times; 1 for once",
        _COUNT,
    )
    per_instance: int = _option(
        0,
        BATCHES,
        "Batches of so many photos of each instance, thrice the batch size in all; 0 takes triplets as they are",
        _NOT_NEGATIVE,
    )
    by_category: bool = _option(True, BATCHES, "With --per-instance, draw each batch from one category")
    negatives: str = _option(
        "neighbours",
        LOSS,
        "Pairs of a batch that may be pushed apart: neighbours takes those that share no positive, batch all but "
        "positives, components those that no chain of positives links, explicit those that triplets name",
        choices=NEGATIVES,
    )
    views: int = _option(
        2, BATCHES, "Augmented views of each photo in the cache, besides the photo itself", _NOT_NEGATIVE
    )
    twins: bool = _option(False, BATCHES, "Put two views of each photo into its batch, as positives of each other")
    mix_share: float = _option(0.3, DATA, "Share of the old triplets in each batch", _PART)

    def __post_init__(self) -> None:
        # The base by name: a dataclass with slots is another class than the one that super() would look for.
        Options.__post_init__(self)
        if self.per_instance == 1:
            raise ValueError("Batches by instance need at least two photos of each instance.")
