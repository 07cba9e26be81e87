"""What the shop and its visitors do. Each action chooses by its own seed among what is there at the moment."""

from __future__ import annotations

import io
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import DatabaseError, close_old_connections, connections, transaction
from django.test import Client
from django.urls import reverse
from PIL import Image

from catalog.models import Category, Product, ProductPhoto
from shop_similarity import rollout
from shop_similarity.feedback import tokens
from shop_similarity.models import ModelVersion, Surface
from shop_similarity.search import similar_products


@dataclass
class Outcome:
    """What an action came to.

    Attributes:
        seconds: that it took.
        error: of the database, where it was away; the action may have happened or not.
        fault: any other error: there must be none.
        clicks: those that were answered with 204, as (key of the list, key of the product).
        unseen: keys of photos whose bytes were replaced so that no signal sees it.
        activated: names of versions that this action may have activated, or asked for.
        statuses: of HTTP answers.
    """

    seconds: float = 0.0
    error: str = ""
    fault: str = ""
    clicks: list[tuple[str, str]] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)
    activated: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


class _Undo(Exception):
    """Rolls a transaction back."""


def attempt(action: str, seed: int) -> Outcome:
    """Do an action, whatever becomes of it."""
    outcome = Outcome()
    started = time.monotonic()
    # As at the begin of a request.
    close_old_connections()
    try:
        _ACTIONS[action](random.Random(seed), outcome)
    except DatabaseError as error:
        outcome.error = f"{type(error).__name__}: {error}"
        # As at the end of a request that failed.
        close_old_connections()
    except rollout.RolloutError:
        # The moment did not allow it.
        pass
    except Exception as error:
        outcome.fault = f"{action}: {type(error).__name__}: {error}"
    outcome.seconds = time.monotonic() - started
    return outcome


def jpeg(seed: int) -> bytes:
    """A photo of 6 x 6 fields of colour."""
    fields = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(fields).resize((48, 48), Image.Resampling.NEAREST).save(buffer, "JPEG")
    return buffer.getvalue()


def _bytes(dice: random.Random) -> bytes:
    # Some photos are the same as others, as in real shops.
    return jpeg(dice.randrange(40) if dice.random() < 0.3 else dice.randrange(2**31))


def _product() -> Product:
    key = uuid.uuid4().hex
    category = Category.objects.get_or_create(slug="things", defaults={"name": "Things"})[0]
    return Product.objects.create(name=f"Product {key[:6]}", slug=key, sku=key[:12], category=category, stock=1)


def _add_photo(dice: random.Random, product: Product, content: bytes | None = None) -> ProductPhoto:
    file = ContentFile(content if content is not None else _bytes(dice), name=f"{dice.randrange(2**31)}.jpg")
    return product.photos.create(file=file, position=dice.randrange(9))


def _one(dice: random.Random, rows: Any) -> Any:
    """One of the rows that are there, or None; the same number from the end again and again, so that edits meet."""
    keys = list(rows.order_by("-pk").values_list("pk", flat=True)[:40])
    return rows.filter(pk=dice.choice(keys)).first() if keys else None


def _create(dice: random.Random, outcome: Outcome) -> None:
    for _ in range(dice.randint(1, 3)):
        with transaction.atomic():
            product = _product()
            for _ in range(dice.randint(1, 3)):
                _add_photo(dice, product)


def _bulk_create(dice: random.Random, outcome: Outcome) -> None:
    product = _product()
    storage = ProductPhoto._meta.get_field("file").storage
    names = [
        storage.save(f"bulk/{dice.randrange(2**31)}.jpg", ContentFile(_bytes(dice))) for _ in range(dice.randint(4, 16))
    ]
    ProductPhoto.objects.bulk_create([ProductPhoto(product=product, file=name) for name in names])


def _replace(dice: random.Random, outcome: Outcome) -> None:
    photo = _one(dice, ProductPhoto.objects.all())
    if photo is None:
        return
    if dice.random() < 0.8:
        outcome.unseen += _unseen_if_it_fails(photo, lambda: _write_anew(dice, photo))
    else:
        photo.file.save(f"{dice.randrange(2**31)}.jpg", ContentFile(_bytes(dice)))


def _write_anew(dice: random.Random, photo: ProductPhoto) -> None:
    photo.file.save(PurePosixPath(photo.file.name).name, ContentFile(_bytes(dice)))


def _unseen_if_it_fails(photo: ProductPhoto, change: Callable[[], None]) -> list[int]:
    """Change the file under its name. The storage knows no transactions: where the row's is lost, the bytes stay."""
    try:
        change()
    except DatabaseError:
        close_old_connections()
        return [photo.pk]
    return []


def _replace_silently(dice: random.Random, outcome: Outcome) -> None:
    photo = _one(dice, ProductPhoto.objects.all())
    if photo is not None:
        outcome.unseen.append(photo.pk)
        photo.file.storage.save(photo.file.name, ContentFile(_bytes(dice)))


def _move(dice: random.Random, outcome: Outcome) -> None:
    photo, product = _one(dice, ProductPhoto.objects.all()), _one(dice, Product.objects.all())
    if photo is not None and product is not None:
        photo.product = product
        photo.save()


def _delete_photo(dice: random.Random, outcome: Outcome) -> None:
    if (photo := _one(dice, ProductPhoto.objects.all())) is not None:
        photo.delete()


