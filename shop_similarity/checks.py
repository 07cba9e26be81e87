"""System checks: every wrong setting as one message with a hint, the database's side with ``check --database``.

========== ==========================================================================================
E001       ``SHOP_SIMILARITY`` is missing, has an unknown key or a wrong value
E002       the product model or its images can't be found
E003       ``PRODUCTS``, ``FALLBACK``, ``EVENT_VISITOR`` or ``IMAGE_FILTER`` can't be imported or is no callable
E004       ``CATEGORY``, ``PRICE``, ``VARIANT_GROUP``, ``COLOUR`` or ``IN_STOCK`` says nothing about a product
E005       ``WEIGHTS_STORAGE`` is no alias in ``STORAGES``
E006       ``ENCODERS`` names a function in a module that is not there
E007       the search engine can't be used as it is configured
W001       the weights' storage is the public media storage
W002       an experiment runs and the middleware that divides the visitors is missing
W003       no broker is named, so that Celery looks for one where hardly any shop has it
W004       a proxy seems to stand before the shop, and nobody said how many do
W005       many visible products have no value for ``CATEGORY``, ``PRICE`` or ``IN_STOCK``
W006       ``PRODUCTS`` shows children, which with ``PARENT`` nobody finds
W007       ``METRICS`` is on and prometheus-client is not installed
I001       the API's documentation has no files to show itself with
E010       the database is not PostgreSQL, or older than 15
E011       the pgvector extension is missing, older than 0.8, or in a schema where it is not found
E012       a key column has another type than the key of the shop's model
E013       the tables are half way between two unreleased versions
E014       ``PRODUCTS`` returns what is no queryset of products
W020       a pooler stands before the database, and Django opens cursors that it loses
W021       the search by codes finds too little of what the exact one finds
W022       a version's encoder is not named in ``ENCODERS``, or keras-hub is missing where TensorFlow is
W023       the search engine beside Postgres does not answer, or is behind
E020       products or photos are in another database than the plugin's tables
E021       each tenant of django-tenants would have tables of its own
========== ==========================================================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
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

from . import database, meters
from .catalogue import get_catalogue
from .catalogue.attributes import attribute_names, attribute_value
from .catalogue.field_paths import VALUE_SETTINGS, ProductValue, setting_value
from .client_addresses import trusted_proxies
from .conf import SETTING, Settings, SettingsError, get_settings, problems
from .embedding.engines import get_engine
from .engine_errors import EngineDown
from .models import Embedding

_TAG = "shop_similarity"
# Products that are looked at for values; a shop may have a million.
_SAMPLE = 10_000
# NULLS NOT DISTINCT.
_OLDEST_POSTGRESQL = 150_000


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
        *_check_encoders(settings),
        *_check_engine(),
        *_check_broker(),
        *_check_proxies(),
        *_check_metrics(settings),
    ]


@checks.register(_TAG)
def check_databases(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    try:
        catalogue = get_catalogue()
    except SettingsError:
        return []
    ours = database.aliases_of(Embedding)
    hint = (
        "Let the routers in DATABASE_ROUTERS answer for the app 'shop_similarity' (db_for_read, db_for_write, "
        "allow_migrate) as they do for the shop's products, and run `manage.py migrate --database ALIAS`."
    )
    messages: list[checks.CheckMessage] = [
        checks.Error(
            f"{model._meta.label} is in the database {_and(theirs)}, the plugin's tables are in {_and(ours)}: searches "
            "join both in one statement, so they have to be in one.",
            hint=hint,
            id="shop_similarity.E020",
        )
        for model in dict.fromkeys((catalogue.product_model, catalogue.image_model))
        if (theirs := database.aliases_of(model)) != ours
    ]
    if not database.has_tables(alias := database.write_alias()):
        messages.append(
            checks.Error(
                f"The plugin's rows are written to the database {alias!r}, but its tables are not migrated there.",
                hint=hint,
                id="shop_similarity.E020",
            )
        )
    return messages


@checks.register(_TAG)
def check_tenants(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    try:
        catalogue = get_catalogue()
    except SettingsError:
        return []
    own = {_TAG, *(model._meta.app_config.name for model in (catalogue.product_model, catalogue.image_model))}
    # Apps may be listed by the path of their configuration.
    of_tenants = {
        name
        for entry in getattr(django_settings, "TENANT_APPS", ())
        for name in own
        if f"{entry}.".startswith(f"{name}.")
    }
    if not of_tenants:
        return []
    return [
        checks.Error(
            f"TENANT_APPS has {_and(of_tenants)}: each tenant of django-tenants would have tables of its own, which "
            "the plugin does not support. Workers would embed for one tenant, and caches and locks be shared by all.",
            hint="List them in SHARED_APPS alone, or run a process of the shop, with settings of its own, per tenant.",
            id="shop_similarity.E021",
        )
    ]


def _and(aliases: set[str]) -> str:
    return " and ".join(map(repr, sorted(aliases)))


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
    for key in ("products", "fallback", "event_visitor", "image_filter"):
        path = getattr(settings, key)
        if not isinstance(path, str):
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


def _check_encoders(settings: Settings) -> list[checks.CheckMessage]:
    """The modules are only looked for: they import TensorFlow, which web processes never do."""
    messages: list[checks.CheckMessage] = []
    for path in settings.encoders or ():
        module, dot, function = path.rpartition(".")
        try:
            is_there = bool(dot and function) and find_spec(module) is not None
        except (ImportError, ValueError, AttributeError):
            is_there = False
        if not is_there:
            messages.append(
                checks.Error(
                    f"{SETTING}['ENCODERS'] names {path!r}, whose module isn't there: workers can't load a version "
                    "with this encoder, and its photos wait.",
                    hint="Write the dotted path of a function, for example 'shop.encoders.small', and install its "
                    "module where workers run.",
                    id="shop_similarity.E006",
                )
            )
    return messages


def _check_paths() -> list[checks.CheckMessage]:
    messages: list[checks.CheckMessage] = []
    for name in VALUE_SETTINGS:
        try:
            setting_value(name)
        except SettingsError as error:
            messages.append(checks.Error(error.message, hint=error.hint, id="shop_similarity.E004"))
    for name in attribute_names():
        try:
            attribute_value(name)
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


def _check_engine() -> list[checks.CheckMessage]:
    try:
        get_engine().check()
    except EngineDown as error:
        return [checks.Error(str(error), hint="docs/engines.md has the options.", id="shop_similarity.E007")]
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


def _check_metrics(settings: Settings) -> list[checks.CheckMessage]:
    if not settings.metrics or meters.is_installed():
        return []
    return [
        checks.Warning(
            f"{SETTING}['METRICS'] is on, but prometheus-client is not installed: nothing is counted.",
            hint="Install it: pip install prometheus-client, or the extra `metrics`.",
            id="shop_similarity.W007",
        )
    ]


@checks.register(checks.Tags.database)
def check_database(databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    messages: list[checks.CheckMessage] = []
    try:
        get_catalogue()
    except SettingsError:
        # Reported by check_settings.
        return messages
    if databases:
        messages += _check_images()
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
        if connection.pg_version < _OLDEST_POSTGRESQL:
            messages.append(
                checks.Error(
                    f"The server of database {alias!r} is PostgreSQL {connection.pg_version // 10_000}; the plugin's "
                    "tables need 15 or newer.",
                    hint="Upgrade the server; without it `manage.py migrate` fails at a constraint.",
                    id="shop_similarity.E010",
                )
            )
            continue
        messages += _check_extension(connection, alias)
        messages += _check_pooler(connection, alias)
        if half_way := _check_history(connection, alias):
            messages += half_way
            continue
        messages += _check_key_types(connection)
        messages += _check_children(alias)
        messages += _check_experiment(connection, alias)
        messages += _check_recall(connection)
        messages += _check_versions(connection, alias)
        messages += _check_copies(connection)
        if alias == database.read_alias():
            messages += _check_products(alias)
    return messages


def _check_versions(connection: Any, alias: str) -> list[checks.CheckMessage]:
    """Encoders of versions in use, by what workers need to load them."""
    from .models import ModelVersion

    with connection.cursor() as cursor:
        # Before the first migration there is no table to ask.
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [ModelVersion._meta.db_table])
        if not cursor.fetchone()[0]:
            return []
    messages: list[checks.CheckMessage] = []
    live = ModelVersion.objects.using(alias).live().values_list("name", "config__encoder")
    for name, encoder in live:
        if not isinstance(encoder, dict):
            continue
        path = encoder.get("name")
        if encoder.get("builder") == "python" and path not in (get_settings().encoders or ()):
            reason = f"has the encoder {path!r}, which {SETTING}['ENCODERS'] does not name"
            hint = f"Add {path!r} to ENCODERS if it is the shop's own."
        elif encoder.get("builder") == "keras-hub" and find_spec("tensorflow") and not find_spec("keras_hub"):
            reason = "has an encoder of keras-hub, which is not installed here"
            hint = 'Install it where workers run, in the plugin\'s folder: pip install ".[worker,encoders]"'
        else:
            continue
        message = f"Model version {name} {reason}: workers can't load it, and its photos wait."
        messages.append(checks.Warning(message, hint=hint, id="shop_similarity.W022"))
    return messages


def _check_images() -> list[checks.CheckMessage]:
    """A function of the shop's may ask the database for what it filters by."""
    path = get_settings().image_filter
    if not isinstance(path, str):
        return []
    try:
        import_string(path)
    except ImportError:
        # Reported by check_settings.
        return []
    try:
        get_catalogue().images()
    except SettingsError as error:
        message, hint = error.message, error.hint
    except Exception as error:
        message = f"{SETTING}['IMAGE_FILTER'] names {path!r}, which raised {type(error).__name__}: {error}"
        hint = "It is called with a queryset of the rows that IMAGES leads to, and returns it filtered."
    else:
        return []
    return [checks.Error(message, hint=hint, id="shop_similarity.E003")]


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
    fault = hidden_extension(connection, alias)
    return [fault] if fault else []


