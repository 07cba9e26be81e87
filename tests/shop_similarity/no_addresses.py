"""URLs of a shop that does not include those of the plugin."""

from django.urls import include, path

from catalog.urls import storefront

urlpatterns = [path("", include((storefront, "catalog")))]
