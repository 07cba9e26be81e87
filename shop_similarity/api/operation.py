"""State and model versions, for the staff's programs: monitoring, and pipelines that train."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from .. import database, rollout
from ..catalogue import get_catalogue
from ..embedding.magnitudes import count
from ..models import ModelVersion
from ..request_text import is_usable
from ..rollout.recall import with_samples
from ..rollout.status import status, version_rows
from ..search.aspects import has_aspects
from . import documentation
from .base import StaffAPIView, permission
from .documentation import OPERATIONS_TAG, operation, problems
from .fields import BodySerializer, IntegerField, JSONBooleanField, TextField
from .pages import page_links
from .parameters import MAX_LIMIT, MAX_OFFSET, Parameters
from .parsers import JSONParser
from .problems import Conflict
from .serializers import StatusSerializer, VersionDetailSerializer, VersionListSerializer, component

VERSION_NAME = OpenApiParameter("name", OpenApiTypes.STR, OpenApiParameter.PATH, description="Name of the version.")


class StatusView(StaffAPIView):
    permission_classes = [permission("view_dashboard")]

    @operation(
        operation_id="similarity_status",
        summary="How far the shop's photos are embedded",
        description="Needs the permission `shop_similarity.view_dashboard`.",
        tags=[OPERATIONS_TAG],
        responses={200: StatusSerializer, **problems()},
        examples=documentation.STATUS,
    )
    def get(self, request: Request) -> Response:
        return Response(StatusSerializer(status()).data)


class VersionParameters(Parameters):
    limit = IntegerField(min_value=1, max_value=MAX_LIMIT, default=20)
    offset = IntegerField(min_value=0, max_value=MAX_OFFSET, default=0)


class VersionsView(StaffAPIView):
    permission_classes = [permission("view_dashboard")]

    @operation(
        operation_id="similarity_versions",
        summary="Model versions, newest first",
        description="With their state, coverage and metrics. Needs the permission `shop_similarity.view_dashboard`.",
        tags=[OPERATIONS_TAG],
        parameters=[VersionParameters],
        responses={200: VersionListSerializer, **problems(400)},
        examples=documentation.VERSIONS,
    )
    def get(self, request: Request) -> Response:
        values = VersionParameters.read(request.query_params)
        limit, offset = values["limit"], values["offset"]
        versions = ModelVersion.objects.order_by("-created_at", "-pk")
        all_versions = versions.count()
        rows = _rows(list(with_samples(versions)[offset : offset + limit]))
        answer = {
            "count": all_versions,
            **page_links(request, limit, offset, offset + limit < min(all_versions, MAX_OFFSET + 1)),
            "results": rows,
        }
        return Response(VersionListSerializer(answer).data)


class VersionView(StaffAPIView):
    permission_classes = [permission("view_dashboard")]

    @operation(
        operation_id="similarity_version",
        summary="One model version",
        description="Also says what it lacks to become active. Needs the permission `shop_similarity.view_dashboard`.",
        tags=[OPERATIONS_TAG],
        parameters=[VERSION_NAME],
        responses={200: VersionDetailSerializer, **problems(404)},
        examples=documentation.VERSION,
    )
    def get(self, request: Request, name: str) -> Response:
        return Response(_detail(_version(name)))


@component("SimilarityActivation")
class ActivationSerializer(BodySerializer):
    """How a version is to be activated."""

    note = TextField(default="", max_length=500, help_text=_lazy("Who wants it and why; kept with the version."))
    force = JSONBooleanField(default=False, help_text=_lazy("Whatever the comparison with the active version says."))


class ActivationView(StaffAPIView):
    permission_classes = [permission("activate_modelversion")]
    parser_classes = [JSONParser]

    @operation(
        operation_id="activate_similarity_version",
        summary="Activate a model version, or go back to the one before",
        description=(
            "For the end of a training pipeline, and for going back when something looks wrong. A candidate has to "
            "beat the active version on the same photos; a worker switches as soon as it is complete (202). The "
            "version that was active before is gone back to at once (200). Asking again changes nothing. Needs the "
            "permission `shop_similarity.activate_modelversion`."
        ),
        tags=[OPERATIONS_TAG],
        parameters=[VERSION_NAME],
        request=ActivationSerializer,
        responses={200: VersionDetailSerializer, 202: VersionDetailSerializer, **problems(400, 404, 409, 413, 415)},
        examples=documentation.ACTIVATION,
    )
    @database.on_primary()
    def post(self, request: Request, name: str) -> Response:
        sent = ActivationSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        version = _version(name)
        note, force = sent.validated_data["note"], sent.validated_data["force"]
        try:
            if version.state == ModelVersion.State.STANDBY:
                is_active = rollout.roll_back(note=note) == version
            else:
                is_active = rollout.request_activation(version, force=force, note=note)
        except rollout.RolloutError as error:
            raise Conflict(str(error)) from error
        return Response(_detail(_version(name)), status=200 if is_active else 202)


def _version(name: str) -> ModelVersion:
    version = with_samples(ModelVersion.objects.filter(name=name)).first() if is_usable(name) else None
    if version is None:
        raise Http404(_("There is no such model version."))
    return version


def _rows(versions: list[ModelVersion]) -> list[dict[str, Any]]:
    images = count(get_catalogue().images())
    return [
        {
            **row,
            "created_at": version.created_at,
            "activated_at": version.activated_at,
            "activation_requested_at": version.activation_requested_at,
            "activation_note": version.activation_note,
        }
        for version, row in zip(versions, version_rows(versions, images), strict=True)
    ]


def _detail(version: ModelVersion) -> dict[str, Any]:
    coverage = rollout.coverage(version)
    extra = {"explains": has_aspects(version), "is_ready": coverage.is_ready, "obstacles": coverage.obstacles()}
    return VersionDetailSerializer({**_rows([version])[0], **extra}).data
