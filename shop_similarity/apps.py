from django.apps import AppConfig
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

        try:
            connect_hooks()
        except SettingsError:
            # `manage.py check` runs after this and reports every mistake with its hint; a traceback from here would
            # hide them.
            return
