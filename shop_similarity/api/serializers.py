"""What the API answers with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import models
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from ..catalogue import product_url
from ..models import ModelVersion
from ..photos.thumbnails import sources
from ..storefront.cards import card_of
from .fields import choice_schema

# The shop's own schema may have a "Result" or an "Image" too.
_Class = TypeVar("_Class", bound=type)


def component(name: str) -> Callable[[_Class], _Class]:
    """Gives a serializer a name in the schema that no other app is likely to take."""
    return extend_schema_serializer(component_name=name)


_COPY = re.compile(r"(\S+) (\d+w)(?:, |$)")


@component("SimilarityImage")
class ImageSerializer(serializers.Serializer):
    """The photo of a product that is most similar."""

    url = serializers.URLField(help_text=_("A small copy."))
    srcset = serializers.CharField(allow_blank=True, help_text=_("Copies by width, for the attribute of that name."))
    width = serializers.IntegerField(allow_null=True, help_text=_("Pixels of the largest copy, where known."))
    height = serializers.IntegerField(allow_null=True)


@component("SimilarityExplanation")
class ExplanationSerializer(serializers.Serializer):
    """How much of the similarity is due to what: parts of 1."""

    colour = serializers.FloatField(min_value=0, max_value=1)
    pattern = serializers.FloatField(min_value=0, max_value=1)
    shape = serializers.FloatField(min_value=0, max_value=1)
    sentence = serializers.CharField(help_text=_("The same in words, in the language of the request."))


@component("SimilarityResult")
class ResultSerializer(serializers.Serializer):
    """A product that was found."""

    id = serializers.CharField(source="pk", help_text=_("Key of the product."))
    name = serializers.CharField(source="__str__")
    url = serializers.SerializerMethodField()
    image = serializers.SerializerMethodField()
    similarity = serializers.FloatField(
        min_value=-1.001,
        max_value=1.001,
        allow_null=True,
        help_text=_("Cosine of the two most similar photos; null for a pinned product that has no embedding."),
    )
    pinned = serializers.SerializerMethodField()
    explanation = serializers.SerializerMethodField()

    def _absolute(self, url: str) -> str:
        return self.context["request"].build_absolute_uri(url)

    @extend_schema_field(serializers.URLField(allow_null=True))
    def get_url(self, product: models.Model) -> str | None:
        url = product_url(product)
        return self._absolute(url) if url else None

    @extend_schema_field(ImageSerializer(allow_null=True))
    def get_image(self, product: models.Model) -> dict[str, Any] | None:
        picture = sources(card_of(product).image)
        if picture is None:
            return None
        copies = [f"{self._absolute(url)} {width}" for url, width in _COPY.findall(picture.srcset)]
        return {
            "url": self._absolute(picture.src),
            "srcset": ", ".join(copies),
            "width": picture.width,
            "height": picture.height,
        }

    def get_pinned(self, product: models.Model) -> bool:
        return bool(getattr(product, "pinned", False))

    @extend_schema_field(ExplanationSerializer(allow_null=True))
    def get_explanation(self, product: models.Model) -> dict[str, Any] | None:
        explanation = getattr(product, "explanation", None)
        if explanation is None:
            return None
        shares = {aspect: round(share, 4) for aspect, share in explanation.shares().items()}
        return {**shares, "sentence": explanation.sentence()}


class AnswerSerializer(serializers.Serializer):
    """What all searches answer with."""

    version = serializers.CharField(help_text=_("Name of the model version that found the products."))
    query_id = serializers.UUIDField(
        allow_null=True, help_text=_("Names this list in what is recorded about it; null where nothing is.")
    )
    token = serializers.CharField(
        allow_null=True,
        help_text=_("Send it back with events about this list; null where the shop records none or the list is empty."),
    )
    events_url = serializers.URLField(
        allow_null=True,
        help_text=_(
            "Where a browser reports events of this list by `navigator.sendBeacon`, as text/plain; null where there is "
            "no token, or the shop has no such address."
        ),
    )
    next = serializers.URLField(allow_null=True, help_text=_("The next page, or null."))
    previous = serializers.URLField(allow_null=True, help_text=_("The page before, or null."))
    results = ResultSerializer(many=True)


@component("SimilarProductsAnswer")
class SimilarProductsSerializer(AnswerSerializer):
    product = serializers.CharField(help_text=_("Key of the product that was asked for."))


@component("SimilarToSeveralAnswer")
class BasketSerializer(AnswerSerializer):
    products = serializers.ListField(
        child=serializers.CharField(), help_text=_("Keys of the products that were searched with.")
    )
    unknown = serializers.ListField(
        child=serializers.CharField(), help_text=_("Keys that were passed over: the shop shows no such product.")
    )


@component("SimilarToImageAnswer")
class ImageSearchSerializer(AnswerSerializer):
    id = serializers.UUIDField(help_text=_("Of this search; its results can be filtered and paged through by it."))
    expires_at = serializers.DateTimeField(help_text=_("Until when."))


@component("SimilarityIndex")
class IndexSerializer(serializers.Serializer):
    """The index over the codes of a version."""

    name = serializers.CharField()
    state = serializers.CharField(help_text=_("absent, building, invalid or ready."))
    bytes = serializers.IntegerField()


@component("SimilarityCodeRecall")
class CodeRecallSerializer(serializers.Serializer):
    """What the search by codes finds of what the exact one finds, on a sample of products."""

    recall = serializers.FloatField(allow_null=True, help_text=_("0 to 1."))
    filtered_recall = serializers.FloatField(allow_null=True, help_text=_("Behind a filter by category."))
    products = serializers.IntegerField()
    measured_at = serializers.DateTimeField()
    warning = serializers.CharField(allow_blank=True, help_text=_("Why that is too little, or nothing."))


@extend_schema_field(choice_schema(ModelVersion.State.values), component_name="SimilarityVersionState")
class StateField(serializers.ChoiceField):
    """State of a version."""


@component("SimilarityVersion")
class VersionSerializer(serializers.Serializer):
    """A model version. Where its weights are is nobody's business here."""

    name = serializers.CharField()
    architecture = serializers.CharField()
    state = StateField(choices=ModelVersion.State.values)
    created_at = serializers.DateTimeField()
    activated_at = serializers.DateTimeField(allow_null=True)
    activation_requested_at = serializers.DateTimeField(
        allow_null=True, help_text=_("Since when a worker is to activate it as soon as it is ready.")
    )
    activation_note = serializers.CharField(allow_blank=True)
    weights_sha256 = serializers.CharField()
    embedded = serializers.IntegerField(help_text=_("Photos."))
    products_embedded = serializers.IntegerField()
    pending = serializers.IntegerField(help_text=_("Photos that wait."))
    failed = serializers.IntegerField(help_text=_("Photos that were given up."))
    coverage = serializers.FloatField(min_value=0, help_text=_("Share of the shop's photos that are embedded."))
    is_about = serializers.BooleanField(help_text=_("Whether numbers beyond 50,000 are estimates."))
    index = IndexSerializer()
    code_recall = CodeRecallSerializer(
        allow_null=True, help_text=_("What the search by codes found of what the exact one finds, when last measured.")
    )
    metrics = serializers.JSONField(help_text=_("What was measured, as whoever trained it stored it."))


