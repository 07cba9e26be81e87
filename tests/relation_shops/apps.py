from django.apps import AppConfig


class RelationShopsConfig(AppConfig):
    name = "tests.relation_shops"
    label = "relation_shops"
    default_auto_field = "django.db.models.BigAutoField"
