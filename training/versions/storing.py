"""From a model in memory to a stored version: its weights in the storage, its row, and what was measured of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.files import File
from django.utils.text import slugify
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.models import ModelVersion
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.files import file_sha256
from shop_similarity.training.versions.lineage import LEAK, Leak

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.evaluation.validation import Evaluation
    from shop_similarity.training.networks.preprocessing import Preprocessing


class NameTaken(TrainingError):
    """There is a version of that name already; the sentence says what to do."""


def store_version(
    model: keras.Model,
    *,
    name: str,
    architecture: str,
    config: Mapping[str, Any],
    preprocessing: Preprocessing,
    weights_source: str,
    metrics: Mapping[str, Any],
) -> ModelVersion:
    """Store a model as a candidate version.

    Args:
        model: what :func:`shop_similarity.training.networks.architectures.build` made of the three that follow, with
            its final weights.
        name: a free name, see :func:`free_name`.
        architecture: a key of :data:`shop_similarity.training.networks.architectures.ARCHITECTURES`.
        config: the architecture's options, plain JSON values.
        preprocessing: what the photos went through.
        weights_source: where the weights come from, for people.
        metrics: what is known of the version, plain JSON values.

    Raises:
        NameTaken: if the name is not free.
        TrainingError: if weights are not finite.
    """
    from shop_similarity.training.networks.weights_files import WeightsFileError, require_finite

    free_name(name)
    try:
        require_finite(model)
    except WeightsFileError as error:
        raise TrainingError(
            f"The model is not stored: {error}. Train anew with a lower --learning-rate, or start from other weights."
        ) from error
    version = ModelVersion(
        name=name,
        architecture=architecture,
        config=dict(config),
        preprocessing=preprocessing.to_dict(),
        weights_source=weights_source,
        metrics=dict(metrics),
    )
    with tempfile.TemporaryDirectory(prefix="shop-similarity-") as folder:
        path = Path(folder) / "model.weights.h5"
        model.save_weights(path)
        version.weights_sha256 = file_sha256(path)
        stem = slugify(name) or architecture
        with path.open("rb") as file:
            version.weights.save(f"{stem}-{version.weights_sha256[:16]}.weights.h5", File(file), save=False)
    try:
        version.save()
    except Exception:
        # A file that no row knows of would lie in the storage for ever.
        version.weights.storage.delete(version.weights.name or "")
        raise
    return version


def store_evaluation(version: ModelVersion, evaluation: Evaluation, leak: Leak | None = None) -> None:
    """Keep an evaluation in the version's ``metrics["evaluation"]``, in place of the one before.

    Args:
        version: that was measured.
        evaluation: of it.
        leak: what spoils its figures, as far as somebody has looked.
    """
    figures = evaluation.to_dict() | ({LEAK: leak.to_dict()} if leak else {})
    with database.atomic():
        row = ModelVersion.objects.select_for_update().get(pk=version.pk)
        row.metrics = {**row.metrics, "evaluation": figures}
        row.save(update_fields=["metrics"])


def free_name(name: str | None = None, architecture: str = "mildnet") -> str:
    """``name`` if it is free, or without one the first free of ``mildnet-1``, ``mildnet-2`` and so on.

    All forms of an architecture (``mildnet``, ``mildnet-lite``) are counted as one.

    Raises:
        NameTaken: if a given name is not free.
    """
    if name is not None:
        if ModelVersion.objects.filter(name=name).exists():
            raise NameTaken(
                _("There is a model version %(name)s already. Choose another name with --name.") % {"name": name}
            )
        return name
    number, prefix = 1, architecture.partition("-")[0]
    taken = set(ModelVersion.objects.filter(name__startswith=f"{prefix}-").values_list("name", flat=True))
    while f"{prefix}-{number}" in taken:
        number += 1
    return f"{prefix}-{number}"
