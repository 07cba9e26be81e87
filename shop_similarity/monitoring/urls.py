"""Health and metrics: ``path("similarity/", include("shop_similarity.monitoring.urls"))``, wherever a shop likes."""

from django.urls import path

from . import views

app_name = "shop_similarity_monitoring"

urlpatterns = [
    path("health/", views.health, name="health"),
    path("health/<slug:name>/", views.health, name="health-check"),
    path("metrics/", views.metrics, name="metrics"),
]
