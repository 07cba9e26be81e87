"""The addresses of the reference shop."""

from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path

from catalog import views
from catalog.stored_files import stored_file

storefront = [
    path("", views.home, name="home"),
    path("category/<slug:slug>/", views.category, name="category"),
    path("product/<slug:slug>/", views.product, name="product"),
    path("search/", views.search, name="search"),
    path("basket/", views.basket, name="basket"),
    path("basket/<int:pk>/", views.change_basket, name="change_basket"),
]

handler500 = views.failed

urlpatterns = [
    path("admin/", admin.site.urls),
    path("similarity/", include("shop_similarity.urls")),
    path("similarity/", include("shop_similarity.monitoring.urls")),
    path("api/similarity/", include("shop_similarity.api.urls")),
    path("", include((storefront, "catalog"))),
]

# A shop of one machine serves its photos itself; with a MEDIA_URL on another host somebody else does.
if not urlsplit(settings.MEDIA_URL).netloc:
    media = settings.MEDIA_URL.strip("/")
    urlpatterns.append(re_path(rf"^{media}/(?P<path>.+)$", stored_file))
