"""What the merchandiser decides about look-alikes: pinned, hidden and boosted products and categories."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from ..fields import ProductKeyField
from .rows import Rows


class MerchandisingRuleQuerySet(Rows["MerchandisingRule"]):
    def in_force(self) -> MerchandisingRuleQuerySet:
        """The rules that count now."""
        now = timezone.now()
        return self.filter(
            Q(starts_at__isnull=True) | Q(starts_at__lte=now), Q(ends_at__isnull=True) | Q(ends_at__gt=now), is_on=True
        )


class MerchandisingRule(models.Model):
    """One decision: on the look-alikes of *these* products, pin, hide or boost *those*.

    Where it applies: ``product_id`` names one product, ``category`` all products of a category, neither all products.
    What it is about: ``target_product_id`` names one product, ``target_category`` all products of a category,
    ``attribute`` one of the ``ATTRIBUTES`` setting; exactly one of the three is given. A category is the value of the
    ``CATEGORY`` setting's field path, as text.
    """

    class Kind(models.TextChoices):
        PIN = "pin", _("pin")
        HIDE = "hide", _("hide")
        BOOST = "boost", _("boost")
        SHARE = "share", _("weigh an attribute")
        SAME = "same", _("the same only")
        OTHER = "other", _("others only")

    kind = models.CharField(_("kind"), max_length=5, choices=Kind)
    product_id = ProductKeyField(_("product"), null=True, blank=True)
    category = models.CharField(_("category"), max_length=200, blank=True)
    target_product_id = ProductKeyField(_("target product"), null=True, blank=True)
    target_category = models.CharField(_("target category"), max_length=200, blank=True)
    attribute = models.CharField(
        _("attribute"),
        max_length=30,
        blank=True,
        default="",
        db_default="",
        help_text=_("What products share, such as the brand; one of those that the shop's settings name."),
    )
    position = models.PositiveSmallIntegerField(
        _("position"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text=_("Where a pinned product stands, 1 being the first."),
    )
    boost = models.FloatField(
        _("boost"),
        null=True,
        blank=True,
        validators=[MinValueValidator(-1), MaxValueValidator(1)],
        help_text=_("Added to the similarity in the ranking, -1 to 1; below 0 it demotes."),
    )
    starts_at = models.DateTimeField(_("from"), null=True, blank=True)
    ends_at = models.DateTimeField(_("until"), null=True, blank=True)
    is_on = models.BooleanField(_("on"), default=True)
    note = models.CharField(_("note"), max_length=300, blank=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = MerchandisingRuleQuerySet.as_manager()

    class Meta:
        verbose_name = _("merchandising rule")
        verbose_name_plural = _("merchandising rules")
        ordering = ["-updated_at"]
        indexes = [models.Index(fields=["product_id"], name="shop_similarity_rule_product")]
        constraints = [
            models.CheckConstraint(
                condition=Q(target_product_id__isnull=False, target_category="", attribute="")
                | (Q(target_product_id__isnull=True, attribute="") & ~Q(target_category=""))
                | (Q(target_product_id__isnull=True, target_category="") & ~Q(attribute="")),
                name="shop_similarity_rule_one_target",
            ),
            models.CheckConstraint(
                condition=Q(product_id__isnull=True) | Q(category=""), name="shop_similarity_rule_one_place"
            ),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(starts_at__isnull=True) | Q(ends_at__gt=F("starts_at")),
                name="shop_similarity_rule_ends_later",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.target_product_id or self.target_category or self.attribute}"