def hidden_extension(connection: Any, alias: str) -> checks.Error | None:
    """What is wrong where the extension is there and its types are not found: ``type "halfvec" does not exist``."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extnamespace::regnamespace::text, current_setting('search_path') FROM pg_extension "
            "WHERE extname = 'vector' AND to_regtype('halfvec') IS NULL"
        )
        found = cursor.fetchone()
    if found is None:
        return None
    schema, path = found
    return checks.Error(
        f"Database {alias!r} has pgvector in the schema {schema}, which is not in the search_path of the shop's role "
        f"({path}), so that its types are not found.",
        hint=f"Run ALTER ROLE ... SET search_path = {path}, {schema}; or ALTER EXTENSION vector SET SCHEMA public.",
        id="shop_similarity.E011",
    )


def _check_pooler(connection: Any, alias: str) -> list[checks.CheckMessage]:
    if connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS") or not database.is_pooled(alias):
        return []
    return [
        checks.Warning(
            f"A pooler such as PgBouncer stands before the database {alias!r}. In transaction mode it loses "
            "the cursors that Django opens on the server for QuerySet.iterator() and for the choices of forms.",
            hint=f"Set DATABASES[{alias!r}]['DISABLE_SERVER_SIDE_CURSORS'] to True. The plugin itself opens none.",
            id="shop_similarity.W020",
        )
    ]


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


def _check_recall(connection: Any) -> list[checks.CheckMessage]:
    from .models import ModelVersion, RecallSample
    from .rollout.recall import remembered

    with connection.cursor() as cursor:
        # Before the migration there is no table to ask.
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [RecallSample._meta.db_table])
        if not cursor.fetchone()[0]:
            return []
    version = ModelVersion.objects.defer("metrics").active()
    measured = version and remembered([version]).get(version.pk)
    if not version or not measured or not (warning := measured.warning(version.name)):
        return []
    return [checks.Warning(warning, id="shop_similarity.W021")]


def _check_copies(connection: Any) -> list[checks.CheckMessage]:
    from .embedding.engines.states import trouble
    from .models import EngineCopy

    with connection.cursor() as cursor:
        # Before the migration there is no table to ask.
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [EngineCopy._meta.db_table])
        if not cursor.fetchone()[0]:
            return []
    return [checks.Warning(sentence, id="shop_similarity.W023") for sentence in trouble(asking=True)]


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


def _check_children(alias: str) -> list[checks.CheckMessage]:
    catalogue = get_catalogue()
    if catalogue.parent is None:
        return []
    children = catalogue.all_products().using(alias).exclude(**{catalogue.parent.name: None})
    try:
        is_shown = children.filter(pk__in=catalogue.visible_products().using(alias).values("pk")).exists()
    except (SettingsError, DatabaseError):
        # Reported elsewhere, or the shop's tables are not there yet.
        return []
    if not is_shown:
        return []
    return [
        checks.Warning(
            f"{SETTING}['PRODUCTS'] shows products with a parent, but with {SETTING}['PARENT'] these are never found: "
            "their parents are, by their photos.",
            hint="Leave children out of PRODUCTS; or where each is shown by itself, leave PARENT out.",
            id="shop_similarity.W006",
        )
    ]


def _check_key_types(connection: Any) -> list[checks.CheckMessage]:
    from .models import OutboxEntry

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
                        (wanted := model._meta.get_field(name).db_type(connection) or ""),
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
