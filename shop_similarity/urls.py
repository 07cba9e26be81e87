"""Pages and fragments of the plugin: ``path("similarity/", include("shop_similarity.urls"))``."""

from django.urls import path

from . import fragments
from .feedback import views as feedback

app_name = "shop_similarity"

urlpatterns = [
    path("products/<str:pk>/similar/", fragments.similar_products, name="similar-products"),
    path("events/", feedback.events, name="events"),
]
