"""System checks: every wrong setting as one message with a hint, the database's side with ``check --database``.

========== ==========================================================================================
E001       ``SHOP_SIMILARITY`` is missing, has an unknown key or a wrong value
E002       the product model or its images can't be found
E003       ``PRODUCTS``, ``FALLBACK`` or ``EVENT_VISITOR`` can't be imported or is no callable
E004       ``CATEGORY``, ``PRICE``, ``VARIANT_GROUP``, ``COLOUR`` or ``IN_STOCK`` says nothing about a product
E005       ``WEIGHTS_STORAGE`` is no alias in ``STORAGES``
W001       the weights' storage is the public media storage
W002       an experiment runs and the middleware that divides the visitors is missing
W003       no broker is named, so that Celery looks for one where hardly any shop has it
W004       a proxy seems to stand before the shop, and nobody said how many do
W005       many visible products have no value for ``CATEGORY``, ``PRICE`` or ``IN_STOCK``
I001       the API's documentation has no files to show itself with
E010       the database is not PostgreSQL
E011       the pgvector extension is missing or older than 0.8
E012       a key column has another type than the key of the shop's model
E013       the tables are half way between two unreleased versions
E014       ``PRODUCTS`` returns what is no queryset of products
========== ==========================================================================================
"""

from __future__ import annotations

import os
import re
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from . import database
from .catalogue import get_catalogue
from .catalogue.field_paths import VALUE_SETTINGS, ProductValue, setting_value
from .client_addresses import trusted_proxies
from .conf import SETTING, Settings, SettingsError, get_settings, problems

_TAG = "shop_similarity"
# Products that are looked at for values; a shop may have a million.
_SAMPLE = 10_000


@checks.register(_TAG)
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    wrong = problems(getattr(django_settings, SETTING, None))
    if wrong:
        return [checks.Error(problem.message, hint=problem.hint, id="shop_similarity.E001") for problem in wrong]
    try:
        get_catalogue()
    except SettingsError as error:
        return [checks.Error(error.message, hint=error.hint, id="shop_similarity.E002")]
    settings = get_settings()
    return [
        *_check_callables(settings),
        *_check_paths(),
        *_check_storage(settings),
        *_check_broker(),
        *_check_proxies(),
    ]


