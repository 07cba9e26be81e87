"""Events are recorded: one statement, no matter how often or in which order they come in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.db.models import Exists
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from ..catalogue import get_catalogue
from ..conf import get_settings
from ..models import Event, Experiment, ModelVersion
from .tokens import Query
from .visitors import wants_privacy

logger = logging.getLogger(__name__)

Kind = Event.Kind


class BadEvent(ValueError):
    """An event that makes no sense; the sentence says why."""


def record(query: Query, kind: str, product: Any = None, request: HttpRequest | None = None) -> bool:
    """Record one event of a list; see :func:`record_events`."""
    return record_events(query, [(kind, product)], request)


def record_events(query: Query, events: Sequence[tuple[str, Any]], request: HttpRequest | None = None) -> bool:
    """Record events of a list: two statements, however many events, and nothing twice.

    Each list has at most one impression, and each product of it at most one click and one add-to-basket. Who chose a
    product has seen the list, so a click whose impression was lost, or comes later, brings it along.

    Args:
        query: what :func:`~shop_similarity.feedback.tokens.read` returned.
        events: ``(kind, product)`` of each; kind is one of ``impression``, ``click``, ``basket``, product the key of
            the product that was chosen (None for an impression).
        request: of the visitor. Events of the shop's staff, and of browsers that ask for privacy (``Sec-GPC``,
            ``DNT``), are dropped.

    Returns:
        Whether they count: False where they were dropped, or recording is off.

    Raises:
        BadEvent: an unknown kind, or a product that was not in the list; then nothing is recorded.
    """
    rows = [_checked(query, kind, product) for kind, product in events]
    if not rows or not get_settings().record_events or (request is not None and _is_not_counted(request)):
        return False
    # A version or experiment may have been deleted since the list was shown.
    version = (
        ModelVersion.objects.filter(pk=query.version_id)
        .values_list(Exists(Experiment.objects.filter(pk=query.experiment_id)))
        .first()
    )
    if version is None:
        return False
    in_experiment = version[0]
    key = get_catalogue().product_model._meta.pk
    visitor = _visitor(request)
    made = [
        Event(
            query_id=query.id,
            kind=kind,
            surface=query.surface,
            version_id=query.version_id,
            experiment_id=query.experiment_id if in_experiment else None,
            bucket=query.bucket if in_experiment else None,
            product_id=None if query.product_id is None else key.to_python(query.product_id),
            shown=list(query.shown) if kind == Kind.IMPRESSION else [],
            target_product_id=None if product is None else key.to_python(product),
            position=position,
            visitor=visitor,
            shown_at=query.issued_at,
        )
        for kind, product, position in dict.fromkeys([(Kind.IMPRESSION, None, None), *rows])
    ]
    try:
        Event.objects.bulk_create(made, ignore_conflicts=True)
    except IntegrityError:
        logger.info("Events of model version %d came in while it was deleted; they are dropped.", query.version_id)
        return False
    return True


def _checked(query: Query, kind: str, product: Any) -> tuple[str, str | None, int | None]:
    if kind not in Kind.values:
        raise BadEvent(
            _("There is no kind of event %(kind)s. There are: %(known)s.")
            % {"kind": repr(kind)[:40], "known": ", ".join(Kind.values)}
        )
    if kind == Kind.IMPRESSION:
        return Kind.IMPRESSION, None, None
    # Keys travel as text; a UUID may be written in another way than ours.
    text = str(product)
    if text not in query.shown:
        try:
            text = str(get_catalogue().product_model._meta.pk.to_python(product))
        except (ValidationError, ValueError, TypeError):
            text = ""
    if product is None or text not in query.shown:
        raise BadEvent(_("The product %(product)s was not in this list.") % {"product": repr(product)[:60]})
    return Kind(kind), text, query.shown.index(text) + 1


def _is_not_counted(request: HttpRequest) -> bool:
    return wants_privacy(request) or bool(getattr(getattr(request, "user", None), "is_staff", False))


def _visitor(request: HttpRequest | None) -> str:
    path = get_settings().event_visitor
    if path is None or request is None:
        return ""
    return str(import_string(path)(request) or "")[: Event._meta.get_field("visitor").max_length]
