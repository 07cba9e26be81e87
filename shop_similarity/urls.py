"""Pages and fragments of the plugin: ``path("similarity/", include("shop_similarity.urls"))``."""

from django.urls import path

from .feedback import views as feedback
from .storefront import fragments
from .visual_search import object_views as objects
from .visual_search import views as visual_search

app_name = "shop_similarity"

urlpatterns = [
    # Hosts may write a key with slashes into the address as it is.
    path("products/<path:pk>/similar/", fragments.similar_products, name="similar-products"),
    path("search/", visual_search.visual_search, name="visual-search"),
    path("search/<uuid:pk>/", visual_search.visual_search_results, name="visual-search-results"),
    path("search/<uuid:pk>/part/", objects.choose_part, name="visual-search-part"),
    path("search/<uuid:pk>/part/<int:number>.jpg", objects.picture_of_part, name="visual-search-picture"),
    path("products/<path:pk>/in-the-picture/", objects.in_the_picture, name="in-the-picture"),
    path("events/", feedback.events, name="events"),
]
