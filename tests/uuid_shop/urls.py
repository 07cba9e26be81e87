from django.urls import include, path

urlpatterns = [
    path("similarity/", include("shop_similarity.urls")),
    path("api/similarity/", include("shop_similarity.api.urls")),
]
