"""``manage.py fit_aspects``: what colour, pattern and shape add to the similarities of versions that lack it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.conf import get_settings
from shop_similarity.models import ModelVersion
from shop_similarity.training.aspects.forms import PHOTOS
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.extra_command import ComputingCommand
from shop_similarity.training.commands.new_version import explain


class Command(ComputingCommand):
    help = (
        "Finds out what colour, pattern and shape add to a version's similarities, from the shop's photos and drawn "
        "goods, so that they can be explained and leaned. New versions are done by calibrate_mildnet and train_mildnet."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "versions",
            nargs="*",
            metavar="VERSION",
            help="Names; what they have is replaced. By default all live versions that have nothing.",
        )
        parser.add_argument(
            "--sample", type=int, default=PHOTOS, metavar="N", help="Look at N photos at most (%(default)s)."
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["sample"] <= PHOTOS:
            raise CommandError(_("--sample must be 1 to %(most)d.") % {"most": PHOTOS})
        names = options["versions"]
        if names:
            known = {version.name: version for version in ModelVersion.objects.filter(name__in=names)}
            if unknown := [name for name in names if name not in known]:
                raise CommandError(_("There is no model version %(names)s.") % {"names": ", ".join(unknown)})
            versions = [known[name] for name in dict.fromkeys(names)]
        else:
            versions = list(ModelVersion.objects.live().filter(aspect_basis=None))
            if not versions and options["verbosity"]:
                self.stdout.write(_("Every live version can explain its similarities already."))
        if versions:
            self.use_device(options)
        console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        for version in versions:
            self._fit(version, options["sample"], console)

    def _fit(self, version: ModelVersion, sample: int, console: Console) -> None:
        from shop_similarity.training.networks.architectures import feature_model
        from shop_similarity.training.networks.precision import dtype_policy
        from shop_similarity.training.networks.preprocessing import Preprocessing
        from shop_similarity.training.networks.runner import extract
        from shop_similarity.training.versions.first_version import Skipped, prepared_photos, sample_rows
        from shop_similarity.training.versions.loading import fast_policy_of, load_version

        settings = get_settings()
        console.say(f"{version.name}:")
        with dtype_policy(fast_policy_of(version)):
            model = load_version(version, settings.weights_cache)
        rows, skipped = sample_rows(sample), list[Skipped]()
        what = _("Looking at the shop's photos")
        with console.bars:
            features = extract(
                feature_model(model),
                prepared_photos(rows, Preprocessing.from_dict(version.preprocessing), skipped),
                settings.batch_size,
                lambda done: console.bars.photos(what, done + len(skipped), len(rows)),
            )
        if skipped:
            console.warn(
                _("%(count)d photos cannot be used; the first: %(name)s: %(reason)s")
                % {"count": len(skipped), "name": skipped[0].file_name, "reason": skipped[0].reason}
            )
        explain(version, model, features, console)