def _delete_product(dice: random.Random, outcome: Outcome) -> None:
    if (product := _one(dice, Product.objects.all())) is not None:
        product.delete()


def _damage(dice: random.Random, outcome: Outcome) -> None:
    content = _bytes(dice)
    _add_photo(dice, _product(), content[: len(content) // 2])


def _roll_back_edit(dice: random.Random, outcome: Outcome) -> None:
    photo = _one(dice, ProductPhoto.objects.all())
    try:
        with transaction.atomic():
            _add_photo(dice, _product())
            if photo is not None and dice.random() < 0.3:
                outcome.unseen.append(photo.pk)
                _write_anew(dice, photo)
            elif photo is not None and dice.random() < 0.5:
                photo.delete()
            raise _Undo
    except _Undo:
        pass


_EDITS = (_replace, _replace, _replace, _move, _delete_photo, _create)


def _edit_together(dice: random.Random, outcome: Outcome) -> None:
    """Several threads at once."""
    outcomes = [Outcome() for _ in range(4)]

    def edit(mine: Outcome, seed: int) -> None:
        own = random.Random(seed)
        try:
            for _ in range(2):
                own.choice(_EDITS)(own, mine)
        except DatabaseError as error:
            mine.error = str(error)
        except Exception as error:
            # What another one deleted this moment can't be saved any more.
            if not isinstance(error, ProductPhoto.DoesNotExist | Product.DoesNotExist | FileNotFoundError):
                mine.fault = f"{type(error).__name__}: {error}"
        finally:
            connections.close_all()

    threads = [threading.Thread(target=edit, args=(mine, dice.randrange(2**31))) for mine in outcomes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in outcomes:
        outcome.error = outcome.error or mine.error
        outcome.fault = outcome.fault or mine.fault
        outcome.unseen += mine.unseen


def _click(dice: random.Random, outcome: Outcome) -> None:
    product = _one(dice, Product.objects.all())
    version = ModelVersion.objects.active()
    found = similar_products(product, 6) if product is not None else []
    if not found or version is None:
        return
    shown = [other.pk for other in found]
    token = tokens.issue(version=version, surface=Surface.WIDGET, product_id=product.pk, shown=shown)
    chosen = str(dice.choice(shown))
    body = json.dumps({"token": token, "events": [{"kind": "impression"}, {"kind": "click", "product": chosen}]})
    client = Client(raise_request_exception=False)
    # Browsers may send it twice.
    for _ in range(dice.randint(1, 2)):
        answer = client.post(reverse("shop_similarity:events"), body, content_type="text/plain")
        outcome.statuses.append(answer.status_code)
        if answer.status_code == 204:
            outcome.clicks.append((str(tokens.read(token).id), chosen))


def _search_by_photo(dice: random.Random, outcome: Outcome) -> None:
    client = Client(raise_request_exception=False)
    photo = SimpleUploadedFile("photo.jpg", _bytes(dice), "image/jpeg")
    answer = client.post(
        reverse("shop_similarity:visual-search"), {"photo": photo}, headers={"accept": "application/json"}
    )
    outcome.statuses.append(answer.status_code)
    if answer.status_code == 201:
        outcome.statuses.append(client.get(answer.json()["url"]).status_code)


def _candidates() -> Sequence[ModelVersion]:
    return list(ModelVersion.objects.exclude(state=ModelVersion.State.ACTIVE).order_by("name"))


def _wish(dice: random.Random, outcome: Outcome) -> None:
    for version in _candidates():
        if version.state != ModelVersion.State.STANDBY:
            outcome.activated.append(version.name)
            rollout.request_activation(version, force=True)


def _activate(dice: random.Random, outcome: Outcome) -> None:
    for version in _candidates():
        # Half-way through its backfill it must be refused.
        outcome.activated.append(version.name)
        rollout.activate(version, force=True)


def _go_back(dice: random.Random, outcome: Outcome) -> None:
    standby = ModelVersion.objects.standby()
    if standby is not None:
        outcome.activated.append(standby.name)
        rollout.roll_back()


def _go_back_and_wish(dice: random.Random, outcome: Outcome) -> None:
    """Both at once: which one comes first decides."""
    outcome.activated += [version.name for version in ModelVersion.objects.all()]
    seeds = [dice.randrange(2**31) for _ in range(3)]
    outcomes: list[Outcome] = []

    def work(action: str, seed: int) -> None:
        try:
            outcomes.append(attempt(action, seed))
        finally:
            connections.close_all()

    pairs = zip(("go_back", "activate", "wish"), seeds, strict=True)
    threads = [threading.Thread(target=work, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mine in outcomes:
        outcome.error, outcome.fault = outcome.error or mine.error, outcome.fault or mine.fault


def _retire(dice: random.Random, outcome: Outcome) -> None:
    for version in _candidates():
        rollout.retire(version)


_ACTIONS: dict[str, Callable[[random.Random, Outcome], None]] = {
    "create": _create,
    "bulk_create": _bulk_create,
    "replace": _replace,
    "replace_silently": _replace_silently,
    "move": _move,
    "delete_photo": _delete_photo,
    "delete_product": _delete_product,
    "damage": _damage,
    "roll_back_edit": _roll_back_edit,
    "edit_together": _edit_together,
    "click": _click,
    "search_by_photo": _search_by_photo,
    "wish": _wish,
    "activate": _activate,
    "go_back": _go_back,
    "go_back_and_wish": _go_back_and_wish,
    "retire": _retire,
}
