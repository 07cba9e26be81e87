"""Writing embeddings: COPY into a staging table, one upsert, the outbox entry removed, all in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connections, router, transaction
from pgvector import HalfVector

from ..catalogue import ImageRow, get_catalogue
from ..database import lock_for_writing
from ..models import EMBEDDING_DIM, Embedding, ModelVersion
from . import outbox
from .outbox import Claim

_TABLE = Embedding._meta.db_table
_STAGING = "shop_similarity_staging"
_COLUMNS = "product_id, image_id, file_name, file_mark, content_sha256, vector"


@dataclass(frozen=True)
class Embedded:
    """A photo and what the model made of it.

    Attributes:
        claim: the outbox entries this serves.
        row: the image row as it was when its file was read.
        file_mark: size and time of the file in the storage.
        content_sha256: hex digest of the file's bytes.
        vector: (4096,) float, L2-normalised; None where another photo of the version has the same bytes, whose
            vector is then copied.
    """

    claim: Claim
    row: ImageRow
    file_mark: str
    content_sha256: str
    vector: np.ndarray | None


@dataclass
class Written:
    """What became of a batch: photos written, photos gone or changed meanwhile, photos to try again at once."""

    written: list[Embedded]
    gone: list[Embedded]
    again: list[Embedded]


def known_contents(version_id: int, digests: Sequence[str]) -> set[str]:
    """Those of the digests that the version already has a vector for."""
    return set(
        Embedding.objects.filter(version=version_id, content_sha256__in=list(digests))
        .values_list("content_sha256", flat=True)
        .distinct()
    )


def _current_rows(image_ids: list, using: str) -> tuple[dict[Any, ImageRow], set]:
    """The image rows as they are now, locked against deletion, and the keys that another transaction holds."""
    catalogue = get_catalogue()
    meta = catalogue.image_model._meta
    quote = connections[using].ops.quote_name
    key = meta.pk
    prepared = [key.get_db_prep_value(image_id, connections[using]) for image_id in image_ids]
    # FOR KEY SHARE stands in the way of deletions only, not of the shop's updates; Django has no name for it.
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT {quote(key.column)} FROM {quote(meta.db_table)} WHERE {quote(key.column)} = ANY(%s) "
            f"FOR KEY SHARE SKIP LOCKED",
            [prepared],
        )
        locked = {key.to_python(value) for (value,) in cursor.fetchall()}
    images = catalogue.images().using(using)
    rows = {row.image_id: row for row in catalogue.rows(images.filter(pk__in=image_ids))}
    return rows, rows.keys() - locked


def _stage(cursor: Any, embedded: Sequence[Embedded]) -> None:
    cursor.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {_STAGING} ON COMMIT DELETE ROWS AS "
        f"SELECT {_COLUMNS} FROM {_TABLE} WITH NO DATA"
    )
    cursor.execute(f"SELECT {_COLUMNS} FROM {_STAGING} LIMIT 0")
    # COPY carries no types: the binary form of a vector travels as plain bytes, without teaching the shop's
    # connection a type it did not ask for.
    types = [*(column.type_code for column in cursor.description[:-1]), "bytea"]
    driver = cursor.cursor
    connection = connections[router.db_for_write(Embedding)]
    product_key = Embedding._meta.get_field("product_id")
    image_key = Embedding._meta.get_field("image_id")
    with driver.copy(f"COPY {_STAGING} ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(types)
        for item in embedded:
            copy.write_row(
                (
                    product_key.get_db_prep_value(item.row.product_id, connection),
                    image_key.get_db_prep_value(item.row.image_id, connection),
                    item.row.file_name,
                    item.file_mark,
                    item.content_sha256,
                    None if item.vector is None else HalfVector(item.vector).to_binary(),
                )
            )


def write_embeddings(version_id: int, embedded: Sequence[Embedded]) -> Written:
    """Write a batch and remove its outbox entries in one transaction.

    A photo that was deleted meanwhile is left out, its entry removed; one whose file was exchanged meanwhile keeps a
    fresh entry of its own and is left out too; one whose row another transaction is deleting is to be tried again. For
    a version that was retired or deleted meanwhile nothing is written.

    Raises:
        ValueError: a vector has the wrong length or is not finite.
    """
    for item in embedded:
        if item.vector is not None and (item.vector.shape != (EMBEDDING_DIM,) or not np.isfinite(item.vector).all()):
            raise ValueError(
                f"The model made no usable vector of {item.row.file_name!r}: expected {EMBEDDING_DIM} finite numbers."
            )
    using = router.db_for_write(Embedding)
    result = Written([], [], [])
    with transaction.atomic(using=using):
        lock_for_writing(using)
        if not ModelVersion.objects.using(using).live().filter(pk=version_id).exists():
            result.gone.extend(embedded)
            outbox.done(version_id, [item.claim for item in embedded])
            return result
        current, busy = _current_rows([item.row.image_id for item in embedded], using)
        for item in embedded:
            now = current.get(item.row.image_id)
            if item.row.image_id in busy:
                result.again.append(item)
            elif now is None:
                result.gone.append(item)
            elif now != item.row:
                # The save that changed it queued it again, unless it was one that no signal saw.
                result.again.append(item)
            else:
                result.written.append(item)
        if result.written:
            with connections[using].cursor() as cursor:
                _stage(cursor, result.written)
                # A vector that is missing here is copied from a photo with the same bytes.
                cursor.execute(
                    f"""INSERT INTO {_TABLE}
                        (version_id, product_id, image_id, file_name, file_mark, content_sha256, vector, code,
                         embedded_at)
                    SELECT %s, s.product_id, s.image_id, s.file_name, s.file_mark, s.content_sha256, v.vector,
                           binary_quantize(v.vector)::bit({EMBEDDING_DIM}), now()
                    FROM {_STAGING} s
                    CROSS JOIN LATERAL (
                        SELECT coalesce(s.vector, (
                            SELECT e.vector FROM {_TABLE} e
                            WHERE e.version_id = %s AND e.content_sha256 = s.content_sha256 LIMIT 1
                        ), (
                            SELECT t.vector FROM {_STAGING} t
                            WHERE t.content_sha256 = s.content_sha256 AND t.vector IS NOT NULL LIMIT 1
                        )) AS vector
                    ) v
                    WHERE v.vector IS NOT NULL
                    ORDER BY s.image_id
                    ON CONFLICT (version_id, image_id) DO UPDATE SET
                        product_id = excluded.product_id, file_name = excluded.file_name,
                        file_mark = excluded.file_mark, content_sha256 = excluded.content_sha256,
                        vector = excluded.vector, code = excluded.code, embedded_at = excluded.embedded_at
                    RETURNING image_id""",
                    [version_id, version_id],
                )
                key = Embedding._meta.get_field("image_id")
                stored = {key.to_python(image_id) for (image_id,) in cursor.fetchall()}
                cursor.execute(f"DELETE FROM {_STAGING}")
            # The photo with the same bytes may have gone since it was looked up.
            for item in [item for item in result.written if item.row.image_id not in stored]:
                result.written.remove(item)
                result.again.append(item)
        outbox.done(version_id, [item.claim for item in result.written + result.gone])
    return result


def touch(version_id: int, row: ImageRow, file_mark: str) -> None:
    """Note that a photo whose file moved or was written again still shows what its vector says."""
    Embedding.objects.filter(version=version_id, image_id=row.image_id).update(
        product_id=row.product_id, file_name=row.file_name, file_mark=file_mark
    )
