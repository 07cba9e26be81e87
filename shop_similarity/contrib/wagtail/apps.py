from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WagtailSimilarityConfig(AppConfig):
    name = "shop_similarity.contrib.wagtail"
    label = "shop_similarity_wagtail"
    verbose_name = _("Similar products in Wagtail")
