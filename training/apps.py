from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TrainingConfig(AppConfig):
    name = "shop_similarity.training"
    label = "shop_similarity_training"
    verbose_name = _("Training of similarity models")
