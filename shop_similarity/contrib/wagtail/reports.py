"""The report of Wagtail's admin: how far the photos are, what failed, whether a worker runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import Count, Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.generic import TemplateView
from wagtail.admin import messages
from wagtail.admin.admin_url_finder import AdminURLFinder
from wagtail.admin.views.generic.base import WagtailAdminTemplateMixin

from ... import database
from ...catalogue import get_catalogue
from ...embedding import bell, outbox
from ...models import ModelVersion, OutboxEntry
from ...rollout.status import status

# As shop_similarity.admin.access has them, which needs Django's own admin; not every Wagtail has that.
VIEW_DASHBOARD = "shop_similarity.view_dashboard"
RETRY_FAILED = "shop_similarity.retry_outboxentry"
FAILURES = 20
URL_NAME = "shop_similarity_wagtail_report"
# Workers leave a sign every half minute.
_QUIET = timedelta(minutes=10)


@dataclass(frozen=True)
class Failure:
    """A photo that the active version could not embed.

    Attributes:
        entry: its entry in the outbox, with the sentence.
        product: None where the user may not see it.
        edit_url: where the user may edit the product, or None.
    """

    entry: OutboxEntry
    product: Model | None
    edit_url: str | None


class SimilarProductsReport(WagtailAdminTemplateMixin, TemplateView):
    """For users with the permission ``shop_similarity.view_dashboard``; a POST queues failed photos once more."""

    template_name = "shop_similarity/wagtail/report.html"
    page_title = _("Similar products")
    header_icon = "image"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.has_perm(VIEW_DASHBOARD):
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # Who has just had failed photos queued sees them queued.
        with database.on_primary():
            return super().get(request, *args, **kwargs)

    def get_breadcrumbs_items(self) -> list[dict[str, Any]]:
        return [*super().get_breadcrumbs_items(), {"url": "", "label": self.page_title}]

    def post(self, request: HttpRequest) -> HttpResponse:
        if not request.user.has_perm(RETRY_FAILED):
            raise PermissionDenied
        entries = OutboxEntry.objects.filter(version__state__in=ModelVersion.LIVE, failed_at__isnull=False)
        with database.atomic():
            count = entries.aggregate(photos=Count("image_id", distinct=True))["photos"]
            outbox.retry_failed(entries)
            database.on_commit(bell.ring)
        messages.success(request, ngettext("%d photo is queued again.", "%d photos are queued again.", count) % count)
        return HttpResponseRedirect(reverse(URL_NAME))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found = status()
        seen = found["worker_seen_at"] and datetime.fromisoformat(found["worker_seen_at"])
        return super().get_context_data(**kwargs) | {
            "status": found,
            "worker_seen_at": seen,
            "is_quiet": bool(found["pending"]) and (seen is None or timezone.now() - seen > _QUIET),
            "failures": _failures(self.request, found["active_version"]),
            "may_retry": self.request.user.has_perm(RETRY_FAILED),
        }


def _failures(request: HttpRequest, version: str | None) -> list[Failure]:
    failed = OutboxEntry.objects.filter(version__name=version, failed_at__isnull=False)
    entries = list(failed.order_by("-failed_at", "-pk")[:FAILURES])
    catalogue = get_catalogue()
    keys = {entry.product_id for entry in entries}
    products = {product.pk: product for product in catalogue.all_products().filter(pk__in=keys)}
    visible = set(catalogue.visible_products().filter(pk__in=keys).values_list("pk", flat=True))
    finder = AdminURLFinder(request.user)
    # It knows who may edit what: pages by their place in the tree, snippets by the permissions of their model.
    urls = {key: finder.get_edit_url(product) for key, product in products.items()}
    return [
        Failure(
            entry,
            products[key] if (key := entry.product_id) in visible or urls.get(key) else None,
            urls.get(key),
        )
        for entry in entries
    ]
