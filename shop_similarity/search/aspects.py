"""Why two products are similar: what colour, pattern and shape add to a cosine, and searches that lean to one of them.

A model version may have a *basis* (:class:`~shop_similarity.models.AspectBasis`): r orthonormal directions V of the
embedding's space and, for each aspect t, a symmetric form K_t over them. The forms add up to the identity, so the
cosine of two embeddings a and b splits without a remainder::

    a . b  =  sum over t of  a' V K_t V' b  +  what lies outside V, counted to the aspects by fixed shares

It is a view of the vectors that are there already: nothing is embedded twice and no second index is kept. To lean a
search towards an aspect, the query alone is changed, ``q + strength * V K_t V' q``; the usual search with it ranks by
the cosine plus ``strength`` times the contribution of the aspect. How the forms are found, and how far they hold what
they promise: ``docs/explanations.md`` and :mod:`shop_similarity.training.aspects.forms`.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.utils.translation import gettext_lazy as _

from ..models import EMBEDDING_DIM, AspectBasis, ModelVersion

logger = logging.getLogger(__name__)

ASPECTS = ("colour", "pattern", "shape")
LABELS = {"colour": _("colour"), "pattern": _("pattern"), "shape": _("shape")}
# The field of every form that offers them.
LEAN, LEAN_LABEL = "lean", _("More like this in")

# Of an aspect that is less than this much above two photos drawn at random, the sentence does not speak.
_NOTABLE = 0.1
# An aspect is named second if it is at least this part of the first.
_CLOSE_BEHIND = 0.6
_FORMAT = 1
_KEPT = 4
_TOLERANCE = 1e-3
_ON_VERSION = "_aspects_sha256"

_MAINLY = {
    "colour": _("Similar mainly in colour"),
    "pattern": _("Similar mainly in pattern"),
    "shape": _("Similar mainly in shape"),
}
_MAINLY_THEN = {
    ("colour", "pattern"): _("Similar mainly in colour, then in pattern"),
    ("colour", "shape"): _("Similar mainly in colour, then in shape"),
    ("pattern", "colour"): _("Similar mainly in pattern, then in colour"),
    ("pattern", "shape"): _("Similar mainly in pattern, then in shape"),
    ("shape", "colour"): _("Similar mainly in shape, then in colour"),
    ("shape", "pattern"): _("Similar mainly in shape, then in pattern"),
}
_ALIKE = _("Similar in colour, pattern and shape alike")
_NOTHING = _("Similar only a little, and in nothing in particular")


class BasisError(ValueError):
    """The stored matrices can't be used; the sentence says why."""


@dataclass(frozen=True)
class Explanation:
    """What each aspect adds to the cosine of two photos.

    Attributes:
        colour, pattern, shape: contributions; they add up to ``similarity`` and may be negative.
        similarity: the cosine, -1 to 1; for a search by photo what it takes for the cosine.
        levels: for each of :data:`ASPECTS` where the contribution lies between that of two photos drawn at random (0)
            and that of a photo to itself (1), on the average of the photos that the basis was fitted on. Raw
            contributions can't be compared with each other: an aspect that most of the vectors' length is spent on
            would always be the largest. Without levels the contributions themselves are taken for them.
    """

    colour: float
    pattern: float
    shape: float
    similarity: float
    levels: tuple[float, float, float] | None = None

    def contributions(self) -> dict[str, float]:
        """By aspect; they add up to the cosine."""
        return {aspect: getattr(self, aspect) for aspect in ASPECTS}

    def shares(self) -> dict[str, float]:
        """How much of the likeness is each aspect's: levels below 0 count as 0, and the sum is 1.

        All are 0 where no aspect is above two photos drawn at random.
        """
        levels = self._levels()
        above = {aspect: max(level, 0.0) for aspect, level in levels.items()}
        total = sum(above.values())
        return {aspect: value / total if total > 0 else 0.0 for aspect, value in above.items()}

    def sentence(self) -> str:
        """In words, in the language that is active: "Similar mainly in shape, then in colour"."""
        levels = self._levels()
        first, second, third = sorted(ASPECTS, key=lambda aspect: -levels[aspect])
        if levels[first] < _NOTABLE:
            return str(_NOTHING)
        # Nearly the same picture: it would be petty to name an order.
        if levels[third] >= 0.85 * levels[first]:
            return str(_ALIKE)
        if levels[second] >= max(_NOTABLE, _CLOSE_BEHIND * levels[first]):
            return str(_MAINLY_THEN[first, second])
        return str(_MAINLY[first])

    def _levels(self) -> dict[str, float]:
        values = self.levels or (self.colour, self.pattern, self.shape)
        return dict(zip(ASPECTS, values, strict=True))


