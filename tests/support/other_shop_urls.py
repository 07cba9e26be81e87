from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("similarity/", include("shop_similarity.urls")),
    path("api/similarity/", include("shop_similarity.api.urls")),
]
