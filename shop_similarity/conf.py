"""The plugin's settings: one dict in the shop's settings, read lazily into a frozen dataclass.

    SHOP_SIMILARITY = {
        "PRODUCT_MODEL": "shop.Product",
        "IMAGES": "photos.file",
    }

Every key is a field of :class:`Settings` in upper case. Nothing is read at import time and the cache is dropped
whenever Django's ``setting_changed`` fires, so ``override_settings`` works in tests.
"""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

SETTING = "SHOP_SIMILARITY"
# As the REST framework writes rates.
RATE = re.compile(r"([1-9]\d*)/([smhd])[a-z]*")


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults. Byte counts are bytes, times are seconds."""

    # The product model, "app_label.Model". Its primary key may be of any type.
    product_model: str
    # Where a product's photos are: "image" is an image field on the product itself, "photos.file" is the image field
    # `file` of the model that points to the product with a foreign key whose related_name is `photos`.
    images: str
    # Field path on the product ("category", "category__parent", "categories"). Look-alikes that share its value with
    # the product are preferred. None switches the preference off.
    category: str | None = None
    # How much cosine similarity sharing the category is worth in the ranking (0 to 2).
    category_boost: float = 0.1
    # Dotted path of a callable that returns the queryset of products that may be shown.
    # None: everything the model's default manager returns.
    products: str | None = None
    # Field path on the product of its price ("price", "stockrecords__price"), for the price filter. None: no filter.
    price: str | None = None
    # Field path on the product whose value all variants of one product share ("parent"). Of these one is shown.
    variant_group: str | None = None
    # Dotted path of a callable (product, limit) that returns products for the widget while the product has no
    # look-alikes of its own. None: the widget shows nothing then.
    fallback: str | None = None
    # Alias in STORAGES that keeps the model weights. Must not be served to the public.
    weights_storage: str = "shop_similarity"
    # Folder in which a worker keeps its own copy of weights that live in a remote storage. None: the system's
    # folder for temporary files.
    weights_cache: str | None = None

    # What an image may be.
    max_image_bytes: int = 20 * 2**20
    max_image_pixels: int = 50_000_000
    image_formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")

    # The Celery queue that the bell rings on and the worker listens to.
    queue: str = "shop_similarity"
    # Images that a worker claims, embeds and writes at once.
    batch_size: int = 16
    # Threads of a worker that read, decode and resize while the model computes.
    decode_threads: int = 2
    # Networks that a worker keeps in memory. While a version is rolled out up to three are in use: the active one, the
    # one to go back to and the candidate. With fewer, a worker loads them in turns.
    models_in_memory: int = 3
    # Tries before an image is given up as failed. Only passing faults (storage, a dead worker) are tried again.
    max_attempts: int = 5
    # Seconds after which a claim of a worker that says nothing more is void.
    lease_seconds: int = 120
    # Seconds between two looks of an idle worker into the outbox, for the case that the bell was not heard.
    poll_seconds: float = 5.0
    # Seconds between two sweeps for what signals can't see (bulk_create, update(), raw SQL, replaced files). 0: never.
    sweep_seconds: int = 300
    # Seconds between two sweeps that also ask the storage for size and time of every file: one stat per file on a
    # local disk, one request per file on S3. 0: never.
    sweep_files_seconds: int = 3_600

    # Photos of a product that are compared with the catalogue; the first ones by the image model's ordering.
    query_images: int = 8
    # Candidates by code distance whose exact cosine is computed.
    candidates: int = 200
    # Up to this many photos among the products that may be shown, every vector is compared exactly.
    exact_rows: int = 250
    # From this many photos on the HNSW index is used; between the two numbers all codes are scanned.
    index_rows: int = 20_000
    # Products below this cosine similarity are no look-alikes and are not shown (-1 to 1). None: all are. Searches by
    # photo are left out, since a shopper's snapshot is not very similar to any photo of a shop.
    min_similarity: float | None = None
    # Of two found products whose most similar photos have this cosine with each other, one is shown. Above 1: both.
    duplicate_similarity: float = 0.97
    # How much the likeness to products that already stand in the list counts against a product (0 to 1): 0 ranks by
    # similarity alone.
    diversity: float = 0.2
    # How strongly a list that leans towards colour, pattern or shape does so (0 to 8).
    lean_strength: float = 2.0

    # Seconds for which the widget's search results are kept in Django's cache. 0: not at all.
    widget_cache_seconds: int = 60
    # Dotted path of a callable (field file, widths) that returns [(url, width, height), ...] for `srcset`. None:
    # django-imagekit where it is installed, else the photo itself.
    thumbnails: str | None = None

    # What a photo may be that a shopper searches with.
    visual_search_max_bytes: int = 10 * 2**20
    visual_search_max_pixels: int = 50_000_000
    visual_search_formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
    # Seconds that a request waits for the worker's answer before it says that the service is busy.
    visual_search_wait_seconds: float = 5.0
    # Seconds for which the answer (never the photo) can be filtered and paged through.
    visual_search_keep_seconds: int = 3_600
    # Photos that may wait for a worker at once; more are turned away.
    visual_search_queue: int = 50

    # Whether impressions, clicks and additions to the basket are recorded.
    record_events: bool = True
    # Raw events are kept for this many days, and no more than so many of them; daily sums stay.
    event_days: int = 30
    event_rows: int = 1_000_000
    # Dotted path of a callable (request) that returns a pseudonym of the visitor to record. None: none is recorded.
    event_visitor: str | None = None

    # Requests per time and client: searches by the API; uploads and events, by API and pages together. None: no limit.
    search_rate: str | None = "240/min"
    upload_rate: str | None = "20/min"
    event_rate: str | None = "600/min"


class SettingsError(ImproperlyConfigured):
    """A wrong entry in ``SHOP_SIMILARITY``. ``hint`` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}".strip())


