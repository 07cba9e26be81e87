from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WorkersConfig(AppConfig):
    name = "shop_similarity.workers"
    label = "shop_similarity_workers"
    verbose_name = _("Similar products: workers")

    def ready(self) -> None:
        from shop_similarity.workers import checks  # noqa: F401
