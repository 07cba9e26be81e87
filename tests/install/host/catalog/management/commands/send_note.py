"""``send_note TEXT``: one of the shop's own tasks, sent the way that its settings say."""

from django.core.management.base import BaseCommand

from workers.tasks import note  # noqa: TID251  (the shop's own)


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("text")

    def handle(self, *, text, **options):
        note.delay(text)
