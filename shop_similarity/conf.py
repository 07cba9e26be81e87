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
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

SETTING = "SHOP_SIMILARITY"
# As the REST framework writes rates.
RATE = re.compile(r"([1-9]\d*)/([smhd])[a-z]*")
# Nobody guesses as many at random within the life of a shop.
_SHORTEST_TOKEN = 16
# Names of attributes stand in addresses and in rows of rules.
ATTRIBUTE = re.compile(r"[a-z][a-z0-9_]{0,29}")
RUNTIMES = ("tensorflow", "openvino")
ENGINES = ("pgvector", "milvus")
_KINDS = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "dict": (dict,),
    "None": (type(None),),
    "tuple[str, ...]": (tuple, list),
}


def _setting(
    default: Any, help: str, ends: tuple[float, float] | None = None, *, hashed: bool = True, shown: bool = True
) -> Any:
    """A setting: its default (``...``: it is required), what it says, and the ends of its range, both included.

    ``hashed`` is False where the value may be one that Python can't hash, ``shown`` where it is a secret: error reports
    print the settings.
    """
    metadata = {"help": help, "range": ends}
    hash_ = None if hashed else False
    return field(default=MISSING if default is ... else default, metadata=metadata, hash=hash_, repr=shown)


@dataclass(frozen=True)
class Settings:
    """All settings with their defaults. Byte counts are bytes, times are seconds."""

    product_model: str = _setting(..., 'The product model, "app_label.Model". Its primary key may be of any type.')
    images: str = _setting(
        ...,
        "Where a product's photos are, as attributes with dots between them, from the product to the file field: "
        '"image" on the product itself, "photos.file" by the related_name of a foreign key, a many-to-many field or a '
        'generic relation, "photo.file" and "gallery.image.file" by foreign keys to images that products share.',
    )
    image_filter: dict | str | None = _setting(  # noqa: RUF009  (its default is no dict)
        None,
        "Which rows of the model that IMAGES leads to are photos, where it holds other files too: lookups such as "
        '{"kind": "photo"}, or the dotted path of a callable that takes a queryset of them and returns it filtered. '
        "None: all that have a file.",
        hashed=False,
    )
    parent: str | None = _setting(
        None,
        'Foreign key of the product to the one that it is shown by ("parent"). The photos of a child speak for its '
        "parent, which is found by them, and a child without photos asks and is shown with its parent's.",
    )
    category: str | tuple[str, ...] | None = _setting(
        None,
        'Field path on the product ("category", "category__parent", "categories"), several of them, or the dotted path '
        "of a callable that returns a database expression. Look-alikes that share its value with the product are "
        "preferred, and those of a category nearby in its tree a little. None switches the preference off.",
    )
    category_boost: float = _setting(
        0.1, "How much cosine similarity sharing the category is worth in the ranking.", (0, 2)
    )
    products: str | None = _setting(
        None,
        "Dotted path of a callable that returns the queryset of products that may be shown. None: everything the "
        "model's default manager returns.",
    )
    price: str | tuple[str, ...] | None = _setting(
        None,
        'Field path on the product of its price ("price"), several of them, of which the first that has a value counts '
        '(("stockrecords__price", "children__stockrecords__price")), or the dotted path of a callable that returns a '
        "database expression. None: no filter by price.",
    )
    variant_group: str | tuple[str, ...] | None = _setting(
        None,
        'Field path on the product whose value all variants of one product share ("parent"), several of them or a '
        "callable, as for PRICE. Of these one is shown.",
    )
    colour: str | tuple[str, ...] | None = _setting(
        None,
        'Field path on the product of its colour ("colour"), where each colour is a product of its own. '
        "`evaluate_mildnet --from-catalog` asks by it for products that look alike. None: the photos are looked at.",
    )
    attributes: dict | None = _setting(  # noqa: RUF009  (its default is no dict)
        None,
        "What products have beside their pictures that merchandisers can weigh and choose by, by names of one's own: "
        '{"brand": "brand__name", "material": "material"}. Each is a field path, several of them or a callable, as for '
        "PRICE. None: nothing.",
        hashed=False,
    )
    in_stock: str | tuple[str, ...] | None = _setting(
        None,
        'Field path on the product of what says that it can be had ("stock", "stockrecords__num_in_stock"), several of '
        "them or a callable, as for PRICE: true, a number above zero or a text that is not empty. Other products are "
        "never recommended, unless a search or a widget asks for sold-out ones. None: nothing is left out.",
    )
    fallback: str | None = _setting(
        None,
        "Dotted path of a callable (product, limit) that returns products for the widget while the product has no "
        "look-alikes of its own. None: the widget shows nothing then.",
    )
    weights_storage: str = _setting(
        "shop_similarity", "Alias in STORAGES that keeps the model weights. Must not be served to the public."
    )
    weights_cache: str | None = _setting(
        None,
        "Folder in which a worker keeps its own copy of weights that live in a remote storage, and networks that were "
        "converted for OpenVINO. None: copies go to the system's folder for temporary files, converted networks beside "
        "local weights or to the user's cache.",
    )

    max_image_bytes: int = _setting(20 * 2**20, "Larger files fail, before they are decoded.", (1, 2**31))
    max_image_pixels: int = _setting(50_000_000, "Photos with more pixels fail, before they are decoded.", (1, 2**31))
    image_formats: tuple[str, ...] = _setting(
        ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF"),
        "Pillow's names of the formats that are read, whatever the file is called.",
    )
    decode_seconds: float = _setting(
        10,
        "Processor time that a photo may take to decode, in a process of its own that is killed then. 0: without "
        "bound, within the process that asks.",
        (0, 3_600),
    )

    queue: str = _setting("shop_similarity", "The Celery queue that the bell rings on and the worker listens to.")
    runtime: str = _setting(
        "tensorflow",
        'What a worker computes the networks with: "tensorflow", "openvino" (faster without a GPU) or the dotted path '
        "of a class of one's own.",
    )
    encoders: tuple[str, ...] | None = _setting(
        None,
        "Dotted paths of functions that make encoders of the shop's own. calibrate_mildnet takes no others, and a "
        "worker imports no others, whatever stands in a stored version. None: there are none.",
    )
    batch_size: int = _setting(16, "Images that a worker claims, embeds and writes at once.", (1, 1024))
    decode_threads: int = _setting(
        2, "Threads of a worker that read, decode and resize while the model computes.", (1, 64)
    )
    models_in_memory: int = _setting(
        3,
        "Networks that a worker keeps in memory. While a version is rolled out up to three are in use: the active "
        "one, the one to go back to and the candidate. With fewer, a worker loads them in turns.",
        (1, 16),
    )
    max_attempts: int = _setting(
        5,
        "Tries before an image is given up as failed. Only passing faults (storage, a dead worker) are tried again.",
        (1, 100),
    )
    lease_seconds: int = _setting(
        120, "Seconds after which a claim of a worker that says nothing more is void.", (1, 86_400)
    )
    poll_seconds: float = _setting(
        5.0,
        "Seconds between two looks of an idle worker into the outbox, for the case that the bell was not heard.",
        (0.05, 3_600),
    )
    sweep_seconds: int = _setting(
        300,
        "Seconds between two sweeps for what signals can't see (bulk_create, update(), raw SQL, replaced files). "
        "0: never.",
        (0, 30 * 86_400),
    )
    sweep_files_seconds: int = _setting(
        3_600,
        "Seconds between two sweeps that also ask the storage for size and time of every file: one stat per file "
        "on a local disk, one request per file on S3. 0: never.",
        (0, 365 * 86_400),
    )

    query_images: int = _setting(
        8,
        "Photos of a product that are compared with the catalogue; the first ones by the image model's ordering.",
        (1, 64),
    )
    other_photos_weight: float = _setting(
        0.8,
        "How much the likeness to a product's photos behind its first one counts, which may show it in other colours; "
        "1 counts all alike.",
        (0, 1),
    )
    candidates: int = _setting(200, "Candidates by code distance whose exact cosine is computed.", (10, 10_000))
    exact_rows: int = _setting(
        250,
        "Up to this many photos among the products that may be shown, every vector is compared exactly.",
        (0, 10_000_000),
    )
    index_rows: int = _setting(
        20_000,
        "From this many photos on the HNSW index is used; between the two numbers all codes are scanned.",
        (0, 1_000_000_000),
    )
    engine: str = _setting(
        "pgvector",
        'What names the candidates of a search among more photos than INDEX_ROWS: "pgvector" (the index in Postgres), '
        '"milvus" (a server beside it) or the dotted path of a class of one\'s own.',
    )
    engine_options: dict | None = _setting(  # noqa: RUF009  (its default is no dict)
        None,
        'Options of the engine, for Milvus its address: {"uri": "http://localhost:19530"}. None: the engine\'s own.',
        hashed=False,
        shown=False,
    )
    least_recall: float = _setting(
        0.95,
        "Share of what the exact search finds that the search by codes has to find. Workers measure it every night; "
        "below it dashboard, status and check warn. 0: never.",
        (0, 1),
    )
    index_memory: int = _setting(
        2 * 2**30,
        "Bytes of memory that building an index may take on the database server; it takes no more than its graph "
        "needs, 1.2 GB for a million photos. Where the server gives more anyway, that counts.",
        (2**20, 2**41),
    )
    min_similarity: float | None = _setting(
        None,
        "Products below this cosine similarity are no look-alikes and are not shown. None: all are. Searches by "
        "photo are left out, since a shopper's snapshot is not very similar to any photo of a shop.",
        (-1, 1),
    )
    duplicate_similarity: float = _setting(
        0.97,
        "Of two found products whose most similar photos have this cosine with each other, one is shown. Above 1: "
        "both.",
        (0, 2),
    )
    diversity: float = _setting(
        0.2,
        "How much the likeness to products that already stand in the list counts against a product: 0 ranks by "
        "similarity alone.",
        (0, 1),
    )
    lean_strength: float = _setting(
        2.0, "How strongly a list that leans towards colour, pattern or shape does so.", (0, 8)
    )

    widget_cache_seconds: int = _setting(
        60, "Seconds for which the widget's search results are kept in Django's cache. 0: not at all.", (0, 30 * 86_400)
    )
    thumbnails: str | None = _setting(
        None,
        "Dotted path of a callable (field file, widths) that returns [(url, width, height), ...] for `srcset`. "
        "None: django-imagekit where it is installed, else the photo itself.",
    )

    visual_search_max_bytes: int = _setting(10 * 2**20, "Larger photos of shoppers are refused.", (1, 2**31))
    visual_search_max_pixels: int = _setting(
        50_000_000, "Photos of shoppers with more pixels are refused, before they are decoded.", (1, 2**31)
    )
    visual_search_formats: tuple[str, ...] = _setting(
        ("JPEG", "PNG", "WEBP", "GIF", "AVIF"), "Pillow's names of the formats that a shopper's photo may have."
    )
    visual_search_wait_seconds: float = _setting(
        5.0, "Seconds that a request waits for the worker's answer before it says that the service is busy.", (0, 60)
    )
    visual_search_keep_seconds: int = _setting(
        3_600,
        "Seconds for which the answer can be filtered and paged through; the photo is gone by then, unless the shopper "
        "wants to choose among the objects on it.",
        (10, 86_400),
    )
    visual_search_queue: int = _setting(
        50, "Photos that may wait for a worker at once; more are turned away.", (1, 100_000)
    )

    visual_search_objects: bool = _setting(
        True,
        "Whether workers look for the objects of a photo, to search with the largest and offer others; needs the "
        "weights that `fetch_u2net` fetches.",
    )

    record_events: bool = _setting(True, "Whether impressions, clicks and additions to the basket are recorded.")
    event_days: int = _setting(30, "Days for which raw events are kept; daily sums stay.", (1, 3_650))
    event_rows: int = _setting(1_000_000, "Raw events that are kept at most; daily sums stay.", (1, 1_000_000_000))
    event_visitor: str | None = _setting(
        None,
        "Dotted path of a callable (request) that returns a pseudonym of the visitor to record. None: none is "
        "recorded.",
    )

    proxies: int | None = _setting(
        None,
        "Proxies before the shop that each add to X-Forwarded-For the address they are asked from; a client is counted "
        "by what the first of them wrote. 0: the header is not heeded. None: REST_FRAMEWORK['NUM_PROXIES'], where that "
        "is a number, else 0.",
        (0, 16),
    )
    login_rate: str | None = _setting(
        "20/min",
        "Requests to the API with credentials that turn out to be wrong, per time and address; counted before a "
        "password is hashed. None: no limit.",
    )
    search_rate: str | None = _setting("240/min", "Searches per time and client of the API. None: no limit.")
    feed_rate: str | None = _setting("30/min", "Pages of the feed per time and client of the API. None: no limit.")
    upload_rate: str | None = _setting(
        "20/min", "Uploads per time and client, by API and pages together. None: no limit."
    )
    event_rate: str | None = _setting(
        "600/min", "Reports of events per time and client, by API and pages together. None: no limit."
    )

    metrics: bool = _setting(
        False, "Whether processes count for Prometheus; needs the extra `metrics`. Off, it costs nothing."
    )
    monitoring_token: str | None = _setting(
        None,
        "What Prometheus and others send as `Authorization: Bearer ...` to read metrics and the details of the health "
        "checks, at least 16 characters. None: only staff who may view the dashboard may.",
        shown=False,
    )
    worker_metrics_port: int = _setting(
        0, "Port on which a worker tells Prometheus what it counts; with METRICS alone. 0: none.", (0, 65_535)
    )
    worker_metrics_host: str = _setting("127.0.0.1", "Address on which it listens; 0.0.0.0: all of the machine's.")
    health_queue_seconds: int = _setting(
        900, "A saved photo that has waited this long for a worker makes the health checks fail. 0: never.", (0, 2**31)
    )
    health_worker_seconds: int = _setting(
        120, "Without a sign of any worker for this long the health checks fail. 0: never.", (0, 14 * 86_400)
    )
    shutdown_seconds: float = _setting(
        25.0,
        "A worker that is asked to end has this long for the photos it is at; then it gives them back and ends. Less "
        "than what systemd or Kubernetes wait before they kill it. 0: as long as it takes.",
        (0, 3_600),
    )