@checks.register(_TAG)
def check_api_docs(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    if apps.is_installed("drf_spectacular_sidecar"):
        return []
    try:
        address = reverse("shop_similarity_api:docs")
    except (NoReverseMatch, ImproperlyConfigured):
        # Not mounted, or Django's own checks say what is wrong with the addresses.
        return []
    return [
        checks.Info(
            f"{address} shows a link to the API's schema only, since Swagger UI is not installed.",
            hint='Add "drf_spectacular_sidecar" to INSTALLED_APPS and run collectstatic.',
            id="shop_similarity.I001",
        )
    ]


def _check_callables(settings: Settings) -> list[checks.CheckMessage]:
    messages: list[checks.CheckMessage] = []
    for key in ("products", "fallback", "event_visitor"):
        path = getattr(settings, key)
        if path is None:
            continue
        try:
            target = import_string(path)
        except ImportError as error:
            messages.append(
                checks.Error(
                    f"{SETTING}[{key.upper()!r}] names {path!r}, which can't be imported: {error}",
                    hint="Write the dotted path of a function, for example 'shop.products.visible_products'.",
                    id="shop_similarity.E003",
                )
            )
            continue
        if not callable(target):
            messages.append(
                checks.Error(
                    f"{SETTING}[{key.upper()!r}] names {path!r}, which is no callable.",
                    hint=f"Name a function; docs/settings.md says what {key.upper()} takes and returns.",
                    id="shop_similarity.E003",
                )
            )
    return messages


def _check_paths() -> list[checks.CheckMessage]:
    messages = []
    for name in VALUE_SETTINGS:
        try:
            setting_value(name)
        except SettingsError as error:
            messages.append(checks.Error(error.message, hint=error.hint, id="shop_similarity.E004"))
    return messages


def _check_storage(settings: Settings) -> list[checks.CheckMessage]:
    aliases = django_settings.STORAGES
    if settings.weights_storage not in aliases:
        return [
            checks.Error(
                f"{SETTING}['WEIGHTS_STORAGE'] is {settings.weights_storage!r}, which STORAGES doesn't have.",
                hint=(
                    f"Add STORAGES[{settings.weights_storage!r}], for example a FileSystemStorage whose location no "
                    "web server serves."
                ),
                id="shop_similarity.E005",
            )
        ]
    if settings.weights_storage == "default":
        return [
            checks.Warning(
                "The model weights are kept in the default storage, which most shops serve to the public.",
                hint="Give them a storage of their own in STORAGES and name it in WEIGHTS_STORAGE.",
                id="shop_similarity.W001",
            )
        ]
    return []


def _check_broker() -> list[checks.CheckMessage]:
    # Celery itself heeds the variables of these names where the setting is silent.
    names = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
    if any(getattr(django_settings, name, None) or os.environ.get(name) for name in names):
        return []
    return [
        checks.Warning(
            "CELERY_BROKER_URL is not set: Celery looks for a RabbitMQ here, and no worker starts without it.",
            hint="Name the broker of the workers, for example CELERY_BROKER_URL = 'redis://localhost:6379/0'.",
            id="shop_similarity.W003",
        )
    ]


def _check_proxies() -> list[checks.CheckMessage]:
    signs = [name for name in ("SECURE_PROXY_SSL_HEADER", "USE_X_FORWARDED_HOST") if getattr(django_settings, name)]
    if not signs or trusted_proxies() is not None:
        return []
    return [
        checks.Warning(
            f"{signs[0]} is set, so a proxy seems to stand before the shop, but nothing says how many do: all clients "
            "behind it count as one, and share the rates.",
            hint=f"Set {SETTING}['PROXIES'] to the number of proxies that add to X-Forwarded-For; to 0 if none does.",
            id="shop_similarity.W004",
        )
    ]


@checks.register(checks.Tags.database)
def check_database(databases: list[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    messages: list[checks.CheckMessage] = []
    try:
        get_catalogue()
    except SettingsError:
        # Reported by check_settings.
        return messages
    for alias in databases or []:
        if not database.has_tables(alias):
            continue
        connection = database.connection(alias)
        if connection.vendor != "postgresql":
            messages.append(
                checks.Error(
                    f"The database {alias!r} is {connection.display_name}; embeddings need PostgreSQL with pgvector.",
                    hint="Use the django.db.backends.postgresql backend.",
                    id="shop_similarity.E010",
                )
            )
            continue
        messages += _check_extension(connection, alias)
        if half_way := _check_history(connection, alias):
            messages += half_way
            continue
        messages += _check_key_types(connection)
        messages += _check_experiment(connection, alias)
        if alias == database.read_alias():
            messages += _check_products(alias)
    return messages


def _check_extension(connection: Any, alias: str) -> list[checks.CheckMessage]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'), "
            "(SELECT default_version FROM pg_available_extensions WHERE name = 'vector')"
        )
        installed, available = cursor.fetchone()
    version = installed or available
    if version is None:
        return [
            checks.Error(
                f"The PostgreSQL server of database {alias!r} doesn't have pgvector.",
                hint="Install pgvector 0.8 or newer on the server; managed services call it 'vector'.",
                id="shop_similarity.E011",
            )
        ]
    if tuple(int(part) for part in version.split(".")[:2]) < (0, 8):
        return [
            checks.Error(
                f"Database {alias!r} has pgvector {version}; 0.8 is the first with iterative index scans.",
                hint="Upgrade pgvector on the server, then run ALTER EXTENSION vector UPDATE.",
                id="shop_similarity.E011",
            )
        ]
    return []


def _check_history(connection: Any, alias: str) -> list[checks.CheckMessage]:
    """Django takes a migration whose predecessors are gone and applied in part for none at all, without a word."""
    loader = MigrationLoader(connection, load=False)
    loader.load_disk()
    applied = set(MigrationRecorder(connection).applied_migrations())
    messages: list[checks.CheckMessage] = []
    for key, migration in loader.disk_migrations.items():
        replaced = set(migration.replaces)
        if key[0] != _TAG or not replaced & applied or replaced <= applied or replaced & set(loader.disk_migrations):
            continue
        missing = ", ".join(sorted(name for _, name in replaced - applied))
        messages.append(
            checks.Error(
                f"Database {alias!r} has tables of an unreleased version; these migrations are missing: {missing}.",
                hint=(
                    "Run `manage.py migrate` once with the last version of the code that has them, or drop the tables "
                    "shop_similarity_* and delete the plugin's rows in django_migrations."
                ),
                id="shop_similarity.E013",
            )
        )
    return messages


def _check_experiment(connection: Any, alias: str) -> list[checks.CheckMessage]:
    from .models import Experiment

    if "shop_similarity.middleware.ExperimentMiddleware" in django_settings.MIDDLEWARE:
        return []
    with connection.cursor() as cursor:
        # Before the first migration there is no table to ask.
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [Experiment._meta.db_table])
        if not cursor.fetchone()[0]:
            return []
    running = Experiment.objects.using(alias).running().values_list("name", flat=True).first()
    if running is None:
        return []
    return [
        checks.Warning(
            f"The experiment {running!r} runs, but nothing divides the visitors: everybody sees the control version.",
            hint="Add 'shop_similarity.middleware.ExperimentMiddleware' to MIDDLEWARE.",
            id="shop_similarity.W002",
        )
    ]


def _check_products(alias: str) -> list[checks.CheckMessage]:
    """Whether the products that the shop shows can be asked for, and how many of the first ones lack a value."""
    catalogue = get_catalogue()
    try:
        visible = catalogue.visible_products().using(alias).order_by().values_list("pk", flat=True)
        # A join may return a product more than once.
        keys = set(visible[:_SAMPLE])
        messages = []
        for name in ("category", "price", "in_stock"):
            value = setting_value(name)
            if value is None or not keys:
                continue
            sampled = catalogue.all_products().using(alias).filter(pk__in=keys)
            with_value = value.select(sampled, isnull=False).values("pk").distinct().count()
            if missing := len(keys) - with_value:
                messages.append(_missing_values(name, value, missing, len(keys)))
        return messages
    except SettingsError as error:
        if error.message.startswith(f"{SETTING}['PRODUCTS']"):
            return [checks.Error(error.message, hint=error.hint, id="shop_similarity.E014")]
        # Reported by check_settings.
        return []
    except DatabaseError:
        # Before the shop's own first migration there is nothing to ask.
        return []


def _missing_values(name: str, value: ProductValue, missing: int, looked_at: int) -> checks.CheckMessage:
    of = f"the first {looked_at}" if looked_at == _SAMPLE else str(looked_at)
    # A few may well have none; where many lack it, the path leads astray.
    kind = checks.Warning if 10 * missing > looked_at else checks.Info
    return kind(
        f"{SETTING}[{name.upper()!r}], {value.name!r}, has no value for {missing} of {of} visible products.",
        hint=(
            "A filter by it finds none of them. Where parents have the value with their variants, or the other way "
            f"round, name both paths: ({value.name!r}, 'children__{value.name}')."
            if value.path
            else "A filter by it finds none of them."
        ),
        id="shop_similarity.W005",
    )


def _check_key_types(connection: Any) -> list[checks.CheckMessage]:
    from .models import Embedding, OutboxEntry

    messages: list[checks.CheckMessage] = []
    with connection.cursor() as cursor:
        for model in (Embedding, OutboxEntry):
            for name in ("product_id", "image_id"):
                cursor.execute(
                    # The type has other names and blanks in Postgres' words, the numbers behind it are the same.
                    "SELECT atttypid = to_regtype(%s)::oid AND "
                    "coalesce(substring(format_type(atttypid, atttypmod) FROM '[(].*[)]'), '') = %s, "
                    "format_type(atttypid, atttypmod) FROM pg_attribute "
                    "WHERE attrelid = to_regclass(%s) AND attname = %s",
                    [
                        (wanted := model._meta.get_field(name).db_type(connection)),
                        "".join(re.findall(r"[(].*[)]", wanted)).replace(" ", ""),
                        model._meta.db_table,
                        name,
                    ],
                )
                row = cursor.fetchone()
                if row is not None and not row[0]:
                    messages.append(
                        checks.Error(
                            f"{model._meta.db_table}.{name} is of type {row[1]}, but the shop's key is {wanted}.",
                            hint=(
                                "The product model was exchanged after the tables were made: run "
                                "`manage.py migrate --skip-checks shop_similarity zero`, then `manage.py migrate`, "
                                "and embed again."
                            ),
                            id="shop_similarity.E012",
                        )
                    )
    return messages
