"""A command that needs packages of an extra."""

from __future__ import annotations

import os
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.extras import require


class ExtraCommand(BaseCommand):
    """Stops with a sentence where one of ``needed_packages`` is missing, or whatever it does can't go on."""

    needed_packages: tuple[str, ...] = ("tensorflow",)

    def execute(self, *args: Any, **options: Any) -> str | None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        # A worker may be using the same GPU.
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        try:
            require(*self.needed_packages)
            return super().execute(*args, **options)
        except TrainingError as error:
            raise CommandError(str(error)) from error
