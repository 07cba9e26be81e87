"""URLs of the API: ``path("api/similarity/", include("shop_similarity.api.urls"))``."""

from django.urls import path

from .views import SimilarProductsView

app_name = "shop_similarity"

urlpatterns = [
    path("products/<str:pk>/similar/", SimilarProductsView.as_view(), name="similar-products"),
]
