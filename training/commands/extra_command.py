"""Commands that need packages of an extra, and those of them that compute on one device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from shop_similarity.training.errors import TrainingError
from shop_similarity.training.extras import require


class ExtraCommand(BaseCommand):
    """Stops with a sentence where one of ``needed_packages`` is missing, or whatever it does can't go on."""

    needed_packages: tuple[str, ...] = ("tensorflow",)

    def execute(self, *args: Any, **options: Any) -> str | None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        try:
            require(*self.needed_packages)
            return super().execute(*args, **options)
        except TrainingError as error:
            raise CommandError(str(error)) from error


class ComputingCommand(ExtraCommand):
    """Computes on one device, and leaves the rest of its memory to others."""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--device", metavar="DEVICE", help="Compute on this one, such as GPU:1 (the first GPU, or else the CPU)."
        )

    def use_device(self, options: Mapping[str, Any]) -> None:
        """To be called before anything is computed.

        Raises:
            DeviceError: there is no such device.
        """
        from shop_similarity.training.networks.devices import use_devices

        use_devices([options["device"]] if options["device"] else [])
