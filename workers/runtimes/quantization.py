"""Networks in int8: quantized on the shop's own photos, and used where its own retrieval figures prove them no worse.

A version keeps, in ``metrics["int8"]``, where its quantized network lies and what was found out about it. The proof is
of two things: that searches among int8 vectors find as much as among exact ones, and that searches do in which half of
the vectors are int8 ones and half are exact, for what was embedded before stays as it is.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.files.base import ContentFile

from shop_similarity import database
from shop_similarity.intervals import FEWEST_GROUPS
from shop_similarity.models import ModelVersion
from shop_similarity.training.extras import require
from shop_similarity.training.networks.precision import cpu_multiplies_int8
from shop_similarity.workers.runtimes.converted import read_network, silence, write_network

if TYPE_CHECKING:
    import openvino

    from shop_similarity.training.evaluation.validation import Validation

logger = logging.getLogger(__name__)

INT8 = "int8"
"""Key in a version's metrics."""

MARGIN = 0.01
"""So much a figure may be lower, by the lower end of the 95 % interval of the paired difference, to be no worse."""

_PARTS = {
    "look_alike": ("ndcg_at_10", "mean_average_precision"),
    "retrieval": ("recall_at_1", "mean_average_precision"),
}
# The histogram of colours is no convolution, and the head was set from exact features.
_LEFT_EXACT = r".*/(colour|embedding|change|familiarity)(_\d+)?/.*"


def quantize(model: openvino.Model, photos: Sequence[np.ndarray]) -> openvino.Model:
    """A network with its convolutions in int8, by the ranges that the photos' numbers have in it.

    Args:
        model: as :func:`~shop_similarity.workers.runtimes.converted.converted` gives it.
        photos: ``(size, size, 3)``, ``uint8``.

    Raises:
        ExtraMissing: NNCF is not installed.
    """
    require("nncf")
    silence()
    import nncf

    return nncf.quantize(
        model,
        nncf.Dataset([photo[np.newaxis] for photo in photos]),
        subset_size=len(photos),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        ignored_scope=nncf.IgnoredScope(patterns=[_LEFT_EXACT], validate=False),
    )


def judge(validation: Validation, exact: np.ndarray, quantized: np.ndarray) -> dict[str, Any]:
    """Compare a version's int8 vectors with its exact ones.

    Args:
        validation: a look-alike set, an instance set, or both.
        exact: ``(n, d)`` of the photos of ``validation.paths``.
        quantized: the same in int8.

    Returns:
        Plain JSON: ``is_proven``, ``reasons`` (sentences why not), ``cosine`` (least and mean), ``differences`` of all
        int8 and of half and half (``"int8"``, ``"mixed"``), by part and metric ``[value, low, high]``.
    """
    mixed = np.where((np.arange(len(exact)) % 2 == 0)[:, None], exact, quantized)
    reference = validation.evaluate(exact, candidates=None)
    differences: dict[str, Any] = {}
    reasons = []
    for name, vectors in (("int8", quantized), ("mixed", mixed)):
        by_part = validation.evaluate(vectors, candidates=None).difference(reference)
        for part, metrics in _PARTS.items():
            for metric in metrics if part in by_part else ():
                estimate = by_part[part][metric]
                # Not a number where no query has such a hit to find.
                if np.isnan(estimate.value):
                    continue
                figures = [round(float(each), 5) for each in (estimate.value, *estimate.interval)]
                differences.setdefault(name, {}).setdefault(part, {})[metric] = figures
                if not estimate.low >= -MARGIN:
                    reasons.append(
                        f"{metric} of {part} may be {-estimate.low:.3f} lower ({name}), more than {MARGIN:g}."
                    )
    for part in _PARTS:
        result = getattr(reference, part)
        if result is not None and (groups := len(np.unique(result.groups))) < FEWEST_GROUPS:
            reasons.append(f"{part} has {groups} groups of queries, of which {FEWEST_GROUPS} are the least that prove.")
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(quantized, axis=1)
    cosines = (exact * quantized).sum(axis=1) / lengths
    return {
        "is_proven": not reasons and bool(differences),
        "reasons": reasons,
        "cosine": {"least": round(float(cosines.min()), 5), "mean": round(float(cosines.mean()), 5)},
        "photos": len(exact),
        "differences": differences,
    }


def store(version: ModelVersion, model: openvino.Model, verdict: Mapping[str, Any]) -> None:
    """Keep a quantized network beside the version's weights, and the verdict with the version."""
    import openvino

    with TemporaryDirectory(prefix="shop-similarity-") as folder:
        path = Path(folder) / "int8.openvino.zip"
        write_network(model, path)
        content = path.read_bytes()
    storage = version.weights.storage
    sha256 = hashlib.sha256(content).hexdigest()
    stem = (version.weights.name or "").removesuffix(".weights.h5")
    name = storage.save(f"{stem}-int8-{sha256[:16]}.openvino.zip", ContentFile(content))
    _keep(
        version,
        {
            **verdict,
            "file": name,
            "sha256": sha256,
            "bytes": len(content),
            "openvino": openvino.__version__,
            "cpu_multiplies_int8": cpu_multiplies_int8(),
        },
    )


def drop(version: ModelVersion) -> bool:
    """Forget a version's quantized network; whether there was one."""
    return _keep(version, None)


def _keep(version: ModelVersion, entry: dict[str, Any] | None) -> bool:
    with database.atomic():
        row = ModelVersion.objects.select_for_update().get(pk=version.pk)
        before = row.metrics.get(INT8)
        row.metrics = {name: value for name, value in row.metrics.items() if name != INT8}
        if entry is not None:
            row.metrics[INT8] = entry
        row.save(update_fields=["metrics"])
        version.metrics = row.metrics
        if isinstance(before, Mapping) and (name := before.get("file")) and name != (entry or {}).get("file"):
            storage = row.weights.storage
            database.on_commit(lambda: storage.delete(name))
    return before is not None


def proven(version: ModelVersion) -> openvino.Model | None:
    """A version's quantized network, where it is proven to be no worse; else None, with a line in the log on why."""
    entry = version.metrics.get(INT8) if isinstance(version.metrics, Mapping) else None
    if entry is None:
        return None
    try:
        return _read(version, entry)
    # Whatever a storage raises, or an entry holds: photos can be embedded without.
    except Exception as error:
        logger.warning(
            "The int8 network of %s is not used: %s Photos are embedded without it, slower. `manage.py quantize_model "
            "%s` makes a new one.",
            version.name,
            str(error) or type(error).__name__,
            version.name,
        )
        return None


class _NotUsed(Exception):
    pass


def _read(version: ModelVersion, entry: Mapping[str, Any]) -> openvino.Model:
    import openvino

    if entry["is_proven"] is not True:
        raise _NotUsed(" ".join(["it is not proven to find as much.", *entry["reasons"]]))
    if entry["openvino"] != openvino.__version__:
        raise _NotUsed("the proof is of another release of OpenVINO.")
    if entry["cpu_multiplies_int8"] is not cpu_multiplies_int8():
        raise _NotUsed("the proof is of a processor with other instructions for int8.")
    # No more is read than was written, and nothing of it interpreted before it is known to be that.
    with version.weights.storage.open(entry["file"], "rb") as file:
        content = file.read(entry["bytes"] + 1)
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise _NotUsed(f"the file {entry['file']} is not the one that was stored (its sha256 differs).")
    return read_network(io.BytesIO(content))