@dataclass(frozen=True, eq=False)
class Basis:
    """The matrices of one version.

    Attributes:
        directions: ``(4096, r)`` ``float32``, orthonormal columns.
        forms: ``(3, r, r)`` ``float32``, symmetric, in the order of :data:`ASPECTS`; their sum is the identity.
        outside: ``(3,)``, adding up to 1: how what two vectors share outside the directions is counted.
        typical: ``(3,)``, the mean contribution to the cosine of two photos drawn at random.
        own: ``(3,)``, the mean contribution to the cosine of a photo with itself, which is 1.
    """

    directions: np.ndarray
    forms: np.ndarray
    outside: np.ndarray
    typical: np.ndarray
    own: np.ndarray

    def __post_init__(self) -> None:
        rank = self.directions.shape[-1]
        expected = {
            "directions": (EMBEDDING_DIM, rank),
            "forms": (len(ASPECTS), rank, rank),
            "outside": (len(ASPECTS),),
            "typical": (len(ASPECTS),),
            "own": (len(ASPECTS),),
        }
        for name, shape in expected.items():
            array = getattr(self, name)
            if array.shape != shape or rank < 1:
                raise BasisError(f"{name} has the shape {array.shape}; it must be {shape}.")
            if not np.isfinite(array).all():
                raise BasisError(f"{name} holds numbers that are not finite.")
        if np.abs(self.forms.sum(axis=0) - np.eye(rank)).max() > _TOLERANCE:
            raise BasisError("The forms do not add up to the identity.")
        if np.abs(self.forms - self.forms.transpose(0, 2, 1)).max() > _TOLERANCE:
            raise BasisError("The forms are not symmetric.")
        if abs(self.outside.sum() - 1) > _TOLERANCE:
            raise BasisError("The shares of what lies outside do not add up to 1.")
        if not (self.own > self.typical).all():
            raise BasisError("Photos are not more similar to themselves than to others.")

    def contributions(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """``(3, n)`` for the rows of two ``(n, 4096)`` arrays of unit vectors."""
        a, b = left @ self.directions, right @ self.directions
        inside = np.stack([np.einsum("nr,nr->n", a @ form, b) for form in self.forms])
        total = np.einsum("nd,nd->n", left, right)
        # What rounding has left of the sum belongs to no aspect either.
        return inside + self.outside[:, None] * (total - inside.sum(axis=0))

    def lean(self, vectors: np.ndarray, aspect: int, strength: float) -> np.ndarray:
        """``(q, 4096)``: unit vectors moved towards an aspect."""
        inside = vectors @ self.directions
        moved = vectors + strength * ((inside @ self.forms[aspect]) @ self.directions.T)
        return _unit(moved)

    def to_bytes(self) -> bytes:
        """As NumPy's ``.npz``; the directions as ``float16``."""
        file = io.BytesIO()
        np.savez_compressed(
            file,
            format=np.int64(_FORMAT),
            directions=self.directions.astype(np.float16),
            forms=self.forms.astype(np.float32),
            outside=self.outside.astype(np.float32),
            typical=self.typical.astype(np.float32),
            own=self.own.astype(np.float32),
        )
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Basis:
        """Read back what :meth:`to_bytes` wrote.

        Raises:
            BasisError: if it is anything else.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                if int(stored["format"]) != _FORMAT:
                    raise BasisError(f"The matrices have the format {int(stored['format'])}; known is {_FORMAT}.")
                arrays = {
                    name: stored[name].astype(np.float32)
                    for name in ("directions", "forms", "outside", "typical", "own")
                }
        except BasisError:
            raise
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise BasisError(f"The matrices can't be read: {error}") from error
        return cls(**arrays)


def has_aspects(version: ModelVersion) -> bool:
    """Whether similarities of the version can be explained and leaned."""
    return _basis(version) is not None


def explain(
    version: ModelVersion,
    query_vectors: np.ndarray,
    vectors: np.ndarray,
    weights: Sequence[float] | None = None,
    scale: float = 1.0,
) -> list[Explanation | None]:
    """What each aspect adds to the similarity of each vector and the query vector that is most similar to it.

    Args:
        version: whose embeddings they are.
        query_vectors: ``(q, 4096)``, of the photos of what is asked with.
        vectors: ``(n, 4096)``, of what was found.
        weights: of the query vectors' cosines, all alike by default.
        scale: what is explained, in parts of the cosine. Levels are those of the query's embedding as it is stored.

    Returns:
        One explanation for each of ``vectors``; ``None`` for each where the version can't explain.

    Raises:
        ValueError: the arrays have another shape.
    """
    left, right = _rows(query_vectors, "query_vectors"), _rows(vectors, "vectors")
    if not len(left) or not len(right):
        return [None] * len(right)
    basis = _basis(version)
    if basis is None:
        return [None] * len(right)
    left, right = _unit(left), _unit(right)
    cosines = left @ right.T
    best = (cosines if weights is None else cosines * np.array(weights)[:, None]).argmax(axis=0)
    contributions = scale * basis.contributions(left[best], right)
    levels = (contributions - basis.typical[:, None]) / (basis.own - basis.typical)[:, None]
    return [
        Explanation(
            float(colour),
            float(pattern),
            float(shape),
            similarity=float(contributions[:, place].sum()),
            levels=(float(levels[0, place]), float(levels[1, place]), float(levels[2, place])),
        )
        for place, (colour, pattern, shape) in enumerate(contributions.T)
    ]


def lean_vectors(version: ModelVersion, vectors: np.ndarray, aspect: str, strength: float) -> np.ndarray:
    """Queries that rank by the cosine plus ``strength`` times the contribution of an aspect.

    Args:
        version: whose embeddings they are.
        vectors: ``(q, 4096)``.
        aspect: one of :data:`ASPECTS`.
        strength: 0 leaves the ranking as it is.

    Returns:
        ``(q, 4096)`` ``float32`` of length 1; the vectors as they were where the version has no basis.

    Raises:
        ValueError: an unknown aspect, a strength that is negative or not finite, or another shape.
    """
    if aspect not in ASPECTS:
        raise ValueError(f"{aspect!r} is no aspect. Known: {', '.join(ASPECTS)}.")
    if not math.isfinite(strength) or strength < 0:
        raise ValueError(f"The strength is {strength!r}; it must be 0 or more.")
    rows = _unit(_rows(vectors, "vectors"))
    basis = _basis(version) if strength else None
    return rows if basis is None else basis.lean(rows, ASPECTS.index(aspect), strength)


def store_basis(version: ModelVersion, basis: Basis, metrics: Mapping[str, Any] | None = None) -> AspectBasis:
    """Store the matrices of a version, in place of those that it had."""
    data = basis.to_bytes()
    stored, _created = AspectBasis.objects.update_or_create(
        version=version,
        defaults={"data": data, "sha256": hashlib.sha256(data).hexdigest(), "metrics": dict(metrics or {})},
    )
    version.__dict__.pop(_ON_VERSION, None)
    return stored


_lock = threading.Lock()
# By version and sha256; None for matrices that can't be used, so that it is logged once.
_loaded: OrderedDict[tuple[Any, str], Basis | None] = OrderedDict()


def _basis(version: ModelVersion) -> Basis | None:
    """The version's matrices: one small query for a version instance, and one that reads them for a process."""
    if _ON_VERSION not in version.__dict__:
        version.__dict__[_ON_VERSION] = (
            AspectBasis.objects.filter(version_id=version.pk).values_list("sha256", flat=True).first()
        )
    sha256 = version.__dict__[_ON_VERSION]
    if sha256 is None:
        return None
    key = (version.pk, sha256)
    with _lock:
        if key in _loaded:
            _loaded.move_to_end(key)
            return _loaded[key]
    data = AspectBasis.objects.filter(version_id=version.pk, sha256=sha256).values_list("data", flat=True).first()
    if data is None:
        return None
    try:
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BasisError("The matrices are not those that were stored (their sha256 differs).")
        basis = Basis.from_bytes(bytes(data))
    except BasisError as error:
        logger.error(
            "Similarities of model version %s can't be explained. %s Fit them anew: manage.py fit_aspects %s",
            version.name,
            error,
            version.name,
        )
        basis = None
    with _lock:
        _loaded[key] = basis
        while len(_loaded) > _KEPT:
            _loaded.popitem(last=False)
    return basis


def _rows(vectors: Any, name: str) -> np.ndarray:
    rows = np.asarray(vectors, dtype=np.float32)
    if rows.ndim != 2 or rows.shape[1] != EMBEDDING_DIM:
        raise ValueError(f"{name} has the shape {rows.shape}; it must be (n, {EMBEDDING_DIM}).")
    return rows


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32, copy=False)
