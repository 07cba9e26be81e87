"""The tests' settings in a shop whose products and similarities are in a database that is not ``default``.

The one that is holds the accounts, and is no PostgreSQL: a statement of the plugin's that is sent there fails.
"""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, FOLDER, os

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{os.environ[FOLDER]}/accounts.sqlite3",
        "TEST": {"NAME": f"{os.environ[FOLDER]}/test_accounts.sqlite3"},
        "OPTIONS": {"timeout": 20},
    },
    "shop": DATABASES["default"],
}
DATABASES["shop"].setdefault("TEST", {})["NAME"] = "test_two_databases"
DATABASE_ROUTERS = ["tests.two_databases.routers.ByApp"]
