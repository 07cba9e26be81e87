"""The folder of a run as the command sees it: where it lies, and what it keeps to go on from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

from shop_similarity.training.files import private_folder, replacement
from shop_similarity.training.heads import recipe
from shop_similarity.training.learning.folder import OLD, RUN_FILE, TRAIN, VALIDATION, write_json
from shop_similarity.training.learning.options import SamplingOptions, TrainingOptions
from shop_similarity.training.triplets.checks import count_triplets
from shop_similarity.training.triplets.sides import VALIDATION_SHARE
from shop_similarity.training.triplets.table import write_triplets
from shop_similarity.training.versions.weights_cache import default_weights_cache

if TYPE_CHECKING:
    from shop_similarity.training.commands.data import GatheredData
    from shop_similarity.training.learning.run import TrainingRun
    from shop_similarity.training.learning.setup import Setup

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
    *("triplets", "images", "validation", "retrieval", "look_alike", "test", "test_retrieval", "mix", "mix_images"),
    *("weights", "weights_cache", "cache"),
}
# What may still be said when a run goes on: where it computes, and what becomes of the result.
_OF_THE_END = ("devices", "name", "activate", "force", "no_store", "verbosity")
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
    name = options["name"] or options["architecture"] or recipe.DEFAULT
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
    folder = options["run"] or default_weights_cache().parent / "runs" / stem
    if (folder / RUN_FILE).exists():
        raise CommandError(
            _("%(folder)s holds a run already. Go on with it (--resume %(folder)s) or name another folder.")
            % {"folder": folder}
        )
    return folder


def make_folder(run: TrainingRun, gathered: GatheredData, leaks: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Make the folder of a new run, with all that it takes to go on with it later.

    Args:
        run: whose folder it is.
        gathered: what the run is made with.
        leaks: what :func:`shop_similarity.training.commands.leaks.look_for_leaks` gave.
        options: of the command.
    """
    data = run.data
    private_folder(run.folder)
    kept = {VALIDATION: data.validation} | ({TRAIN: data.train, OLD: data.old} if gathered.from_shop else {})
    for name, triplets in kept.items():
        if triplets is None:
            continue
        with replacement(run.folder / name) as part:
            write_triplets(triplets, part)
    # Last: a folder with a record can be gone on with.
    write_json(run.folder / RUN_FILE, {**_record(run.setup, gathered, options), **leaks})


def resumed_options(
    options: Mapping[str, Any], record: Mapping[str, Any], default_of: Callable[[str], Any]
) -> dict[str, Any]:
    """The options that a run was begun with, and those that may be said anew.

    Args:
        options: of the command that resumes.
        record: ``run.json``.
        default_of: of an option by its name.

    Raises:
        CommandError: the run was begun with an option that there is no more, or with another value of one that is said
            now.
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
    changed = [
        f"--{name.replace('_', '-')}"
        for name, value in options.items()
        if name not in {*_OF_THE_END, *_NOT_OF_THE_RUN}
        and value != default_of(name)
        and _plain(value) != given.get(name)
    ]
    if changed:
        raise CommandError(
            _(
                "%(folder)s goes on as it was begun, so %(options)s can't be changed. Leave it out, or start a new run "
                "(--fine-tune takes up what this one has stored)."
            )
            % {"folder": options["resume"], "options": " and ".join(changed)}
        )
    # Earlier versions kept no defaults.
    defaults = {each.name: each.default for each in (*fields(TrainingOptions), *fields(SamplingOptions))}
    defaults["validation_share"] = VALIDATION_SHARE
    before = {
        name: Path(value) if name in _PATHS and value else defaults.get(name) if value is None else value
        for name, value in given.items()
    }
    end = {name: options[name] or before.get(name) for name in _OF_THE_END}
    return {**options, **before, **end}


def _record(setup: Setup, gathered: GatheredData, options: Mapping[str, Any]) -> dict[str, Any]:
    """``run.json``, as plain JSON values."""
    import keras
    import tensorflow as tf

    data = gathered.data
    sets = {"train": data.train, "validation": data.validation} | ({"old": data.old} if data.old else {})
    if gathered.test and gathered.test.triplets:
        sets["test"] = gathered.test.triplets
    return {
        "architecture": setup.architecture,
        "started_from": options["fine_tune"] or setup.weights_source,
        "loss": setup.training.loss,
        "validation_root": str(data.validation.root.resolve()),
        "data": {name: count_triplets(triplets).to_dict() for name, triplets in sets.items()}
        | {
            "photos": len(data.paths),
            "sha256": data.sha256(),
            "sides": data.sides and data.sides.to_dict(),
            "by_query": data.by_query,
            "shared": [each.to_dict() for each in data.shared],
        },
        "setup": setup.to_dict(),
        "given": {name: _plain(options[name]) for name in sorted(options) if name not in _NOT_OF_THE_RUN},
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__},
    }


def _plain(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value
