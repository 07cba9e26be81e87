"""The plugin in Django's admin: model versions to look at, the outbox with its failures and their retry."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from . import bell, outbox
from .models import ModelVersion, OutboxEntry


class _ReadOnly(admin.ModelAdmin):
    """Rows that only the plugin itself writes."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(ModelVersion)
class ModelVersionAdmin(_ReadOnly):
    list_display = ["name", "architecture", "state", "created_at", "activated_at", "activation_requested_at"]
    list_filter = ["state", "architecture"]
    search_fields = ["name"]
    # A link to the weights would be a download of them.
    exclude = ["weights"]


class _OutcomeFilter(admin.SimpleListFilter):
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


@admin.register(OutboxEntry)
class OutboxEntryAdmin(_ReadOnly):
    list_display = ["image_id", "product_id", "version", "priority", "attempts", "failed_at", "last_error"]
    list_filter = [_OutcomeFilter, "version", "priority"]
    list_select_related = ["version"]
    # Counting millions of rows for every page costs more than the number is worth.
    show_full_result_count = False
    actions = ["retry"]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("shop_similarity.change_outboxentry")

    @admin.action(description=_("Try the selected photos again"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet) -> None:
        count = outbox.retry_failed(queryset)
        transaction.on_commit(bell.ring)
        messages.success(request, ngettext("%d photo is queued again.", "%d photos are queued again.", count) % count)
