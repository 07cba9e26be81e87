from django.urls import include, path

from catalog.views import product

urlpatterns = [
    path("products/<int:pk>/", product, name="product"),
    path("similarity/", include("shop_similarity.urls")),
]
