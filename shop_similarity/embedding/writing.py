"""Writing embeddings: COPY into a staging table, one upsert, the outbox entry removed, all in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db.models import Case, F, When
from django.db.models.functions import Now
from pgvector import HalfVector

from .. import database
from ..catalogue import ImageRow, get_catalogue
from ..models import EMBEDDING_DIM, Embedding, ModelVersion
from . import outbox
from .outbox import Claim
from .vectors import unusable_rows

_TABLE = Embedding._meta.db_table
_STAGING = "shop_similarity_staging"
_COLUMNS = "product_id, image_id, file_name, file_mark, content_sha256, vector"


@dataclass(frozen=True)
class PhotoVector:
    """A photo and what the model made of it.

    Attributes:
        claim: the outbox entries this serves.
        row: the image row as it was when its file was read.
        file_mark: size and time of the file in the storage.
        content_sha256: hex digest of the file's bytes.
        vector: (4096,) float, L2-normalised.
    """

    claim: Claim
    row: ImageRow
    file_mark: str
    content_sha256: str
    vector: np.ndarray


@dataclass
class WriteReport:
    """What became of a batch: photos written, photos gone, photos to try again at once.

    Among the last are those whose claim was lost: for who holds it now, they are tried already.
    """

    written: list[PhotoVector] = field(default_factory=list)
    gone: list[PhotoVector] = field(default_factory=list)
    again: list[PhotoVector] = field(default_factory=list)


def vectors_of_contents(version_id: int, digests: Collection[str]) -> dict[str, np.ndarray]:
    """Vectors that the version has of photos with these bytes, each (4096,) ``float16``, by the hex digest."""
    rows = Embedding.objects.filter(version=version_id, content_sha256__in=digests).order_by("content_sha256")
    return {
        digest: np.asarray(vector, np.float16)
        for digest, vector in rows.distinct("content_sha256").values_list("content_sha256", "vector")
    }


def _current_rows(image_ids: list) -> tuple[dict[Any, ImageRow], set]:
    """The image rows as they are now, locked against deletion, and the keys that another transaction holds."""
    catalogue = get_catalogue()
    meta = catalogue.image_model._meta
    connection = database.connection()
    quote = connection.ops.quote_name
    key = meta.pk
    # FOR KEY SHARE stands in the way of deletions only, not of the shop's updates; Django has no name for it.
    with database.cursor() as cursor:
        cursor.execute(
            f"SELECT {quote(key.column)} FROM {quote(meta.db_table)} WHERE {quote(key.column)} = ANY(%s) "
            f"FOR KEY SHARE SKIP LOCKED",
            [[key.get_db_prep_value(image_id, connection) for image_id in image_ids]],
        )
        locked = {key.to_python(value) for (value,) in cursor.fetchall()}
    images = catalogue.images().using(database.write_alias())
    rows = {row.image_id: row for row in catalogue.rows(images.filter(pk__in=image_ids))}
    return rows, rows.keys() - locked


def _stage(cursor: Any, photos: Sequence[PhotoVector]) -> None:
    cursor.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {_STAGING} ON COMMIT DELETE ROWS AS "
        f"SELECT {_COLUMNS} FROM {_TABLE} WITH NO DATA"
    )
    cursor.execute(f"SELECT {_COLUMNS} FROM {_STAGING} LIMIT 0")
    # COPY carries no types: the binary form of a vector travels as plain bytes, without teaching the shop's
    # connection a type it did not ask for.
    types = [*(column.type_code for column in cursor.description[:-1]), "bytea"]
    driver = cursor.cursor
    connection = database.connection()
    product_key = Embedding._meta.get_field("product_id")
    image_key = Embedding._meta.get_field("image_id")
    copying = driver.copy(f"COPY {_STAGING} ({_COLUMNS}) FROM STDIN (FORMAT BINARY)")
    # The driver's own exceptions would be nobody's here: they become Django's, as those of all other statements.
    with connection.wrap_database_errors, copying as copy:
        copy.set_types(types)
        for photo in photos:
            copy.write_row(
                (
                    product_key.get_db_prep_value(photo.row.product_id, connection),
                    image_key.get_db_prep_value(photo.row.image_id, connection),
                    photo.row.file_name,
                    photo.file_mark,
                    photo.content_sha256,
                    HalfVector(photo.vector).to_binary(),
                )
            )


class _ClaimsLost(Exception):
    """Rolls back what was written for claims that are somebody else's by now."""

    def __init__(self, claims: Sequence[Claim]) -> None:
        super().__init__()
        self.image_ids = {claim.image_id for claim in claims}


