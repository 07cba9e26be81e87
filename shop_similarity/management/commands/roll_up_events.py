"""``manage.py roll_up_events``: what workers do every hour, for shops that prefer cron."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.feedback.roll_up import roll_up


class Command(BaseCommand):
    help = "Sums impressions and clicks by day and removes raw events that are no longer needed."

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        done = roll_up()
        if done.skipped:
            self.stdout.write(_("Another process is rolling up events at the moment; nothing was done."))
            return
        self.stdout.write(
            _("Summed %(days)d days, closed %(closed)d, removed %(events)d raw events and %(preferences)d preferences.")
            % {
                "days": done.days,
                "closed": done.closed,
                "events": done.removed_events,
                "preferences": done.removed_preferences,
            }
        )
