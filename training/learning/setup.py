"""What a training run is, apart from its data and its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shop_similarity.training.learning.options import SamplingOptions, TrainingOptions
from shop_similarity.training.networks.preprocessing import Preprocessing
from shop_similarity.training.photos.augmentation import Augmentation


@dataclass(frozen=True)
class Setup:
    """What ``run.json`` keeps, and a run that goes on reads back.

    Attributes:
        architecture: a key of :data:`shop_similarity.training.networks.architectures.ARCHITECTURES`.
        config: its options; ``frozen_through`` says what is trained.
        preprocessing: of the photos.
        weights_source: where the starting weights come from, for people.
        training: of the loop.
        sampling: of the batches.
        augmentation: how training photos are changed, or None.
        precision: Keras's dtype policy.
        cached: whether the frozen half is computed once and kept.
        calibrated: whether the head starts from unlabelled photos instead of random numbers.
    """

    architecture: str
    config: Mapping[str, Any]
    preprocessing: Preprocessing
    weights_source: str = ""
    training: TrainingOptions = field(default_factory=TrainingOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    augmentation: Augmentation | None = None
    precision: str = "float32"
    cached: bool = True
    calibrated: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {
            "config": dict(self.config),
            "preprocessing": self.preprocessing.to_dict(),
            "augmentation": None if self.augmentation is None else self.augmentation.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Setup:
        """Read back what :meth:`to_dict` wrote.

        Raises:
            ValueError: for an unknown key or a wrong value.
        """
        augmentation = values["augmentation"]
        return cls(
            **{
                **values,
                "preprocessing": Preprocessing.from_dict(values["preprocessing"]),
                "training": TrainingOptions.from_dict(values["training"]),
                "sampling": SamplingOptions.from_dict(values["sampling"]),
                "augmentation": None if augmentation is None else Augmentation.from_dict(augmentation),
            }
        )
