"""Whether the figures of a run can be trusted: what a model has seen of that by which it is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from django.utils.translation import gettext as _

from shop_similarity.models import ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.evaluation.catalogue_sets import Asks
from shop_similarity.training.evaluation.validation import Validation
from shop_similarity.training.photos.feature_cache import content_digests
from shop_similarity.training.triplets.product_groups import keys_of_the_shop
from shop_similarity.training.triplets.sides import TABLE, VALIDATION, Sides, side_of
from shop_similarity.training.versions.lineage import LEAK, SEEN, Leak, Seen, leak_of, seen_by

if TYPE_CHECKING:
    from shop_similarity.training.learning.data import TrainingData

SAID = "leaks"
"""Key in ``run.json``: what was said of leaks, in sentences."""


def look_for_leaks(data: TrainingData, options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Say what spoils the figures of a run, before anything is computed.

    Returns:
        What ``run.json`` keeps of it: what the trained model will have seen, and what spoils its figures. The version
        that it starts from may be gone when the run goes on.
    """
    base = ModelVersion.objects.filter(name=options["fine_tune"]).first() if options["fine_tune"] else None
    before = seen_by(base) if base else Seen()
    leak = leak_of_run(data, before)
    lines = [line for shared in data.shared if shared for line in shared.lines()]
    if start := _leak(data, before):
        lines.append(start.about(options["fine_tune"]))
    elif leak and not lines:
        lines.append(leak.about(_("the model of this run")))
    for line in lines:
        console.warn(line)
    seen = before | Seen.in_training(data.trained_sets(), data.sides)
    return {SEEN: seen.to_dict(), LEAK: leak.to_dict() if leak else None, SAID: lines}


def leak_of_run(data: TrainingData, before: Seen) -> Leak:
    """What spoils the figures of the trained model: what its start has seen, and what it is trained on itself."""
    leak = _leak(data, before)
    measured = data.measured_photos()
    trained = {data.digests[place] for place in data.training_photos().tolist()}
    # Of its own photos all are known, not a sample.
    if alike := len(measured & trained):
        leak = replace(leak, photos=(alike, len(measured)))
    if both := {name for shared in data.shared for name in shared.leakage.same_group}:
        leak = replace(leak, groups=(len(both), len(data.measured_groups())))
    return leak


def leak_of_version(data: TrainingData, version: ModelVersion) -> Leak:
    """What spoils the figures of a stored version on what a run is measured on."""
    return _leak(data, seen_by(version))


def set_aside_by(versions: Sequence[ModelVersion]) -> Asks | None:
    """Which of the shop's products were set aside when versions were trained on the others, so that none knows them.

    Returns:
        The products by name; None where no version was trained on the shop's products.
    """
    sides = [each for version in versions for each in seen_by(version).sides if each.keys == keys_of_the_shop()]
    if not sides:
        return None
    return lambda name: all(side_of(name, each.share) == VALIDATION for each in sides)


def leak_on_run(record: Mapping[str, Any], validation: Validation, version: ModelVersion) -> Leak:
    """What spoils the figures of a stored version on what a run was measured on.

    Args:
        record: ``run.json`` of the run.
        validation: what the run was measured on.
        version: another version.
    """
    sides, by_query = record["data"].get("sides"), record["data"].get("by_query", False)
    return leak_on(validation, version, Sides.from_dict(sides) if sides else None, by_query)


def leak_on(validation: Validation, version: ModelVersion, sides: Sides | None = None, by_query: bool = False) -> Leak:
    """What spoils the figures of a stored version on whatever it is measured on.

    Args:
        validation: what it is measured on.
        version: of which it is recorded what it was trained on.
        sides: the rule by which the triplets were set aside; None where they were given.
        by_query: whether their queries alone were set aside.
    """
    triplets, paths = validation.triplets, []
    if validation.retrieval:
        paths += [validation.retrieval.paths[place] for place in validation.retrieval.judged()]
    if validation.look_alike:
        paths += [validation.look_alike.paths[place] for place in np.unique(validation.look_alike.queries)]
    keys = TABLE
    groups: set[str] = set()
    if triplets is not None:
        keys = sides.keys if sides else triplets.keys
        groups = set(triplets.query_group.tolist()) - {""} if by_query else triplets.group_names()
        photos = triplets.paths()
        paths += [photos[place] for place in np.unique(triplets.rows[:, :1] if by_query else triplets.rows)]
    return leak_of(seen_by(version), set(content_digests(paths)), keys, groups, sides)


def _leak(data: TrainingData, seen: Seen) -> Leak:
    groups = data.measured_groups()
    return leak_of(seen, data.measured_photos(), data.validation.keys, groups, data.sides)
