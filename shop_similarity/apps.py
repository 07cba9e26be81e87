from typing import Any

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.db.models.signals import pre_migrate
from django.utils.translation import gettext_lazy as _


class ShopSimilarityConfig(AppConfig):
    name = "shop_similarity"
    label = "shop_similarity"
    verbose_name = _("Similar products")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers itself)
        from .conf import SettingsError
        from .hooks import connect_hooks

        pre_migrate.connect(_prepare_database, sender=self)
        try:
            connect_hooks()
        except SettingsError:
            # `manage.py check` runs after this and reports every mistake with its hint; a traceback from here would
            # hide them.
            return


def _prepare_database(sender: AppConfig, using: str, **kwargs: Any) -> None:
    """See to it that the types of the columns are found, before a table is made of them.

    Shops that run their tests without migrations have tables made from the models, so nothing else makes the extension.
    """
    from django.db.migrations.loader import MigrationLoader

    from . import database
    from .checks import hidden_extension

    connection = database.connection(using)
    if connection.vendor != "postgresql" or not database.has_tables(using):
        return
    if MigrationLoader.migrations_module(sender.label)[0] is None:
        with database.cursor(using) as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
    if fault := hidden_extension(connection, using):
        raise ImproperlyConfigured(f"{fault.msg} {fault.hint}")