def write_embeddings(version_id: int, photos: Sequence[PhotoVector]) -> WriteReport:
    """Write a batch and remove its outbox entries in one transaction.

    A photo that was deleted meanwhile is left out, its entry removed; one whose file was exchanged meanwhile keeps a
    fresh entry of its own and is left out too; one whose row another transaction is deleting is to be tried again, and
    so is one whose claim was lost, for its vector may be older than what is there. For a version that was retired or
    deleted meanwhile nothing is written.

    Raises:
        ValueError: a vector has the wrong length, is not finite or 0.
    """
    for photo in photos:
        if len(unusable_rows(photo.vector[np.newaxis])):
            raise ValueError(
                f"The model made no usable vector of {photo.row.file_name!r}: expected {EMBEDDING_DIM} finite numbers "
                "that are not all 0."
            )
    lost: set[Any] = set()
    while True:
        try:
            report = _write(version_id, [photo for photo in photos if photo.row.image_id not in lost])
        except _ClaimsLost as error:
            lost |= error.image_ids
            continue
        report.again += [photo for photo in photos if photo.row.image_id in lost]
        return report


def _write(version_id: int, photos: Sequence[PhotoVector]) -> WriteReport:
    report = WriteReport()
    with database.short_atomic():
        database.lock_for_writing()
        if not ModelVersion.objects.using(database.write_alias()).live().filter(pk=version_id).exists():
            report.gone.extend(photos)
            outbox.done(version_id, [photo.claim for photo in photos])
            return report
        current, busy = _current_rows([photo.row.image_id for photo in photos])
        for photo in photos:
            now = current.get(photo.row.image_id)
            if now is None:
                report.gone.append(photo)
            elif photo.row.image_id in busy or now != photo.row:
                # The save that changed it queued it again, unless it was one that no signal saw.
                report.again.append(photo)
            else:
                report.written.append(photo)
        if report.written:
            with database.cursor() as cursor:
                _stage(cursor, report.written)
                cursor.execute(
                    f"""INSERT INTO {_TABLE} (version_id, {_COLUMNS}, code, embedded_at)
                    SELECT %s, {_COLUMNS}, binary_quantize(vector)::bit({EMBEDDING_DIM}), now()
                    FROM {_STAGING} ORDER BY image_id
                    ON CONFLICT (version_id, image_id) DO UPDATE SET
                        product_id = excluded.product_id, file_name = excluded.file_name,
                        file_mark = excluded.file_mark, content_sha256 = excluded.content_sha256,
                        vector = excluded.vector, code = excluded.code, embedded_at = excluded.embedded_at""",
                    [version_id],
                )
                cursor.execute(f"DELETE FROM {_STAGING}")
        outbox.done(version_id, [photo.claim for photo in report.gone])
        # Last, as the shop removes an embedding before its entry: in the other order the two could wait for each other.
        if lost := outbox.done(version_id, [photo.claim for photo in report.written]):
            raise _ClaimsLost(lost)
    return report


def keep(version_id: int, claim: Claim, row: ImageRow, file_mark: str) -> bool:
    """Settle a photo that still shows what its vector says, though its file may have moved or been written again.

    Returns:
        Whether the claim still held; where it was lost, nothing is changed.
    """
    there = Embedding.objects.filter(version=version_id, image_id=row.image_id)
    now = {"product_id": row.product_id, "file_name": row.file_name, "file_mark": file_mark}
    # To another product its photo is new.
    since = Case(When(product_id=row.product_id, then=F("embedded_at")), default=Now())
    return _settle(version_id, claim, lambda: there.exclude(**now).update(**now, embedded_at=since))


def forget(version_id: int, claim: Claim) -> bool:
    """Settle a photo that is gone, and remove its vector. Returns as :func:`keep` does."""
    there = Embedding.objects.filter(version=version_id, image_id=claim.image_id)
    return _settle(version_id, claim, lambda: database.raw_delete(there))


def _settle(version_id: int, claim: Claim, change: Callable[[], object]) -> bool:
    try:
        with database.short_atomic():
            change()
            if lost := outbox.done(version_id, [claim]):
                raise _ClaimsLost(lost)
    except _ClaimsLost:
        return False
    return True
