"""The daily roll-up: raw events become daily sums and preferences, and go.

A list belongs to the day on which it was made, and so do its clicks, also those after midnight. Since a token lasts a
day, a day is open until the next one is over: until then it is summed anew each time. Then it is *closed*, in one
transaction: its sums are final, its clicks are added to the preferences, and its raw events may be removed. So nothing
is counted twice, however often and wherever this runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import Min, QuerySet
from django.utils import timezone

from .. import database
from ..conf import get_settings
from ..models import DailyStatistic, Event, EventDay, Preference
from . import preferences
from .daily_sums import SUMS, DailySum, last_closed_day, span, start_of, today
from .tokens import MAX_AGE_SECONDS

logger = logging.getLogger(__name__)

# Seconds between two roll-ups by workers.
EVERY_SECONDS = 3_600
# What nobody did any more for so long is forgotten.
PREFERENCE_DAYS = 400
_PORTION = 5_000


@dataclass
class Result:
    """What a roll-up did: days summed, of them days closed, and raw events and preferences removed."""

    days: int = 0
    closed: int = 0
    removed_events: int = 0
    removed_preferences: int = 0
    # Another process was at it, so this one did nothing.
    skipped: bool = False


@database.on_primary()
def is_due() -> bool:
    """Whether no process has rolled up for an hour, by the clock of the whole database."""
    recent = EventDay.objects.filter(rolled_up_at__gt=timezone.now() - timedelta(seconds=EVERY_SECONDS))
    return not recent.exists() and (Event.objects.exists() or Preference.objects.exists())


@database.on_primary()
def roll_up(*, stopped: Callable[[], bool] = lambda: False) -> Result:
    """Sum every day that is not closed, close those that nothing can be added to any more, and trim.

    One process at a time does it; in another one this returns at once with ``skipped``. Each day is a transaction of
    its own and events are removed in portions, so nothing waits for it.

    Args:
        stopped: asked between two steps, ends the work.
    """
    with database.long_lock("roll-up") as is_ours:
        if not is_ours:
            return Result(skipped=True)
        result = Result()
        for day in _open_days():
            if stopped():
                return result
            result.days += 1
            result.closed += _roll_up_day(day, close=datetime.now(UTC) > _nothing_comes_after(day))
        _trim(result, stopped)
        return result


def _open_days() -> list[date]:
    """The days that have to be summed, oldest first; today is always one of them."""
    closed = last_closed_day()
    now = today()
    if closed is not None:
        first = closed + timedelta(days=1)
    else:
        earliest = Event.objects.aggregate(first=Min("shown_at"))["first"]
        first = now if earliest is None else min(earliest.astimezone(UTC).date(), now)
    return [first + timedelta(days=number) for number in range((now - first).days + 1)]


def _roll_up_day(day: date, *, close: bool) -> bool:
    using = database.write_alias()
    with database.long_atomic():
        database.lock("day of events")
        if EventDay.objects.using(using).filter(day=day, closed_at__isnull=False).exists():
            # Another process was at it all the same, and its clicks must not count twice.
            return False
        with database.cursor(using) as cursor:
            cursor.execute(f"DELETE FROM {DailyStatistic._meta.db_table} WHERE day = %s", [day])  # noqa: S608
            cursor.execute(
                f"INSERT INTO {DailyStatistic._meta.db_table} ({', '.join(DailySum._fields)}) {SUMS}", span(day, day)
            )
        if close:
            preferences.add_day(day)
        moment = timezone.now()
        EventDay.objects.using(using).update_or_create(
            day=day, defaults={"rolled_up_at": moment, "closed_at": moment if close else None}
        )
    return close


def _nothing_comes_after(day: date) -> datetime:
    # The last token of the day is a day old then; the minutes are for clocks that differ and requests under way.
    return start_of(day + timedelta(days=1)) + timedelta(seconds=MAX_AGE_SECONDS, minutes=5)


def _trim(result: Result, stopped: Callable[[], bool]) -> None:
    settings = get_settings()
    closed = last_closed_day()
    if closed is not None:
        old = min(start_of(today() - timedelta(days=settings.event_days)), start_of(closed + timedelta(days=1)))
        result.removed_events += _remove(Event.objects.filter(shown_at__lt=old).order_by("shown_at"), stopped)
    excess = Event.objects.count() - settings.event_rows
    if excess > 0 and not stopped():
        _trim_excess(excess, result, stopped)
    forgotten = Preference.objects.filter(last_day__lt=today() - timedelta(days=PREFERENCE_DAYS)).order_by("last_day")
    result.removed_preferences += _remove(forgotten, stopped)
    excess = Preference.objects.count() - settings.event_rows
    while excess > 0 and not stopped():
        # What was seen once, long ago, is the least loss.
        least = Preference.objects.order_by("count", "last_day", "pk").values("pk")[: min(excess, _PORTION)]
        result.removed_preferences += Preference.objects.filter(pk__in=least).delete()[0]
        excess -= _PORTION


def _trim_excess(excess: int, result: Result, stopped: Callable[[], bool]) -> None:
    """Remove the oldest events, whole lists of them; days that lose some are closed before."""
    last = Event.objects.order_by("shown_at").values_list("shown_at", flat=True)[excess - 1]
    now = today()
    for day in _open_days():
        if day <= last.astimezone(UTC).date() and day < now:
            result.closed += _roll_up_day(day, close=True)
    if last >= start_of(now):
        logger.warning(
            "Today alone has more than %d events, so its sums count the newest of them: raise EVENT_ROWS.",
            get_settings().event_rows,
        )
    result.removed_events += _remove(Event.objects.filter(shown_at__lte=last).order_by("shown_at"), stopped)


def _remove(rows: QuerySet, stopped: Callable[[], bool]) -> int:
    """Remove rows in portions, each a short transaction."""
    removed = 0
    while not stopped():
        count = rows.model.objects.filter(pk__in=rows.values("pk")[:_PORTION]).delete()[0]
        removed += count
        if count < _PORTION:
            break
    return removed
