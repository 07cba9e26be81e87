"""The look-alikes on the shop's own page of a product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..embedding.reembedding import reembed
from . import access, journal
from .product_pages import reembedded_sentence
from .product_panel import render_panel

_PANEL = "_shop_similarity_panel"

if TYPE_CHECKING:
    _Admin = admin.ModelAdmin
else:
    _Admin = object


class SimilarProductsAdminMixin(_Admin):
    """Adds to the shop's ``ModelAdmin`` of its products: their look-alikes, the state of their photos, an action.

        class ProductAdmin(SimilarProductsAdminMixin, admin.ModelAdmin): ...

    The page gets one more fieldset after those of the shop, and the list the action "Embed the photos again". The
    shop's templates, fields, read-only fields, actions and media stay what they are. On the page for adding a product
    and in popups nothing is added.
    """

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(
            css={"all": ["shop_similarity/admin.css"]}, js=["shop_similarity/product_admin.js"]
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list:
        fields = list(super().get_readonly_fields(request, obj))
        return [*fields, self._similar_products_field(request)] if self._shows_panel(request, obj) else fields

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list:
        fieldsets = list(super().get_fieldsets(request, obj))
        if not self._shows_panel(request, obj):
            return fieldsets
        panel = self._similar_products_field(request)
        # Where the shop names no fields, Django has put all read-only ones among its own.
        own = [(title, {**options, "fields": _without(panel, options["fields"])}) for title, options in fieldsets]
        return [*own, (_("Similar products"), {"fields": [panel], "classes": ["shop-similarity-fieldset"]})]

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict:
        # Django 6.1 says as well where they are shown: ours in the list, as ever.
        place = {} if action_location is None else {"action_location": action_location}
        actions = super().get_actions(request, **place)
        if getattr(action_location, "name", "") == "CHANGE_FORM":
            return actions
        if self.actions is None or IS_POPUP_VAR in request.GET or not request.user.has_perm(access.REEMBED):
            return actions
        return actions | {"reembed_photos": (_reembed_action, "reembed_photos", _("Embed the photos again"))}

    def _shows_panel(self, request: HttpRequest, obj: Any) -> bool:
        return obj is not None and IS_POPUP_VAR not in request.GET and IS_POPUP_VAR not in request.POST

    def _similar_products_field(self, request: HttpRequest) -> Any:
        # One and the same function for the whole request: Django looks it up among the read-only fields.
        panel = getattr(request, _PANEL, None)
        if panel is None:

            @admin.display(description=_("Look-alikes"))
            def panel(product: Any) -> SafeString:
                return render_panel(request, self.admin_site, product, back=request.path, in_form=True)

            setattr(request, _PANEL, panel)
        return panel


def _without(panel: Any, fields: Any) -> list:
    kept = (
        tuple(name for name in line if name is not panel) if isinstance(line, list | tuple) else line
        for line in fields
        if line is not panel
    )
    return [line for line in kept if line != ()]


def _reembed_action(model_admin: admin.ModelAdmin, request: HttpRequest, queryset: QuerySet) -> None:
    products = list(queryset)
    count = reembed([product.pk for product in products])
    if not count:
        said = _("Nothing was queued: the products have no photo, or there is no model version that embeds.")
        messages.warning(request, said)
        return
    sentence = reembedded_sentence(count)
    journal.note(request, products, sentence)
    messages.success(request, sentence)
