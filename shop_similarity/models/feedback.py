"""What shoppers did with look-alikes: raw events for a while, daily sums for good."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from ..fields import BitField, ProductKeyField
from .experiments import Experiment
from .rows import Rows
from .versions import ModelVersion

# How many numbers clients are told apart by; see :mod:`shop_similarity.feedback.voters`.
VOTERS = 256


class Surface(models.TextChoices):
    """Where products were shown."""

    WIDGET = "widget", _("similar products")
    VISUAL_SEARCH = "visual", _("visual search")
    BASKET = "basket", _("several products")
    API = "api", _("API")


class Event(models.Model):
    """One impression of a list, or a click or an add-to-basket on a product of it. Holds nothing about the visitor.

    An impression has ``shown``, the keys in the order in which they stood; the others have ``target_product_id`` and
    ``position`` (1 is the first). ``visitor`` is empty unless the shop opts in by ``EVENT_VISITOR``. ``voter`` tells,
    until the day is closed, the clicks of different clients on the look-alikes of one product apart; see
    :mod:`shop_similarity.feedback.voters`.
    """

    class Kind(models.TextChoices):
        IMPRESSION = "impression", _("impression")
        CLICK = "click", _("click")
        BASKET = "basket", _("add to basket")

    query_id = models.UUIDField(_("query id"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    surface = models.CharField(_("surface"), max_length=10, choices=Surface)
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("model version"))
    experiment = models.ForeignKey(
        Experiment, models.SET_NULL, related_name="+", verbose_name=_("experiment"), null=True, blank=True
    )
    product_id = ProductKeyField(_("product that was looked at"), null=True, blank=True)
    shown = ArrayField(models.TextField(), verbose_name=_("products shown"), default=list, blank=True)
    target_product_id = ProductKeyField(_("product that was chosen"), null=True, blank=True)
    position = models.PositiveSmallIntegerField(_("position"), null=True, blank=True)
    # One of a thousand groups of visitors, while an experiment runs: the lists of one visitor are not independent.
    bucket = models.PositiveSmallIntegerField(_("bucket"), null=True, blank=True)
    visitor = models.CharField(_("visitor"), max_length=100, blank=True)
    voter = models.PositiveSmallIntegerField(_("voter"), null=True, blank=True)
    # When the list was made: a click after midnight belongs to the day of its list.
    shown_at = models.DateTimeField(_("shown at"))
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        constraints = [
            models.UniqueConstraint(
                fields=["query_id", "kind", "target_product_id"],
                name="shop_similarity_one_event",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(fields=["shown_at"], name="shop_similarity_event_shown"),
            models.Index(
                fields=["experiment", "bucket"],
                condition=Q(experiment__isnull=False),
                name="shop_similarity_event_bucket",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.query_id}"


class DailyStatistic(models.Model):
    """Sums of one day (UTC), by version, surface, arm of an experiment and position.

    ``position`` 0 stands for the whole list: ``impressions`` are then lists shown, ``clicks`` and ``baskets`` lists
    with at least one of them.
    """

    day = models.DateField(_("day"))
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("model version"))
    surface = models.CharField(_("surface"), max_length=10, choices=Surface)
    experiment = models.ForeignKey(
        Experiment, models.CASCADE, related_name="statistics", verbose_name=_("experiment"), null=True, blank=True
    )
    position = models.PositiveSmallIntegerField(_("position"), default=0)
    impressions = models.PositiveBigIntegerField(_("impressions"), default=0)
    clicks = models.PositiveBigIntegerField(_("clicks"), default=0)
    baskets = models.PositiveBigIntegerField(_("baskets"), default=0)

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("daily statistic")
        verbose_name_plural = _("daily statistics")
        ordering = ["-day", "position"]
        constraints = [
            models.UniqueConstraint(
                fields=["day", "version", "surface", "experiment", "position"],
                name="shop_similarity_one_statistic",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.version_id} {self.surface} {self.position}"


class ExperimentGroup(models.Model):
    """Lists of one of a thousand groups of clients in one arm of an experiment: sums that lead to no list and nobody.

    Clients are grouped by their address, which costs more to change than a cookie, so that the lists of one who has
    many do not pass for those of many; see :mod:`shop_similarity.feedback.comparison`.
    """

    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="+", verbose_name=_("experiment"))
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+", verbose_name=_("model version"))
    surface = models.CharField(_("surface"), max_length=10, choices=Surface)
    number = models.PositiveSmallIntegerField(_("group"))
    lists = models.PositiveBigIntegerField(_("lists"), default=0)
    clicked = models.PositiveBigIntegerField(_("clicks"), default=0)

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("group of clients")
        verbose_name_plural = _("groups of clients")
        constraints = [
            models.UniqueConstraint(
                fields=["experiment", "version", "surface", "number"], name="shop_similarity_one_group"
            )
        ]

    def __str__(self) -> str:
        return f"{self.experiment_id} {self.version_id} {self.surface} {self.number}"


class EventDay(models.Model):
    """A day (UTC) whose events were rolled up. Once closed, its sums are final and its clicks part of preferences."""

    day = models.DateField(_("day"), primary_key=True)
    rolled_up_at = models.DateTimeField(_("rolled up at"))
    closed_at = models.DateTimeField(_("closed at"), null=True, blank=True)

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("day of events")
        verbose_name_plural = _("days of events")

    def __str__(self) -> str:
        return str(self.day)


class Preference(models.Model):
    """How often one product was clicked on while another one above it was left, on the look-alikes of a product.

    Holds closed days alone, so that no click counts twice; see :mod:`shop_similarity.feedback.preferences`. It is what
    outlives the raw events of the triplets for training. ``count`` is how often, one client once a day; ``voters`` has
    a bit for each number of :mod:`shop_similarity.feedback.voters` among them, so the same client sets no second one.
    """

    product_id = ProductKeyField(_("product that was looked at"))
    chosen_id = ProductKeyField(_("product that was chosen"))
    skipped_id = ProductKeyField(_("product that was skipped"))
    count = models.PositiveIntegerField(_("times"), default=0)
    voters = BitField(_("voters"), length=VOTERS, default="0" * VOTERS, db_default="0" * VOTERS)
    days = models.PositiveIntegerField(_("days"), default=0, db_default=0)
    last_day = models.DateField(_("last day"))

    objects = Rows.as_manager()

    class Meta:
        verbose_name = _("preference")
        verbose_name_plural = _("preferences")
        constraints = [
            models.UniqueConstraint(
                fields=["product_id", "chosen_id", "skipped_id"], name="shop_similarity_one_preference"
            )
        ]
        indexes = [models.Index(fields=["last_day"], name="shop_similarity_preference_day")]

    def __str__(self) -> str:
        return f"{self.product_id}: {self.chosen_id} > {self.skipped_id}"
