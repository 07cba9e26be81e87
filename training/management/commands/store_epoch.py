"""``manage.py store_epoch``: one epoch of a training run as a model version."""

from __future__ import annotations

import time
from argparse import BooleanOptionalAction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _

from shop_similarity import database
from shop_similarity.conf import get_settings
from shop_similarity.models import EMBEDDING_DIM, ModelVersion
from shop_similarity.training.commands.console import Console
from shop_similarity.training.commands.extra_command import ComputingCommand
from shop_similarity.training.commands.leaks import leak_on_run
from shop_similarity.training.commands.measurement import candidate_numbers, measure_active
from shop_similarity.training.commands.new_version import activate, queue, store
from shop_similarity.training.evaluation.comparison import Comparison
from shop_similarity.training.evaluation.tables import tables
from shop_similarity.training.evaluation.validation import asked_by_photo
from shop_similarity.training.learning.checkpoints import newest_state
from shop_similarity.training.learning.folder import CHECKPOINTS, read_run
from shop_similarity.training.report.run_report import stored_embeddings, validation_of
from shop_similarity.training.versions.embedding_files import embed_files, image_limits
from shop_similarity.training.versions.storing import free_name

if TYPE_CHECKING:
    import keras

    from shop_similarity.training.learning.setup import Setup


class Command(ComputingCommand):
    help = (
        "Measures one epoch of a training run on the run's validation set and stores it as a candidate version. "
        "train_mildnet stores the best epoch by itself; which others are there to choose from, its --keep-epochs says."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=Path, metavar="RUN", help="The folder that train_mildnet made.")
        parser.add_argument("epoch", type=int, metavar="EPOCH", help="Its number; 0 is the start.")
        parser.add_argument("--name", help="Of the version (default: the architecture's first word and a number).")
        parser.add_argument(
            "--activate",
            action="store_true",
            help="Let the version take over from the active one if it is better on the validation set.",
        )
        parser.add_argument("--force", action="store_true", help="With --activate: even if it is not better.")
        parser.add_argument(
            "--aspects",
            action=BooleanOptionalAction,
            default=True,
            help="Find out what colour, pattern and shape add to its similarities (default); fit_aspects can do so "
            "later.",
        )
        super().add_arguments(parser)

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        from shop_similarity.training.learning.setup import Setup

        folder, epoch = options["run"], options["epoch"]
        record, progress = read_run(folder), newest_state(folder / CHECKPOINTS)["progress"]
        setup = Setup.from_dict(record["setup"])
        made = [each["epoch"] for each in progress["history"]]
        if epoch not in made:
            raise CommandError(
                _("The run has not made epoch %(epoch)d, but %(first)d to %(last)d.")
                % {"epoch": epoch, "first": made[0], "last": made[-1]}
            )
        name = free_name(options["name"], architecture=setup.architecture)
        self.use_device(options)
        console = Console(self.stdout, self.stderr, quiet=options["verbosity"] == 0)
        model = _model(setup, folder, epoch)
        validation = validation_of(folder, record)
        comparison = Comparison(validation)
        asked = asked_by_photo(setup.config)
        best, places = stored_embeddings(folder)
        if best is not None and progress["best_epoch"] != epoch and set(validation.paths) <= set(places):
            rows = best[[places[path] for path in validation.paths]]
            title = _("epoch %(epoch)d, the best") % {"epoch": progress["best_epoch"]}
            comparison.add_model(title, validation.evaluate(rows, candidate_numbers(), asked=asked), 0.0)
        title = _("epoch %(epoch)d") % {"epoch": epoch}
        began = time.monotonic()
        with console.bars:
            shown = console.counted_to(title, len(validation.paths))
            size = get_settings().batch_size
            vectors = embed_files(model, validation.paths, setup.preprocessing, size, shown, image_limits())
        evaluation = validation.evaluate(vectors, candidate_numbers(), asked=asked)
        comparison.add_model(title, evaluation, time.monotonic() - began)
        console.say(tables(comparison))
        version = store(folder, setup, model, epoch, {"evaluation": evaluation}, name, console)
        queue(version, console)
        if options["activate"]:
            active = ModelVersion.objects.active()
            if active is not None and not options["force"]:
                measure_active(active, validation, leak_on_run(record, validation, active), console)
            activate(version, console, force=options["force"])
        if options["aspects"]:
            said = {"verbosity": options["verbosity"], "stdout": self.stdout, "stderr": self.stderr}
            call_command("fit_aspects", version.name, device=options["device"], **said)


def _model(setup: Setup, folder: Path, epoch: int) -> keras.Model:
    """The run's model with the weights of an epoch, in the precision that is fastest here.

    Raises:
        CommandError: its embeddings are none that the shop could store.
        TrainingError: the weights are not kept, or can't be used.
    """
    from shop_similarity.training.learning import epoch_weights
    from shop_similarity.training.networks.architectures import build, trunk_of
    from shop_similarity.training.networks.precision import dtype_policy, fast_policy

    with dtype_policy(fast_policy(trunk_of(setup.architecture, setup.config))):
        model = build(setup.architecture, setup.config, setup.preprocessing)
    if model.output_shape[-1] != EMBEDDING_DIM:
        raise CommandError(
            _("The shop stores embeddings of %(shop)d numbers, this model gives %(model)d.")
            % {"shop": EMBEDDING_DIM, "model": model.output_shape[-1]}
        )
    epoch_weights.load(model, folder, epoch)
    return model
