"""What shoppers did with a list, recorded by one statement, no matter how often or in which order it comes in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import IntegrityError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from .. import database
from ..catalogue import NotAKeyError, product_key
from ..conf import get_settings
from ..models import Event, Experiment, ExperimentGroup, ModelVersion
from .tokens import Query
from .visitors import wants_privacy
from .voters import group_of, voter_of

logger = logging.getLogger(__name__)

Kind = Event.Kind


# One statement, since beacons are many: version and experiment may have been deleted since the list was shown, and what
# is there already stays and is not summed up again. Says whether the version is still there.
_RECORD = f"""
    WITH shown_list AS (
        SELECT version.id AS version_id, experiment.id AS experiment_id
        FROM {ModelVersion._meta.db_table} version
        LEFT JOIN {Experiment._meta.db_table} experiment ON experiment.id = %%(experiment)s::bigint
        WHERE version.id = %%(version)s
    ), recorded AS (
        INSERT INTO {Event._meta.db_table} (
            query_id, kind, surface, version_id, experiment_id, bucket, product_id, shown, target_product_id, position,
            visitor, voter, shown_at, created_at
        )
        SELECT %%(query)s, event.kind, %%(surface)s, version_id, experiment_id,
            CASE WHEN experiment_id IS NOT NULL THEN %%(bucket)s::smallint END, %%(product)s::text::%(key)s,
            CASE WHEN event.kind = 'impression' THEN %%(shown)s::text[] ELSE '{{}}' END, event.target::%(key)s,
            event.position, %%(visitor)s, CASE WHEN event.kind <> 'impression' THEN %%(voter)s::smallint END,
            %%(shown_at)s, %%(now)s
        FROM shown_list
        CROSS JOIN unnest(%%(kinds)s::text[], %%(targets)s::text[], %%(positions)s::smallint[])
            AS event (kind, target, position)
        ON CONFLICT DO NOTHING
        RETURNING kind, experiment_id, version_id
    ), grouped AS (
        INSERT INTO {ExperimentGroup._meta.db_table} AS known (
            experiment_id, version_id, surface, number, lists, clicked
        )
        SELECT experiment_id, version_id, %%(surface)s, %%(group)s::smallint,
            count(*) FILTER (WHERE kind = 'impression'),
            least(1, count(*) FILTER (WHERE kind = 'click' AND NOT EXISTS (
                SELECT FROM {Event._meta.db_table} earlier
                WHERE earlier.query_id = %%(query)s AND earlier.kind = 'click'
            )))
        FROM recorded
        WHERE experiment_id IS NOT NULL AND %%(group)s::smallint IS NOT NULL
        GROUP BY experiment_id, version_id
        ON CONFLICT (experiment_id, version_id, surface, number) DO UPDATE
        SET lists = known.lists + excluded.lists, clicked = known.clicked + excluded.clicked
    )
    SELECT EXISTS (SELECT FROM shown_list)
"""  # noqa: S608


class _Row(NamedTuple):
    kind: str
    target: str | None
    position: int | None


_IMPRESSION = _Row(str(Kind.IMPRESSION), None, None)


class BadEvent(ValueError):
    """An event that makes no sense; the sentence says why."""


def record(query: Query, kind: str, product: Any = None, request: HttpRequest | None = None) -> bool:
    """Record one event of a list; see :func:`record_events`."""
    return record_events(query, [(kind, product)], request)


def record_events(query: Query, events: Sequence[tuple[str, Any]], request: HttpRequest | None = None) -> bool:
    """Record events of a list: one statement, however many events, and nothing twice.

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
    rows = [_row(query, kind, product) for kind, product in events]
    if not rows or not get_settings().record_events or (request is not None and _is_not_counted(request)):
        return False
    # In one order always, so that two beacons of a list that come in at once never wait for each other in a circle.
    choices = sorted({row for row in rows if row != _IMPRESSION}, key=lambda row: (row.kind, row.position))
    kinds, targets, positions = zip(_IMPRESSION, *choices, strict=True)
    counted = query.experiment_id if request is not None else None
    try:
        with database.cursor() as cursor:
            cursor.execute(
                _RECORD % {"key": Event._meta.get_field("target_product_id").db_type(database.connection())},
                {
                    "query": query.id,
                    "surface": query.surface,
                    "version": query.version_id,
                    "experiment": query.experiment_id,
                    "bucket": query.bucket,
                    "product": query.product_id,
                    "shown": list(query.shown),
                    "kinds": list(kinds),
                    "targets": list(targets),
                    "positions": list(positions),
                    "visitor": _visitor(request),
                    "voter": voter_of(request, query) if request is not None and choices else None,
                    "group": group_of(request, counted) if counted is not None else None,
                    "shown_at": query.issued_at,
                    "now": timezone.now(),
                },
            )
            return cursor.fetchone()[0]
    except IntegrityError:
        # In the moment between the look at the version and the end of the statement.
        logger.info("Events of model version %d came in while it was deleted; they are dropped.", query.version_id)
        return False


def _row(query: Query, kind: str, product: Any) -> _Row:
    if kind not in Kind.values:
        raise BadEvent(
            _("There is no kind of event %(kind)s. There are: %(known)s.")
            % {"kind": repr(kind)[:40], "known": ", ".join(Kind.values)}
        )
    if kind == Kind.IMPRESSION:
        return _IMPRESSION
    # Keys travel as text; a UUID may be written in another way than ours.
    text = str(product)
    if text not in query.shown:
        try:
            text = str(product_key(product))
        except NotAKeyError:
            text = ""
    if product is None or text not in query.shown:
        raise BadEvent(_("The product %(product)s was not in this list.") % {"product": repr(product)[:60]})
    return _Row(str(Kind(kind)), text, query.shown.index(text) + 1)


def _is_not_counted(request: HttpRequest) -> bool:
    return wants_privacy(request) or bool(getattr(getattr(request, "user", None), "is_staff", False))


def _visitor(request: HttpRequest | None) -> str:
    path = get_settings().event_visitor
    if path is None or request is None:
        return ""
    return str(import_string(path)(request) or "")[: Event._meta.get_field("visitor").max_length]
