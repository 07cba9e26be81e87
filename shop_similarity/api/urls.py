"""Addresses of the API: ``path("api/similarity/", include("shop_similarity.api.urls"))``."""

from django.core.exceptions import ImproperlyConfigured
from django.urls import include, path

try:
    import drf_spectacular  # noqa: F401
    import rest_framework  # noqa: F401
except ImportError as error:
    raise ImproperlyConfigured(
        "The REST API of shop_similarity is an optional part: install djangorestframework and "
        'drf-spectacular[sidecar], add "rest_framework" and "drf_spectacular" to INSTALLED_APPS, or take '
        "shop_similarity.api.urls out of your addresses."
    ) from error

from .events import EventsView
from .feed import FeedView
from .operation import ActivationView, StatusView, VersionsView, VersionView
from .schema import SchemaView, docs
from .search import BasketView, ImageSearchResultsView, ImageSearchView, SimilarProductsView

app_name = "shop_similarity_api"

version_1 = [
    path("products/similar/", BasketView.as_view(), name="similar-to-several"),
    path("products/<path:id>/similar/", SimilarProductsView.as_view(), name="similar-products"),
    path("search/image/", ImageSearchView.as_view(), name="image-search"),
    path("search/image/<str:id>/", ImageSearchResultsView.as_view(), name="image-search-results"),
    path("events/", EventsView.as_view(), name="events"),
    path("feed/", FeedView.as_view(), name="feed"),
    path("status/", StatusView.as_view(), name="status"),
    path("versions/", VersionsView.as_view(), name="versions"),
    path("versions/<str:name>/", VersionView.as_view(), name="version"),
    path("versions/<str:name>/activate/", ActivationView.as_view(), name="activate"),
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", docs, name="docs"),
]

urlpatterns = [path("v1/", include(version_1))]