def _expected_type(name: str) -> tuple[type, ...]:
    annotation = Settings.__annotations__[name]
    kinds: list[type] = []
    for part in annotation.split(" | "):
        kinds += {
            "str": [str],
            "int": [int],
            "float": [int, float],
            "bool": [bool],
            "None": [type(None)],
            "tuple[str, ...]": [tuple, list],
        }[part]
    return tuple(kinds)


_RANGES = {
    "category_boost": (0, 2),
    "max_image_bytes": (1, 2**31),
    "max_image_pixels": (1, 2**31),
    "batch_size": (1, 1024),
    "decode_threads": (1, 64),
    "models_in_memory": (1, 16),
    "max_attempts": (1, 100),
    "lease_seconds": (1, 86_400),
    "poll_seconds": (0.05, 3_600),
    "sweep_seconds": (0, 30 * 86_400),
    "sweep_files_seconds": (0, 365 * 86_400),
    "query_images": (1, 64),
    "candidates": (10, 10_000),
    "exact_rows": (0, 10_000_000),
    "index_rows": (0, 1_000_000_000),
    "min_similarity": (-1, 1),
    "duplicate_similarity": (0, 2),
    "diversity": (0, 1),
    "lean_strength": (0, 8),
    "widget_cache_seconds": (0, 30 * 86_400),
    "visual_search_max_bytes": (1, 2**31),
    "visual_search_max_pixels": (1, 2**31),
    "visual_search_wait_seconds": (0, 60),
    "visual_search_keep_seconds": (10, 86_400),
    "visual_search_queue": (1, 100_000),
    "event_days": (1, 3_650),
    "event_rows": (1, 1_000_000_000),
}


def problems(raw: Any) -> list[SettingsError]:
    """Everything that is wrong with the value of ``SHOP_SIMILARITY``, none of it needing the app registry."""
    if raw is None:
        return [
            SettingsError(
                f"The setting {SETTING} is missing.",
                f'Add {SETTING} = {{"PRODUCT_MODEL": "your_app.Product", "IMAGES": "image"}} to your settings.',
            )
        ]
    if not isinstance(raw, dict):
        return [SettingsError(f"{SETTING} is a {type(raw).__name__}.", "Make it a dict.")]
    known = {field.name.upper(): field for field in fields(Settings)}
    found: list[SettingsError] = []
    for key in raw:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key).upper(), known, n=1)
        found.append(
            SettingsError(
                f"{SETTING} has the unknown key {key!r}.",
                f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}.",
            )
        )
    for key in ("PRODUCT_MODEL", "IMAGES"):
        if not raw.get(key):
            example = "your_app.Product" if key == "PRODUCT_MODEL" else "image"
            found.append(SettingsError(f"{SETTING} lacks {key!r}.", f'Add "{key}": "{example}".'))
    for key, value in raw.items():
        if key not in known:
            continue
        name = key.lower()
        kinds = _expected_type(name)
        # bool is an int to Python, but True as a number of seconds is a mistake.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            found.append(SettingsError(f"{SETTING}[{key!r}] is {value!r}.", f"It must be of type {wanted}."))
            continue
        if name.endswith("_rate") and value is not None and not RATE.fullmatch(value):
            found.append(
                SettingsError(
                    f"{SETTING}[{key!r}] is {value!r}.", "Write a number, a slash and s, min, hour or day: '600/min'."
                )
            )
        if name in _RANGES and value is not None:
            low, high = _RANGES[name]
            if not low <= value <= high:
                found.append(SettingsError(f"{SETTING}[{key!r}] is {value!r}.", f"It must lie in {low} to {high}."))
    return found


@functools.lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The plugin's settings.

    Raises:
        SettingsError: the first thing that is wrong with ``SHOP_SIMILARITY``; ``manage.py check`` shows all of them.
    """
    raw = getattr(django_settings, SETTING, None)
    wrong = problems(raw)
    if wrong:
        raise wrong[0]
    values = {key.lower(): value for key, value in raw.items()}
    for name in ("image_formats", "visual_search_formats"):
        if name in values:
            values[name] = tuple(values[name])
    return Settings(**values)


@receiver(setting_changed)
def _drop_cache(*, setting: str, **kwargs: Any) -> None:
    if setting == SETTING:
        get_settings.cache_clear()