class SettingsError(ImproperlyConfigured):
    """A wrong entry in ``SHOP_SIMILARITY``. ``hint`` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}".strip())


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
    known = {setting.name.upper(): setting for setting in fields(Settings)}
    wrong = []
    for key in (key for key in raw if key not in known):
        near = difflib.get_close_matches(str(key).upper(), known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(sorted(known))}."
        wrong.append(SettingsError(f"{SETTING} has the unknown key {key!r}.", hint))
    for key, example in (("PRODUCT_MODEL", "your_app.Product"), ("IMAGES", "image")):
        if not raw.get(key):
            wrong.append(SettingsError(f"{SETTING} lacks {key!r}.", f'Add "{key}": "{example}".'))
    for key, value in raw.items():
        if key in known and (hint := _must_be(known[key], value)):
            shown = repr(value) if known[key].repr else "wrong"
            wrong.append(SettingsError(f"{SETTING}[{key!r}] is {shown}.", hint))
    return wrong


def _must_be(setting: Field, value: Any) -> str:
    """What a value has to be that it is not."""
    kinds: tuple[Any, ...] = tuple(kind for name in setting.type.split(" | ") for kind in _KINDS[name])
    # bool is an int to Python, but True as a number of seconds is a mistake.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return f"It must be of type {' or '.join(kind.__name__ for kind in kinds)}."
    if isinstance(value, tuple | list) and not (value and all(isinstance(part, str) and part for part in value)):
        return "Write texts into it, at least one."
    if value is not None and setting.name.endswith("_rate") and not RATE.fullmatch(value):
        return "Write a number, a slash and s, min, hour or day: '600/min'."
    if setting.name == "monitoring_token" and value is not None and len(value) < _SHORTEST_TOKEN:
        return f"Take at least {_SHORTEST_TOKEN} random characters, as `openssl rand -hex 32` prints them."
    if setting.name == "attributes" and value is not None and (wrong := _wrong_attribute(value)):
        return wrong
    if setting.name == "runtime" and value not in RUNTIMES and "." not in value:
        return f"Write one of {', '.join(map(repr, RUNTIMES))}, or the dotted path of a class."
    if setting.name == "engine" and value not in ENGINES and "." not in value:
        return f"Write one of {', '.join(map(repr, ENGINES))}, or the dotted path of a class."
    if value is not None and (ends := setting.metadata["range"]) and not ends[0] <= value <= ends[1]:
        return f"It must lie in {ends[0]} to {ends[1]}."
    return ""


def _wrong_attribute(attributes: dict) -> str:
    for name, value in attributes.items():
        if not isinstance(name, str) or not ATTRIBUTE.fullmatch(name):
            return f"{name!r} is no name: write small letters, digits and underscores, 30 at most."
        paths = [value] if isinstance(value, str) else value
        if not isinstance(paths, tuple | list) or not paths or not all(isinstance(p, str) and p for p in paths):
            return f"Write a field path, several of them or the dotted path of a callable as {name!r}."
    return ""


@functools.lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The plugin's settings.

    Raises:
        SettingsError: the first thing that is wrong with ``SHOP_SIMILARITY``; ``manage.py check`` shows all of them.
    """
    raw: Any = getattr(django_settings, SETTING, None)
    wrong = problems(raw)
    if wrong:
        raise wrong[0]
    values: dict[str, Any] = {
        key.lower(): tuple(value) if isinstance(value, list) else value for key, value in raw.items()
    }
    return Settings(**values)


@receiver(setting_changed)
def _drop_cache(*, setting: str, **kwargs: Any) -> None:
    if setting == SETTING:
        get_settings.cache_clear()
