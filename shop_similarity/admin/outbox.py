"""The outbox in the admin: what waits, what failed and why, and the retry."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .. import database
from ..embedding import bell, outbox
from ..embedding.magnitudes import count
from . import access, journal


class OutcomeFilter(admin.SimpleListFilter):
    """Photos that wait and photos that failed."""

    title = _("state")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("pending", _("pending")), ("failed", _("failed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.value() == "pending":
            return queryset.filter(failed_at__isnull=True)
        if self.value() == "failed":
            return queryset.filter(failed_at__isnull=False)
        return queryset


class AboutPaginator(Paginator):
    """Knows of very many rows about how many there are."""

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        return int(count(self.object_list))


class OutboxEntryAdmin(access.ReadOnlyAdmin):
    """The outbox, read-only but for the retry."""

    list_display = ["image_id", "product_id", "version", "last_error", "attempts", "failed_at", "priority"]
    list_filter = [OutcomeFilter, "version", "priority"]
    list_select_related = ["version"]
    # Counting millions of rows for every page costs more than the number is worth.
    show_full_result_count = False
    paginator = AboutPaginator
    actions = ["retry"]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(access.RETRY_FAILED)

    @admin.action(description=_("Try the selected photos again"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet) -> None:
        with database.atomic():
            entries = list(queryset.filter(failed_at__isnull=False))
            photos = outbox.retry_failed(queryset)
            journal.note(request, entries, _("Queued again after a failure."))
            database.on_commit(bell.ring)
        messages.success(request, ngettext("%d photo is queued again.", "%d photos are queued again.", photos) % photos)
