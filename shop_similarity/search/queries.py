"""What a search compares with: SQL that yields vectors, of products of the shop or of numbers given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from django.core.exceptions import EmptyResultSet
from django.db import models
from pgvector import HalfVector

from ..catalogue import get_catalogue
from ..conf import get_settings
from ..models import EMBEDDING_DIM, Embedding, ModelVersion
from .paths import prepared_keys
from .sql import Sql

# Of a basket, so many products count, and so many photos of all of them together speak for it.
MOST_PRODUCTS = 20
_BASKET_IMAGES = 16


@dataclass(frozen=True)
class Query:
    """SQL that yields rows (part, weight, vector, code).

    Rows of one part stand for one thing, whose most similar photo counts, each cosine times the row's weight; the
    similarity to several parts is the mean over them.

    Attributes:
        sql: the statement.
        several: whether there may be more parts than one.
        is_one_vector: whether there is one row at most.
        scale: similarities in parts of cosines.
    """

    sql: Sql
    several: bool = False
    is_one_vector: bool = False
    scale: float = 1.0

    @classmethod
    def of_product(cls, version: ModelVersion, product: models.Model, photos: int | None = None) -> Query:
        """Of the first ``photos`` of a product, by default as many as the ``QUERY_IMAGES`` setting says."""
        photos = photos or get_settings().query_images
        return cls(_photos_of(version, product, 0, photos), is_one_vector=photos == 1 or get_catalogue().has_own_photo)

    @classmethod
    def of_products(cls, version: ModelVersion, products: Sequence[models.Model]) -> Query:
        """Of the last 20 products, which are those put into a basket most recently."""
        products = products[-MOST_PRODUCTS:]
        count = max(1, min(get_settings().query_images, _BASKET_IMAGES // len(products)))
        parts = [_photos_of(version, product, number, count) for number, product in enumerate(products)]
        union = Sql.join(" UNION ALL ", (Sql.of("({photos})", photos=part) for part in parts))
        return cls(union, several=len(parts) > 1)

    @classmethod
    def of_vector(cls, vector: Sequence[float] | np.ndarray, scale: float = 1.0) -> Query:
        """Of one (4096,) vector; similarities are ``scale`` times the cosines.

        Raises:
            ValueError: the vector has another length, is not finite or is zero; the scale is not above 0 or infinite.
        """
        array = np.asarray(vector, dtype=np.float32)
        if array.shape != (EMBEDDING_DIM,):
            raise ValueError(f"The vector has shape {array.shape}; embeddings have {EMBEDDING_DIM} numbers.")
        if not np.isfinite(array).all() or not array.any():
            raise ValueError("The vector is zero or not finite, so nothing can be similar to it.")
        if not 0 < scale < np.inf:
            raise ValueError(f"The scale is {scale!r}; it must be above 0 and finite.")
        return replace(cls.of_vectors(array[None] / np.linalg.norm(array), [0], [float(scale)]), scale=float(scale))

    @classmethod
    def of_vectors(cls, vectors: np.ndarray, parts: Sequence[int], weights: Sequence[float] | None = None) -> Query:
        """Of (q, 4096) vectors, the part that each belongs to, and their weights, 1 by default."""
        rows = ", ".join(f"(%s::int, %s::float8, %s::halfvec({EMBEDDING_DIM}))" for _ in parts)
        values = [
            value
            for part, weight, vector in zip(parts, weights or [1.0] * len(parts), vectors, strict=True)
            for value in (part, weight, HalfVector(vector).to_text())
        ]
        sql = Sql(
            f"SELECT v.part, v.weight, v.vector, binary_quantize(v.vector)::bit({EMBEDDING_DIM}) AS code "
            f"FROM (VALUES {rows}) v(part, weight, vector)",
            tuple(values),
        )
        return cls(sql, several=len(set(parts)) > 1, is_one_vector=len(parts) == 1)

    def fetch(self) -> tuple[np.ndarray, list[int], list[float]]:
        """The vectors, (q, 4096) float32, and the part and the weight of each."""
        rows = Sql.of(
            "SELECT part, weight, halfvec_send(vector) AS vector FROM ({query}) given ORDER BY part", query=self.sql
        ).rows()
        return vectors_from([row.vector for row in rows]), [row.part for row in rows], [row.weight for row in rows]


def vectors_from(sent: Sequence[bytes]) -> np.ndarray:
    """(n, 4096) float32 of what ``halfvec_send`` gave; as text a vector would be five times as long."""
    if not sent:
        return np.empty((0, EMBEDDING_DIM), np.float32)
    # Two 16-bit numbers, the length and an unused one, come before the vector.
    return np.stack([np.frombuffer(value, dtype=">f2", offset=4) for value in sent]).astype(np.float32)


def _photos_of(version: ModelVersion, product: models.Model, part: int, count: int) -> Sql:
    catalogue = get_catalogue()
    pieces = {
        "part": Sql.number(part),
        "table": Sql(Embedding._meta.db_table),
        "version": Sql.number(version.pk),
        "key": prepared_keys([catalogue.shown_key(product)])[0],
    }
    if catalogue.has_own_photo:
        return Sql.of(
            "SELECT {part} AS part, 1::float8 AS weight, vector, code FROM {table} "
            "WHERE version_id = {version} AND product_id = {key}",
            **pieces,
        )
    # The shop's own order decides which photos of a product with very many speak for it, and which stands in front.
    try:
        first = Sql.of_queryset(catalogue.photos_to_ask_with(product).values("pk")[:count])
    except EmptyResultSet:
        first = Sql("SELECT NULL WHERE false")
    return Sql.of(
        "SELECT {part} AS part, vector, code, "
        "CASE WHEN row_number() OVER (ORDER BY f.place) = 1 THEN 1 ELSE {others} END::float8 AS weight FROM {table} "
        "JOIN (SELECT id, row_number() OVER () AS place FROM ({first}) photos(id)) f ON f.id = image_id "
        "WHERE version_id = {version} AND product_id = {key}",
        others=get_settings().other_photos_weight,
        first=first,
        **pieces,
    )
