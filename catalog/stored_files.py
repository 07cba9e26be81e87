"""The photos that a shop of one machine serves itself: each, and each small copy, is as public as its product."""

from pathlib import PurePosixPath

from django.conf import settings
from django.db.models import Exists, OuterRef, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers, patch_cache_control
from django.views.decorators.http import require_safe
from django.views.static import serve

from catalog.models import ProductPhoto
from catalog.products import visible_products

ONE_DAY = 24 * 60 * 60
# Below it imagekit keeps copies, in folders that are called like the photos without their suffixes.
COPIES = PurePosixPath("CACHE/images")


@require_safe
def stored_file(request: HttpRequest, path: str) -> HttpResponse:
    """A photo or a small copy of one, from the shop's own disk; photos of hidden products are for the staff alone."""
    if "\x00" in path:
        raise Http404
    is_public = _is_public(path)
    # The visitor is asked for where it matters alone: a photo that is everybody's may be kept by every cache.
    if not is_public and not (request.user.is_active and request.user.is_staff):
        raise Http404
    response = serve(request, path, document_root=settings.MEDIA_ROOT)
    if is_public:
        patch_cache_control(response, public=True, max_age=ONE_DAY)
    else:
        add_never_cache_headers(response)
    return response


def _is_public(path: str) -> bool:
    """Whether a product that may be shown has this file; what belongs to no product is nobody's business."""
    place = PurePosixPath(path)
    whose = Q(file=path)
    if place.is_relative_to(COPIES) and place.parent != COPIES:
        stem = str(place.parent.relative_to(COPIES))
        whose = Q(file=stem) | Q(file__startswith=f"{stem}.")
    shown: dict[str, bool] = {}
    photos = ProductPhoto.objects.filter(whose).annotate(
        is_shown=Exists(visible_products().filter(pk=OuterRef("product_id")))
    )
    for name, is_shown in photos.values_list("file", "is_shown"):
        shown[name] = is_shown or shown.get(name, False)
    # Photos that differ in their suffixes alone keep their copies in one folder.
    return bool(shown) and all(shown.values())
