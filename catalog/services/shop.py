"""Which servers the shop uses: those named in the environment, else its own embedded ones."""

import os
from collections.abc import Callable
from pathlib import Path

from .errors import ServiceError
from .postgres import Postgres
from .valkey import Valkey

PROJECT = Path(__file__).resolve().parents[2]

# Where nothing listens: an embedded server that was never started has no address yet.
NOWHERE = "127.0.0.1:9"

START_HINT = "Start it with `make demo`, or with `python manage.py services start` to run other commands."


def data_folder() -> Path:
    """The folder that holds all the shop makes: `.data` in the project, or SHOP_DATA."""
    return Path(os.environ.get("SHOP_DATA") or PROJECT / ".data").resolve()


def own_database_url() -> str | None:
    """The user's DATABASE_URL; None means that the embedded Postgres is used."""
    return os.environ.get("DATABASE_URL") or None


def own_broker_url() -> str | None:
    """The user's CELERY_BROKER_URL or REDIS_URL; None means that the embedded Valkey is used."""
    return os.environ.get("CELERY_BROKER_URL") or os.environ.get("REDIS_URL") or None


def postgres(report: Callable[[str], None] | None = None) -> Postgres:
    """The shop's embedded Postgres, started or not."""
    return Postgres(data_folder() / "postgres", report=report)


def valkey(report: Callable[[str], None] | None = None) -> Valkey:
    """The shop's embedded Valkey, started or not."""
    return Valkey(data_folder() / "valkey", report=report)


def database_url() -> str:
    """The address of the shop's database, for dj-database-url."""
    return own_database_url() or _recorded(postgres(), f"postgresql://shop@{NOWHERE}/shop")


def broker_url() -> str:
    """The address of the shop's broker, for Celery."""
    return own_broker_url() or _recorded(valkey(), f"redis://{NOWHERE}/0")


def _recorded(server: Postgres | Valkey, otherwise: str) -> str:
    try:
        return server.url
    except (ServiceError, OSError):
        return otherwise


def why_unreachable() -> str | None:
    """A sentence if the shop uses its embedded Postgres and that is not running, else None."""
    if own_database_url() is None and not postgres().is_running():
        return f"The shop's own Postgres is not running. {START_HINT}"
    return None
