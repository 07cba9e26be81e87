"""The merchandiser's rules in the admin, and what lists say of a rule in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import database
from ..conf import get_settings
from ..engine_errors import EngineDown
from ..guards import ENGINE_SENTENCE, unavailable
from ..models import MerchandisingRule
from . import access, product_choice, rule_preview
from .pages import CheckedAdmin
from .pictures import picture_tag, products_by_key, similar_products_url
from .rule_form import MerchandisingRuleForm, category_labels, names, rule_form


def is_in_force(rule: MerchandisingRule) -> bool:
    """Whether a loaded rule counts now, as ``MerchandisingRule.objects.in_force()`` says it of rows."""
    now = timezone.now()
    return (
        rule.is_on
        and (rule.starts_at is None or rule.starts_at <= now)
        and (rule.ends_at is None or rule.ends_at > now)
    )


def when(rule: MerchandisingRule) -> str:
    """Whether it is in force, and else why not."""
    if not rule.is_on:
        return _("switched off")
    if rule.ends_at is not None and rule.ends_at <= timezone.now():
        return _("ended %(date)s") % {"date": _date(rule.ends_at)}
    if not is_in_force(rule) and rule.starts_at is not None:
        return _("coming %(date)s") % {"date": _date(rule.starts_at)}
    if rule.ends_at is not None:
        return _("in force until %(date)s") % {"date": _date(rule.ends_at)}
    return _("in force")


def how_much(rule: MerchandisingRule) -> str:
    """The position of a pin or the weight of a boost; empty where there is none."""
    if rule.kind == MerchandisingRule.Kind.PIN:
        return _("position %(position)d") % {"position": rule.position} if rule.position else ""
    return f"{rule.boost:+}".replace(".", number_format("0.1", 1)[1]) if rule.boost is not None else ""


def _date(moment: datetime) -> str:
    return date_format(timezone.localtime(moment), "SHORT_DATETIME_FORMAT")


class WhenFilter(admin.SimpleListFilter):
    """Rules that count now, are over, or will count."""

    title = gettext_lazy("time")
    parameter_name = "when"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("now", gettext_lazy("in force")),
            ("coming", gettext_lazy("coming")),
            ("ended", gettext_lazy("ended")),
            ("off", gettext_lazy("switched off")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        now = timezone.now()
        conditions = {
            "now": Q(is_on=True)
            & (Q(starts_at__isnull=True) | Q(starts_at__lte=now))
            & (Q(ends_at__isnull=True) | Q(ends_at__gt=now)),
            "coming": Q(is_on=True, starts_at__gt=now),
            "ended": Q(ends_at__lte=now),
            "off": Q(is_on=False),
        }
        condition = conditions.get(self.value() or "")
        return queryset if condition is None else queryset.filter(condition)


class _RuleList(ChangeList):
    """Loads the products and the names of the categories of the whole page at once."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rules = list(self.result_list)
        keys = (key for rule in rules for key in (rule.product_id, rule.target_product_id))
        products = products_by_key(request, keys)
        categories = category_labels() if any(rule.category or rule.target_category for rule in rules) else {}
        for rule in rules:
            rule.shop_product = products.get(rule.product_id)
            rule.shop_target = products.get(rule.target_product_id)
            rule.place_name, rule.target_name = names(rule, products, categories)
            rule.target_url, rule.place_url = (
                similar_products_url(request, self.model_admin.admin_site, product.pk) if product is not None else None
                for product in (rule.shop_target, rule.shop_product)
            )
        self.result_list = rules


class MerchandisingRuleAdmin(CheckedAdmin):
    """Pin, hide and boost."""

    form = MerchandisingRuleForm
    list_display = ["what", "target", "place", "time", "weight", "note"]
    list_display_links = ["what"]
    list_filter = [WhenFilter, "kind"]
    list_per_page = 50
    search_fields = ["note"]
    date_hierarchy = None
    save_on_top = False

    class Media:
        css = {"all": ["shop_similarity/admin.css"]}
        js = ["shop_similarity/rule_form.js"]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method == "POST" and rule_preview.BUTTON in request.POST:
            rule = self.get_object(request, unquote(object_id)) if object_id is not None else None
            may = self.has_add_permission(request) if rule is None else self.has_change_permission(request, rule)
            if not may or not access.may_view_products(request):
                raise PermissionDenied
            form = self.get_form(request, rule, change=rule is not None)(request.POST, instance=rule)
            if form.is_valid():
                try:
                    with database.on_primary():
                        return rule_preview.page(request, self.admin_site, form.save(commit=False))
                except EngineDown:
                    return unavailable(request, ENGINE_SENTENCE)
        # What is wrong is said beside the fields, and is not saved.
        context = {"may_preview": access.may_view_products(request), **(extra_context or {})}
        return super().changeform_view(request, object_id, form_url, context)

    def get_urls(self) -> list[URLPattern]:
        return [*product_choice.urls(self.admin_site), *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return _RuleList

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm]:
        return rule_form(request, self.admin_site, super().get_form(request, obj, change, **kwargs))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list:
        by_category = bool(get_settings().category)
        return [
            (
                gettext_lazy("What happens"),
                {
                    "fields": [
                        "kind",
                        "target_product_id",
                        *(["target_category"] if by_category else []),
                        *(["attribute"] if get_settings().attributes else []),
                        "position",
                        "boost",
                    ]
                },
            ),
            (gettext_lazy("Where"), {"fields": ["product_id", *(["category"] if by_category else [])]}),
            (gettext_lazy("When"), {"fields": ["is_on", "starts_at", "ends_at"]}),
            (None, {"fields": ["note"]}),
        ]

    @admin.display(description=gettext_lazy("rule"), ordering="kind")
    def what(self, rule: MerchandisingRule) -> str:
        return rule.get_kind_display()

    @admin.display(description=gettext_lazy("look-alike"))
    def target(self, rule: Any) -> SafeString:
        return _shown(rule.shop_target, rule.target_name, rule.target_url)

    @admin.display(description=gettext_lazy("on the page of"))
    def place(self, rule: Any) -> SafeString:
        return _shown(rule.shop_product, rule.place_name, rule.place_url)

    @admin.display(description=gettext_lazy("time"), ordering="starts_at")
    def time(self, rule: MerchandisingRule) -> str:
        return when(rule)

    @admin.display(description=gettext_lazy("position or weight"))
    def weight(self, rule: MerchandisingRule) -> str:
        return how_much(rule) or "–"


def _shown(product: Any, name: str, url: str | None) -> SafeString:
    if product is None:
        return format_html("{}", name)
    link = format_html('<a href="{}">{}</a>', url, name) if url else name
    return format_html('<span class="shop-similarity-named">{} {}</span>', picture_tag(product), link)
