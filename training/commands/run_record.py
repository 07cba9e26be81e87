"""``run.json``: what a run was begun with, from which a run that was interrupted goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shop_similarity.training.triplets.checks import count_triplets

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData
    from shop_similarity.training.learning.run import Setup

# Options of every Django command, and of how it is called.
_NOT_OF_THE_RUN = {
    "verbosity",
    "settings",
    "pythonpath",
    "traceback",
    "no_color",
    "force_color",
    "skip_checks",
    "stdout",
    "stderr",
    "report_only",
    "run",
    "resume",
}
_PATHS = {
    "triplets",
    "images",
    "validation",
    "retrieval",
    "mix",
    "mix_images",
    "bystanders",
    "weights",
    "weights_cache",
    "cache",
}
# What may still be said when a run goes on.
_OF_THE_END = ("activate", "force", "no_store", "verbosity")


def new_record(setup: Setup, data: TrainingData, options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` is to hold, as plain JSON values."""
    import keras
    import tensorflow as tf

    sets = {"train": data.train, "validation": data.validation} | ({"old": data.old} if data.old else {})
    return {
        "architecture": setup.architecture,
        "started_from": options["fine_tune"] or setup.weights_source,
        "loss": setup.training.loss,
        "validation_root": str(data.validation.root.resolve()),
        "data": {name: count_triplets(triplets).to_dict() for name, triplets in sets.items()}
        | {"photos": len(data.paths), "sha256": data.sha256()},
        "setup": setup.to_dict(),
        "given": {name: _plain(options[name]) for name in sorted(options) if name not in _NOT_OF_THE_RUN},
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__},
    }


def resumed_options(options: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run was begun with; what is said now counts only about its end.

    Args:
        options: of the command that resumes.
        record: what :func:`new_record` gave when the run began.
    """
    before = {name: Path(value) if name in _PATHS and value else value for name, value in record["given"].items()}
    end = {name: options[name] or before.get(name) for name in _OF_THE_END}
    return {**options, **before, **end}


def _plain(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value
