"""The form of a rule, in a merchandiser's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..catalogue.attributes import attribute_names
from ..catalogue.categories import category_choices
from ..models import MerchandisingRule
from .product_choice import ProductChoice

_Kind = MerchandisingRule.Kind
OF_ATTRIBUTES = (_Kind.SHARE, _Kind.SAME, _Kind.OTHER)


class MerchandisingRuleForm(forms.ModelForm):
    """Checks what the database's constraints check, and what they can't, each with a sentence that says what to do."""

    class Meta:
        model = MerchandisingRule
        fields = [
            "kind",
            "product_id",
            "category",
            "target_product_id",
            "target_category",
            "attribute",
            "position",
            "boost",
            "starts_at",
            "ends_at",
            "is_on",
            "note",
        ]
        labels = {"boost": gettext_lazy("How much")}
        help_texts = {
            "position": gettext_lazy(
                "Where the pinned product stands, 1 being the first. Empty: the first free place."
            ),
            "starts_at": gettext_lazy("Empty: from now on."),
            "ends_at": gettext_lazy("Empty: without an end."),
            "note": gettext_lazy("Why, for whoever looks at it later."),
        }

    def clean(self) -> dict[str, Any]:
        super().clean()
        values = self.cleaned_data
        kind = values.get("kind")
        self._check_place(values)
        self._check_target(values, kind)
        if kind in (_Kind.BOOST, _Kind.SHARE) and values.get("boost") in (None, 0) and "boost" not in self.errors:
            self.add_error("boost", _("Say how much it is boosted: 0.1 lifts it a little, 0.5 much, -0.2 demotes it."))
        if kind != _Kind.PIN:
            values["position"] = None
        if kind not in (_Kind.BOOST, _Kind.SHARE):
            values["boost"] = None
        starts, ends = values.get("starts_at"), values.get("ends_at")
        if starts and ends and ends <= starts:
            self.add_error("ends_at", _("The end must come after the beginning."))
        if not self.errors and self._is_double(values):
            raise forms.ValidationError(_("There is such a rule already. Change that one instead."), code="double")
        return values

    def _check_place(self, values: dict[str, Any]) -> None:
        if values.get("product_id") is not None and values.get("category"):
            self.add_error(
                "category",
                _("Choose a product or a category, not both; with neither of them the rule holds for all products."),
            )

    def _check_target(self, values: dict[str, Any], kind: str | None) -> None:
        if {"target_product_id", "target_category"} & set(self.errors):
            return
        if kind in OF_ATTRIBUTES:
            # What the form's script hides is not meant.
            values["target_product_id"], values["target_category"] = None, ""
            if not values.get("attribute") and "attribute" not in self.errors:
                self.add_error("attribute", _("Choose what products have to share, or to differ in."))
            return
        values["attribute"] = ""
        product, category = values.get("target_product_id"), values.get("target_category")
        if kind == _Kind.PIN and product is None:
            self.add_error("target_product_id", _("Choose the product to pin."))
        elif product is not None and category:
            self.add_error("target_category", _("Choose a product or a category, not both."))
        elif product is None and not category:
            self.add_error(
                "target_product_id",
                _("Choose the product to hide, or a category below.")
                if kind == _Kind.HIDE
                else _("Choose the product to boost, or a category below."),
            )
        elif product is not None and product == values.get("product_id"):
            self.add_error("target_product_id", _("A product is no look-alike of itself: choose another one."))

    def _is_double(self, values: dict[str, Any]) -> bool:
        places = {
            name: values.get(name) for name in ("kind", "product_id", "target_product_id", "starts_at", "ends_at")
        }
        given = {name: value for name, value in places.items() if value is not None}
        missing = {f"{name}__isnull": True for name, value in places.items() if value is None}
        return (
            MerchandisingRule.objects.filter(
                **given,
                **missing,
                attribute=values.get("attribute") or "",
                category=values.get("category") or "",
                target_category=values.get("target_category") or "",
            )
            .exclude(pk=self.instance.pk)
            .exists()
        )


if TYPE_CHECKING:
    _Form = forms.ModelForm
else:
    _Form = object


class _WithoutAttributes(_Form):
    """A shop that names no attributes is not asked about them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("attribute", None)
        # Of choices that are a list of pairs.
        kinds: Any = self.fields["kind"]
        kinds.choices = [choice for choice in kinds.choices if choice[0] not in OF_ATTRIBUTES]


def rule_form(request: HttpRequest, site: admin.AdminSite, base: type[forms.ModelForm]) -> type[forms.ModelForm]:
    """``base`` with the fields that depend on the shop: products by search or key, categories by name."""
    fields: dict[str, Any] = {
        "product_id": ProductChoice(
            request,
            site,
            "product_id",
            label=gettext_lazy("On the page of"),
            help_text=gettext_lazy("The product whose look-alikes change."),
        ),
        "target_product_id": ProductChoice(
            request,
            site,
            "target_product_id",
            label=gettext_lazy("Product"),
            help_text=gettext_lazy("The look-alike that is pinned, hidden or boosted."),
        ),
    }
    attributes = attribute_names()
    if attributes:
        fields["attribute"] = forms.TypedChoiceField(
            label=gettext_lazy("What they share"),
            choices=[("", "---------"), *((name, name) for name in attributes)],
            required=False,
            empty_value="",
            help_text=gettext_lazy("As on the page's own product: products of its brand, say."),
        )
    choices = _categories()
    if choices:
        fields["category"] = forms.TypedChoiceField(
            label=gettext_lazy("or on pages of the category"),
            choices=[("", "---------"), *choices],
            required=False,
            empty_value="",
            help_text=gettext_lazy("With neither product nor category the rule holds for all products."),
        )
        fields["target_category"] = forms.TypedChoiceField(
            label=gettext_lazy("or all of the category"),
            choices=[("", "---------"), *choices],
            required=False,
            empty_value="",
        )
    form = type(base.__name__, (base,) if attributes else (_WithoutAttributes, base), fields)
    return type(form.__name__, (_KeepsOldCategories, form), {})


class _KeepsOldCategories(_Form):
    """A rule about a category that no product has any more can still be changed without losing it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("category", "target_category", "attribute"):
            value, field = getattr(self.instance, name), self.fields.get(name)
            choices: Any = field.choices if isinstance(field, forms.ChoiceField) else ()
            if value and isinstance(field, forms.ChoiceField) and value not in dict(choices):
                field.choices = [
                    *choices,
                    (value, _("%(category)s (no product has it now)") % {"category": value}),
                ]


def category_labels() -> dict[str, str]:
    """Labels of the categories by their values as rules keep them."""
    return dict(_categories())


def _categories() -> list[tuple[str, str]]:
    return category_choices(with_hidden=True, most=2_000, separator=" / ")


def names(rule: MerchandisingRule, products: dict[Any, models.Model], categories: dict[str, str]) -> tuple[str, str]:
    """Where a rule holds and what it is about, as words."""
    if rule.product_id is not None:
        place = str(products.get(rule.product_id) or _("product %(key)s, which is gone") % {"key": rule.product_id})
    elif rule.category:
        place = _("category %(category)s") % {"category": categories.get(rule.category, rule.category)}
    else:
        place = _("all products")
    if rule.attribute:
        target = rule.attribute
    elif rule.target_product_id is not None:
        target = str(
            products.get(rule.target_product_id)
            or _("product %(key)s, which is gone") % {"key": rule.target_product_id}
        )
    else:
        target = _("category %(category)s") % {"category": categories.get(rule.target_category, rule.target_category)}
    return place, target
