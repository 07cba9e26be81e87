from django.urls import include, path

urlpatterns = [path("similarity/", include("shop_similarity.api.urls"))]
