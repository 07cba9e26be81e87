"""``manage.py train_mildnet``: train or fine-tune a model on triplets, and store it as a candidate version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.models import ModelVersion
from shop_similarity.training.aspects.forms import PHOTOS
from shop_similarity.training.commands.arguments import add_arguments, check_usage
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.data import gather_data
from shop_similarity.training.commands.extra_command import ExtraCommand
from shop_similarity.training.commands.fit import choose_devices, fit, open_run
from shop_similarity.training.commands.leaks import leak_of_version, look_for_leaks
from shop_similarity.training.commands.measurement import measure_active, measure_run, measure_test
from shop_similarity.training.commands.new_version import activate, explain, queue, store
from shop_similarity.training.commands.run_folder import make_folder, new_folder, resumed_options
from shop_similarity.training.commands.run_setup import choose_setup
from shop_similarity.training.evaluation.validation import Validation
from shop_similarity.training.learning.folder import read_run


class Command(ExtraCommand):
    needed_packages = ("tensorflow", "tensorboard", "matplotlib")
    help = (
        "Trains a model on triplets of photos, or fine-tunes one, measures it and stores it as a candidate version. "
        "Without further options the pretrained network stays as it is, its features are computed once, and a linear "
        "head that starts from calibration is trained: minutes on two CPU cores."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)
        self.default_of = parser.get_default

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        self.console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        if options["report_only"]:
            self._report(options["report_only"])
            return
        from shop_similarity.training.learning.loop import TrainingInterrupted

        # The folder of the run, as soon as it can be resumed.
        self.folder: Path | None = None
        try:
            self._train(options)
        except TrainingInterrupted as error:
            raise CommandError(str(error), returncode=130) from error
        except KeyboardInterrupt as error:
            stopped = _("Stopped.")
            if self.folder is not None:
                stopped = _("Stopped. What was computed is kept: go on with --resume %(folder)s") % {
                    "folder": self.folder
                }
            raise CommandError(stopped, returncode=130) from error

    def _train(self, options: dict[str, Any]) -> None:
        console, record = self.console, None
        if options["resume"] is None:
            check_usage(options)
            folder = new_folder(options)
        else:
            self.folder = folder = options["resume"]
            record = read_run(folder)
            options = resumed_options(options, record, self.default_of)
        distribution = choose_devices(options, console)
        with console.bars:
            gathered = gather_data(options, console, folder, resumed=record is not None)
            data = gathered.data
            setup, weights = choose_setup(options, record, console)
            console.bars.close()
            if record and record["data"]["sha256"] != data.sha256():
                raise CommandError(
                    _("The photos or triplets of %(folder)s have changed since it began. Put them back or start anew.")
                    % {"folder": folder}
                )
            leaks = {} if record else look_for_leaks(data, options, console)
            run = open_run(folder, setup, data, distribution, options, console)
            if record is None and distribution.chief:
                make_folder(run, gathered, leaks, options)
                self.folder = folder
                console.say(_("Run: %(folder)s") % {"folder": folder})
            result = fit(run, weights, resume=record is not None, console=console)
            if not distribution.chief:
                return
            measured = {"evaluation": measure_run(run, options, console)}
            if gathered.test:
                measured |= measure_test(run, gathered.test, options, console)
        version = None
        if not options["no_store"]:
            version = store(folder, setup, run.model, result.best_epoch, measured, options["name"], console)
        self._report(folder)
        if version is None:
            return
        queue(version, console)
        if options["activate"]:
            active = ModelVersion.objects.active()
            if active is not None and not options["force"]:
                validation = Validation(data.retrieval, data.validation, look_alike=data.look_alike)
                measure_active(active, validation, leak_of_version(data, active), console)
            activate(version, console, force=options["force"])
        if options["aspects"]:
            explain(version, run.model, run.training_features(PHOTOS), console)

    def _report(self, folder: Path) -> None:
        from shop_similarity.training.report.run_report import write_run_report

        try:
            write_run_report(folder)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.console.say(_("Report: %(path)s") % {"path": folder / "report.html"})
