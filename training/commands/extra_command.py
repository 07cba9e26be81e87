"""A command that needs packages of an extra."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from shop_similarity.training.extras import ExtraMissing, require


class ExtraCommand(BaseCommand):
    """Stops with a sentence where one of ``needed_packages`` is missing."""

    needed_packages: tuple[str, ...] = ("tensorflow",)

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            require(*self.needed_packages)
        except ExtraMissing as error:
            raise CommandError(str(error)) from error
        return super().execute(*args, **options)