@component("SimilarityVersionDetail")
class VersionDetailSerializer(VersionSerializer):
    explains = serializers.BooleanField(help_text=_("Whether it can tell colour, pattern and shape apart."))
    is_ready = serializers.BooleanField(help_text=_("Whether it could become active now without a loss."))
    obstacles = serializers.ListField(child=serializers.CharField(), help_text=_("Why it could not, as sentences."))


@component("SimilarityVersionList")
class VersionListSerializer(serializers.Serializer):
    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = VersionSerializer(many=True)


@component("SimilaritySweep")
class SweepSerializer(serializers.Serializer):
    finished_at = serializers.DateTimeField()
    with_files = serializers.BooleanField()
    enqueued = serializers.IntegerField()
    removed = serializers.IntegerField()


@component("SimilaritySweepUnderWay")
class SweepUnderWaySerializer(serializers.Serializer):
    started_at = serializers.DateTimeField()
    with_files = serializers.BooleanField()
    examined = serializers.IntegerField(help_text=_("Photos."))


@component("SimilarityStatus")
class StatusSerializer(serializers.Serializer):
    """How far the shop's photos are embedded."""

    products = serializers.IntegerField()
    products_with_images = serializers.IntegerField(
        help_text=_("Products that have a photo; the others are never look-alikes.")
    )
    images = serializers.IntegerField(help_text=_("Photos of the shop."))
    active_version = serializers.CharField(allow_null=True)
    standby_version = serializers.CharField(allow_null=True, help_text=_("The one to go back to."))
    embedded = serializers.IntegerField(help_text=_("Photos that the active version has."))
    pending = serializers.IntegerField()
    failed = serializers.IntegerField()
    coverage = serializers.FloatField(min_value=0)
    worker_seen_at = serializers.DateTimeField(
        allow_null=True, help_text=_("When a worker was last running; null: none for two weeks.")
    )
    is_about = serializers.BooleanField(help_text=_("Whether numbers beyond 50,000 are estimates."))
    last_sweep = SweepSerializer(allow_null=True, help_text=_("When catalogue and embeddings were last compared."))
    sweeps = SweepUnderWaySerializer(many=True, help_text=_("Those that have not come to the last photo yet."))
    engine = serializers.CharField(help_text=_("What names the candidates of a search."))
    engine_trouble = serializers.ListField(
        child=serializers.CharField(), help_text=_("What is wrong with it, as sentences.")
    )


@component("SimilarityFieldError")
class FieldErrorSerializer(serializers.Serializer):
    """One wrong value."""

    name = serializers.CharField(
        allow_blank=True, help_text=_("Of the parameter or field; with dots where it is nested.")
    )
    detail = serializers.CharField()
    code = serializers.CharField()


@component("SimilarityProblem")
class ProblemSerializer(serializers.Serializer):
    """Problem details, RFC 9457."""

    type = serializers.CharField(help_text=_("URI that names the kind of problem."))
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text=_("What is wrong and what to do."))
    errors = FieldErrorSerializer(many=True, required=False)  # type: ignore[assignment]  # a field, as the RFC names it
