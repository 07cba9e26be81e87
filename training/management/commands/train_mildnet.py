"""``manage.py train_mildnet``: train or fine-tune a model on triplets, and store it as a candidate version."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity.training.aspects.forms import PHOTOS
from shop_similarity.training.commands.arguments import add_arguments, check_usage
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.data import gather_data
from shop_similarity.training.commands.devices import choose_devices
from shop_similarity.training.commands.extra_command import ExtraCommand
from shop_similarity.training.commands.fit import fit, make_folder, open_run
from shop_similarity.training.commands.folders import run_folder
from shop_similarity.training.commands.measurement import measure
from shop_similarity.training.commands.new_version import hand_over, store
from shop_similarity.training.commands.run_record import resumed_options
from shop_similarity.training.commands.run_setup import choose_setup
from shop_similarity.training.errors import TrainingError
from shop_similarity.training.management.commands.calibrate_mildnet import tell_aspects


class Command(ExtraCommand):
    needed_packages = ("tensorflow", "tensorboard", "matplotlib")
    help = (
        "Trains a model on triplets of photos, or fine-tunes one, measures it and stores it as a candidate version. "
        "Without further options the pretrained network stays as it is, its features are computed once, and a linear "
        "head that starts from calibration is trained: minutes on two CPU cores."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        self.console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        # The folder of the run, as soon as it can be resumed.
        self.folder: Path | None = None
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        if options["report_only"]:
            self._report_only(options["report_only"])
            return
        from shop_similarity.training.learning.loop import TrainingInterrupted

        try:
            self._train(options)
        except TrainingError as error:
            raise CommandError(str(error)) from error
        except TrainingInterrupted as error:
            raise CommandError(str(error), returncode=130) from error
        except KeyboardInterrupt as error:
            # Between epochs' steps the trainer sees to it itself.
            told = _("Stopped.")
            if self.folder is not None:
                told = _("Stopped. What was computed is kept: go on with --resume %(folder)s") % {"folder": self.folder}
            raise CommandError(told, returncode=130) from error

    def _train(self, options: dict[str, Any]) -> None:
        if options["resume"] is not None:
            folder, record, options = self._begun_run(options)
        else:
            folder, record = self._new_run(options), None
        console = self.console
        distribution = choose_devices(options, console)
        with console.bars:
            data, clicks = gather_data(options, console, resumed=folder if record else None)
            setup, weights = choose_setup(options, record, console)
            console.bars.close()
            if record and record["data"]["sha256"] != data.sha256():
                raise CommandError(
                    _("The photos or triplets of %(folder)s have changed since it began. Put them back or start anew.")
                    % {"folder": folder}
                )
            run = open_run(folder, setup, data, distribution, options, console)
            if record is None and distribution.chief:
                make_folder(run, clicks, options)
                self.folder = folder
                console.say(_("Run: %(folder)s") % {"folder": folder})
            result = fit(run, weights, resume=record is not None, console=console)
            if not distribution.chief:
                return
            found = measure(run, options, console)
        version = None if options["no_store"] else store(run, result, found, options, console)
        self._report(folder)
        if version is not None:
            hand_over(version, data, options, console)
            if options["aspects"]:
                tell_aspects(self, version, run.model, run.training_features(PHOTOS), quiet=console.quiet)

    def _new_run(self, options: dict[str, Any]) -> Path:
        """The folder of the run that the options ask for."""
        from shop_similarity.training.learning.run import RUN_FILE

        check_usage(options)
        folder = run_folder(options)
        if (folder / RUN_FILE).exists():
            raise CommandError(
                _("%(folder)s holds a run already. Go on with it (--resume %(folder)s) or name another folder.")
                % {"folder": folder}
            )
        return folder

    def _begun_run(self, options: dict[str, Any]) -> tuple[Path, dict[str, Any], dict[str, Any]]:
        """The folder of the run that is to go on, its record, and the options that it was begun with."""
        from shop_similarity.training.learning.run import read_run

        folder = options["resume"]
        record = read_run(folder)
        self.folder = folder
        return folder, record, resumed_options(options, record)

    def _report_only(self, folder: Path) -> None:
        try:
            self._report(folder)
        except (TrainingError, ValueError) as error:
            raise CommandError(str(error)) from error

    def _report(self, folder: Path) -> None:
        from shop_similarity.training.report.run_report import write_run_report

        write_run_report(folder)
        self.console.say(_("Report: %(path)s") % {"path": folder / "report.html"})
