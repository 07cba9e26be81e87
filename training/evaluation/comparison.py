"""Several models and baselines, measured on the same photos."""

from __future__ import annotations

from typing import Any

from shop_similarity.intervals import Estimate
from shop_similarity.training.evaluation.results import rounded, rounded_interval
from shop_similarity.training.evaluation.validation import Evaluation, Validation


class Comparison:
    """What one run has measured.

    Args:
        validation: what everything was measured on.

    Attributes:
        models: evaluations of model versions by name.
        baselines: evaluations of baselines by name.
        titles: of the baselines, for people.
        reference: name of the model that the others are compared with: the active one, or else the first.
    """

    def __init__(self, validation: Validation) -> None:
        self.validation = validation
        self.models: dict[str, Evaluation] = {}
        self.baselines: dict[str, Evaluation] = {}
        self.titles: dict[str, str] = {}
        self.reference: str | None = None
        self._seconds: dict[Evaluation, float] = {}

    def add_model(self, name: str, evaluation: Evaluation, seconds: float, active: bool = False) -> None:
        """Add a model version; ``seconds`` is how long it took to embed the photos, loading included."""
        self.models[name] = evaluation
        self._seconds[evaluation] = seconds
        if active or self.reference is None:
            self.reference = name

    def add_baseline(self, name: str, title: str, evaluation: Evaluation, seconds: float) -> None:
        """Add a baseline."""
        self.baselines[name] = evaluation
        self.titles[name] = title
        self._seconds[evaluation] = seconds

    def rows(self) -> list[tuple[str, Evaluation]]:
        """Everything that was measured, by its title for people: the models, then the baselines."""
        return [*self.models.items(), *((self.titles[name], evaluation) for name, evaluation in self.baselines.items())]

    def difference(self, evaluation: Evaluation) -> dict[str, dict[str, Estimate]] | None:
        """By how much it is better than the reference, paired; ``None`` for the reference itself or without one."""
        if self.reference is None or evaluation is self.models[self.reference]:
            return None
        return evaluation.difference(self.models[self.reference])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: ``set``, ``photos``, ``reference``, ``models`` and ``baselines``.

        The last two hold, by name, what :meth:`~shop_similarity.training.evaluation.validation.Evaluation.to_dict`
        gives, ``seconds``, and, but for the reference, ``difference``: by part and metric ``value`` and ``interval``.
        """
        return {
            "set": self.validation.sha256,
            "photos": len(self.validation.paths),
            "reference": self.reference,
            "models": {name: self._figures(evaluation) for name, evaluation in self.models.items()},
            "baselines": {name: self._figures(evaluation) for name, evaluation in self.baselines.items()},
        }

    def _figures(self, evaluation: Evaluation) -> dict[str, Any]:
        figures = evaluation.to_dict() | {"seconds": round(self._seconds[evaluation], 2)}
        difference = self.difference(evaluation)
        if difference is not None:
            figures["difference"] = {
                part: {
                    metric: {"value": rounded(estimate.value), "interval": rounded_interval(estimate)}
                    for metric, estimate in estimates.items()
                }
                for part, estimates in difference.items()
            }
        return figures
