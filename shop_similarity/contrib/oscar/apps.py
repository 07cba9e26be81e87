from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OscarSimilarityConfig(AppConfig):
    name = "shop_similarity.contrib.oscar"
    label = "shop_similarity_oscar"
    verbose_name = _("Similar products in Oscar")

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers itself)
