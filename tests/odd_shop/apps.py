from django.apps import AppConfig


class OddShopConfig(AppConfig):
    name = "tests.odd_shop"
    label = "odd_shop"
