from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path
from django.views.static import serve
from wagtail import urls as wagtail_urls
from wagtail.admin import urls as wagtailadmin_urls

urlpatterns = [
    path("media/<path:path>", serve, {"document_root": settings.MEDIA_ROOT}),
    path("admin/", include(wagtailadmin_urls)),
    path("similarity/", include("shop_similarity.urls")),
    *i18n_patterns(path("", include(wagtail_urls))),
]
