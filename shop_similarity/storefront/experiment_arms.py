"""Which model version answers a request: the active one, or the visitor's arm of a running experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from ..feedback.experiments import is_treatment
from ..feedback.visitors import wants_privacy
from ..models import Experiment, ModelVersion
from ..search import searched_version

_ASSIGNMENT = "_shop_similarity_assignment"
# What pages do not need of a version is left in the table.
_UNUSED = ("metrics", "config", "preprocessing")


@dataclass(frozen=True)
class Assignment:
    """The version that a request searches with, and the experiment that its lists are counted for, if any.

    The experiment's attribute ``bucket`` is the visitor's, 0 to 999.
    """

    version: ModelVersion | None
    experiment: Experiment | None = None


def version_for(request: HttpRequest | None) -> ModelVersion | None:
    """The version of :func:`assignment_for`."""
    return assignment_for(request).version


def experiment_for(request: HttpRequest | None) -> Experiment | None:
    """The experiment of :func:`assignment_for`."""
    return assignment_for(request).experiment


def assignment_for(request: HttpRequest | Any | None) -> Assignment:
    """What this request searches with, the same every time, also where a switch comes in between.

    While an experiment runs it is the visitor's arm. Who can't be given one (no request, no
    :class:`~shop_similarity.middleware.ExperimentMiddleware`, a browser that asks for privacy, a program without the
    cookie) gets the control version and is not counted in the experiment. One or two statements per request.
    """
    # The REST framework wraps the request; all of its wrappers shall agree.
    request, is_program = getattr(request, "_request", request), hasattr(request, "_request")
    if request is None:
        return _assign(None, False)
    if not hasattr(request, _ASSIGNMENT):
        setattr(request, _ASSIGNMENT, _assign(request, is_program))
    return getattr(request, _ASSIGNMENT)


def _assign(request: HttpRequest | None, is_program: bool) -> Assignment:
    experiment = (
        Experiment.objects.running()
        .select_related("control", "treatment")
        .defer("note", *(f"{arm}__{field}" for arm in ("control", "treatment") for field in _UNUSED))
        .first()
    )
    if experiment is None:
        return Assignment(searched_version())
    control, treatment = experiment.control, experiment.treatment
    if control.state not in ModelVersion.LIVE or treatment.state not in ModelVersion.LIVE:
        return Assignment(searched_version())
    visitor = getattr(request, "shop_similarity_visitor", None)
    if request is None or visitor is None:
        return Assignment(control)
    visitor.mattered = True
    # A program may drop cookies, so it would get another arm with every request.
    if wants_privacy(request) or (is_program and visitor.known is None):
        return Assignment(control)
    bucket = vars(experiment)["bucket"] = visitor.bucket()
    return Assignment(treatment if is_treatment(experiment, bucket) else control, experiment)
