"""The folder of a run as the command sees it: where it lies, and what it keeps to go on from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.training.files import private_folder
from shop_similarity.training.learning.folder import RUN_FILE, VALIDATION, write_json
from shop_similarity.training.learning.options import SamplingOptions, TrainingOptions
from shop_similarity.training.triplets.checks import count_triplets
from shop_similarity.training.triplets.table import Triplets, write_triplets
from shop_similarity.training.versions.weights_cache import default_weights_cache

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData
    from shop_similarity.training.learning.run import TrainingRun
    from shop_similarity.training.learning.setup import Setup

# The triplets of a run from clicks: the shop records more of them meanwhile.
CLICKS = "clicks.csv"
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
    "look_alike",
    "mix",
    "mix_images",
    "weights",
    "weights_cache",
    "cache",
}
# What may still be said when a run goes on.
_OF_THE_END = ("activate", "force", "no_store", "verbosity")
# Options of earlier versions without which the run would be another one.
_FORMER = ("anchor", "l2_start", "bystanders")


def cache_folder(options: Mapping[str, Any], name: str) -> Path:
    """Of what serves later runs as well: ``features`` of frozen layers, ``photos`` copied from the shop."""
    return (options["cache"] or default_weights_cache().parent / "cache") / name


def new_folder(options: Mapping[str, Any]) -> Path:
    """The folder of a new run: the one that is named, or one by time and name.

    Raises:
        CommandError: it holds a run.
    """
    name = options["name"] or options["architecture"] or "mildnet"
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
    folder = options["run"] or default_weights_cache().parent / "runs" / stem
    if (folder / RUN_FILE).exists():
        raise CommandError(
            _("%(folder)s holds a run already. Go on with it (--resume %(folder)s) or name another folder.")
            % {"folder": folder}
        )
    return folder


def make_folder(run: TrainingRun, clicks: Triplets | None, options: Mapping[str, Any]) -> None:
    """Make the folder of a new run, with all that it takes to go on with it later.

    Args:
        run: whose folder it is.
        clicks: triplets that clicks gave, which the shop could not make the same again.
        options: of the command.
    """
    private_folder(run.folder)
    write_triplets(run.data.validation, run.folder / VALIDATION)
    if clicks is not None:
        write_triplets(clicks, run.folder / CLICKS)
    write_json(run.folder / RUN_FILE, _record(run.setup, run.data, options))


def resumed_options(options: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run was begun with; what is said now counts only about its end.

    Args:
        options: of the command that resumes.
        record: ``run.json``.

    Raises:
        CommandError: the run was begun with an option that there is no more.
    """
    given = record["given"]
    if former := [f"--{name.replace('_', '-')}" for name in _FORMER if given.get(name)]:
        raise CommandError(
            _(
                "%(folder)s was begun with %(options)s, which there is no more, for it made no model better. Start a "
                "new run without it."
            )
            % {"folder": options["resume"], "options": " and ".join(former)}
        )
    # Earlier versions kept no defaults.
    defaults = {each.name: each.default for each in (*fields(TrainingOptions), *fields(SamplingOptions))}
    before = {
        name: Path(value) if name in _PATHS and value else defaults.get(name) if value is None else value
        for name, value in given.items()
    }
    end = {name: options[name] or before.get(name) for name in _OF_THE_END}
    return {**options, **before, **end}


def _record(setup: Setup, data: TrainingData, options: Mapping[str, Any]) -> dict[str, Any]:
    """``run.json``, as plain JSON values."""
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


def _plain(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value
