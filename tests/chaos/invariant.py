"""What has to be true of shop and plugin once nothing happens any more, whatever has happened before.

For every live version, every photo that the catalogue says exists has exactly one embedding: of the bytes that its
file has now, of the product that it belongs to now, with the vector that the network makes of these bytes. A photo that
nobody can open has a sentence in the outbox instead. There is no embedding and no entry of a photo that is gone.
Nothing else waits, nobody holds a claim. A search answers with products that exist. Exactly one version is active, and
it is one that somebody activated. Each click that was accepted is counted once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db.models import QuerySet

from shop_similarity.catalogue import ImageRow, get_catalogue
from shop_similarity.models import Embedding, Event, ModelVersion, OutboxEntry
from shop_similarity.photos.decoding import open_image
from shop_similarity.photos.errors import ImageError
from shop_similarity.photos.limits import catalogue_limits
from shop_similarity.search import similar_products

# Half-precision vectors of the same bytes, computed in different batches.
_SAME = 0.999


@dataclass
class Findings:
    """Violations, a sentence each.

    Attributes:
        photos: how many photos the catalogue has.
        lost: photos without embedding, clicks that are not counted, a version that nobody activated.
        duplicate: what is there twice.
        stale: embeddings of other bytes, of another product, or of a photo that is gone.
        outbox: what waits or is claimed although nothing happens any more, or failed without a reason.
    """

    photos: int = 0
    lost: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    outbox: list[str] = field(default_factory=list)

    @property
    def all(self) -> list[str]:
        return [*self.lost, *self.duplicate, *self.stale, *self.outbox]


def look(
    *,
    embed: Callable[[ModelVersion, bytes], np.ndarray] | None = None,
    clicks: Collection[tuple[Any, str]] = (),
    activated: Collection[str] | None = None,
    unseen: Collection[Any] = (),
) -> Findings:
    """Look for violations.

    Args:
        embed: what a version's network makes of a photo's bytes, (4096,) of length 1; not compared without it.
        clicks: the key of the list and the key of the product, as text, of each click that was accepted.
        activated: names of the versions of which one may be active; any without it.
        unseen: keys of photos whose files were replaced in a way that no signal sees, so that only a sweep of the files
            finds them; their bytes are not compared.
    """
    findings = Findings()
    catalogue = get_catalogue()
    rows = {row.image_id: row for row in catalogue.rows(catalogue.images())}
    findings.photos = len(rows)
    contents = {key: _content(row) for key, row in rows.items()}
    readable = {key for key, content in contents.items() if _is_readable(content)}
    for version in ModelVersion.objects.live().order_by("pk"):
        _look_at_version(findings, version, rows, contents, readable, embed, set(unseen))
    _look_at_the_gone(findings, rows)
    _look_at_searches(findings)
    _look_at_clicks(findings, clicks)
    active = list(ModelVersion.objects.filter(state=ModelVersion.State.ACTIVE).values_list("name", flat=True))
    if len(active) != 1:
        findings.lost.append(f"{len(active)} versions are active.")
    elif activated is not None and active[0] not in activated:
        findings.lost.append(f"{active[0]} is active, which nobody activated.")
    return findings


def waiting() -> QuerySet[OutboxEntry]:
    """Entries of live versions that are neither settled nor failed."""
    return OutboxEntry.objects.filter(failed_at__isnull=True, version__in=ModelVersion.objects.live())


def _content(row: ImageRow) -> bytes | None:
    try:
        with get_catalogue().storage.open(row.file_name, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _is_readable(content: bytes | None) -> bool:
    try:
        open_image(content or b"", catalogue_limits(), target_size=32)
    except ImageError:
        return False
    return True


def _look_at_version(
    findings: Findings,
    version: ModelVersion,
    rows: Mapping[Any, ImageRow],
    contents: Mapping[Any, bytes | None],
    readable: Collection[Any],
    embed: Callable[[ModelVersion, bytes], np.ndarray] | None,
    unseen: Collection[Any],
) -> None:
    embeddings: dict[Any, list[Embedding]] = {}
    for row in Embedding.objects.defer(None).filter(version=version):
        embeddings.setdefault(row.image_id, []).append(row)
    entries: dict[Any, list[OutboxEntry]] = {}
    for entry in OutboxEntry.objects.filter(version=version):
        entries.setdefault(entry.image_id, []).append(entry)
    vectors: dict[str, np.ndarray] = {}
    for key, row in rows.items():
        photo = f"{version.name}: photo {key} ({row.file_name})"
        mine = embeddings.get(key, [])
        failed = [entry for entry in entries.get(key, []) if entry.failed_at is not None]
        if len(mine) > 1:
            findings.duplicate.append(f"{photo} has {len(mine)} embeddings.")
        if key in unseen:
            continue
        if key not in readable:
            if mine:
                findings.stale.append(f"{photo} can't be opened, but has an embedding.")
            if not failed and not any(entry.failed_at is None for entry in entries.get(key, [])):
                findings.lost.append(f"{photo} can't be opened, and nothing says so.")
            continue
        if failed:
            findings.lost.append(f"{photo} is in order, but failed: {failed[0].last_error!r}.")
        if not mine:
            findings.lost.append(f"{photo} has no embedding.")
        for embedding in mine:
            _compare(findings, photo, embedding, row, contents[key], version, embed, vectors)
    for key, several in entries.items():
        for entry in several:
            if entry.failed_at is None:
                claimed = f", claimed by {entry.claimed_by} until {entry.leased_until}" if entry.leased_until else ""
                findings.outbox.append(
                    f"{version.name}: photo {key} waits (tries: {entry.attempts}{claimed}) {entry.last_error}"
                )
            elif not entry.last_error:
                findings.outbox.append(f"{version.name}: photo {key} failed without a reason.")
        if sum(entry.failed_at is not None for entry in several) > 1:
            findings.duplicate.append(f"{version.name}: photo {key} failed twice.")


def _compare(
    findings: Findings,
    photo: str,
    embedding: Embedding,
    row: ImageRow,
    content: bytes,
    version: ModelVersion,
    embed: Callable[[ModelVersion, bytes], np.ndarray] | None,
    vectors: dict[str, np.ndarray],
) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if embedding.content_sha256 != digest:
        findings.stale.append(f"{photo} is embedded with the bytes {embedding.content_sha256[:8]}, not {digest[:8]}.")
    if (embedding.product_id, embedding.file_name) != (row.product_id, row.file_name):
        findings.stale.append(f"{photo} is embedded as {embedding.file_name} of product {embedding.product_id}.")
    if embed is None or embedding.content_sha256 != digest:
        return
    if digest not in vectors:
        vectors[digest] = embed(version, content)
    cosine = float(np.asarray(embedding.vector, np.float32) @ vectors[digest])
    if cosine < _SAME:
        findings.stale.append(f"{photo} has the vector of something else (cosine {cosine:.4f}).")


def _look_at_the_gone(findings: Findings, rows: Mapping[Any, ImageRow]) -> None:
    for model in (Embedding, OutboxEntry):
        live = model.objects.filter(version__in=ModelVersion.objects.live()).exclude(image_id__in=list(rows))
        for version, key in live.values_list("version__name", "image_id"):
            into = findings.stale if model is Embedding else findings.outbox
            into.append(f"{version}: there is an {model._meta.verbose_name} of photo {key}, which is gone.")


def _look_at_searches(findings: Findings) -> None:
    products = get_catalogue().visible_products()
    there = set(products.values_list("pk", flat=True))
    for product in products.order_by("pk"):
        found = [other.pk for other in similar_products(product, 12)]
        if not set(found) <= there - {product.pk}:
            findings.stale.append(f"The search for product {product.pk} finds {sorted(set(found) - there)}.")
        if len(set(found)) < len(found):
            findings.duplicate.append(f"The search for product {product.pk} finds one twice.")


def _look_at_clicks(findings: Findings, clicks: Collection[tuple[Any, str]]) -> None:
    lists = {query for query, _product in clicks}
    counted = Counter(
        Event.objects.filter(query_id__in=lists, kind=Event.Kind.CLICK).values_list("query_id", "target_product_id")
    )
    counted = Counter({(query, str(product)): count for (query, product), count in counted.items()})
    for click in set(clicks):
        if not counted[click]:
            findings.lost.append(f"The click on product {click[1]} in list {click[0]} was accepted and is not counted.")
        elif counted[click] > 1:
            findings.duplicate.append(f"The click on product {click[1]} in list {click[0]} is counted twice.")
