from django.apps import AppConfig


class UuidShopConfig(AppConfig):
    name = "tests.uuid_shop"
    label = "uuid_shop"
