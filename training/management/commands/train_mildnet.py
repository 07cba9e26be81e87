"""``manage.py train_mildnet``: train or fine-tune a model on triplets, and store it as a candidate version."""

from __future__ import annotations

import json
import os
import re
import time
from argparse import BooleanOptionalAction
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from shop_similarity.conf import get_settings
from shop_similarity.models import EMBEDDING_DIM, ModelVersion, OutboxEntry
from shop_similarity.sweep import sweep
from training.aspects import PHOTOS
from training.click_triplets import MIN_CLICKS, MIN_SHARE
from training.management.commands.calibrate_mildnet import tell_aspects
from training.progress_bars import ProgressBars
from training.training_options import MONITORS, OPTIMIZERS, SCHEDULES, TrainingOptions
from training.weights_cache import default_weights_cache

if TYPE_CHECKING:
    from training.distribution import Distribution
    from training.evaluation import Evaluation
    from training.trainer import TrainingResult
    from training.training_data import TrainingData
    from training.training_run import Setup, TrainingRun
    from training.triplets import Triplets

VALIDATION_SHARE = 0.1
# The triplets of a run from clicks: the shop records more of them meanwhile.
CLICKS = "clicks.csv"
# Augmented views of each photo in the cache: each costs a pass of all photos through the network, once.
VIEWS = 2
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")
_DEFAULTS = TrainingOptions()


class Command(BaseCommand):
    help = (
        "Trains a model on triplets of photos, or fine-tunes one, measures it and stores it as a candidate version. "
        "Without further options the pretrained network stays as it is, its features are computed once, and a linear "
        "head that starts from calibration is trained: minutes on two CPU cores."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        data = parser.add_argument_group("data")
        data.add_argument("--triplets", type=Path, metavar="CSV", help="Lines of query,positive,negative.")
        data.add_argument(
            "--images",
            type=Path,
            metavar="FOLDER",
            help="The folder that the paths in CSV files are relative to; by default each file's own folder.",
        )
        data.add_argument("--from-catalog", action="store_true", help="Make triplets of the shop's own products.")
        data.add_argument("--from-clicks", action="store_true", help="Make triplets of recorded clicks.")
        data.add_argument(
            "--min-clicks",
            type=int,
            metavar="N",
            help=f"With --from-clicks: so many clicks must prefer one product to another ({MIN_CLICKS}).",
        )
        data.add_argument(
            "--min-share",
            type=float,
            metavar="X",
            help=f"Of all clicks that chose between the two, so many must agree ({MIN_SHARE}).",
        )
        data.add_argument(
            "--validation",
            type=Path,
            metavar="CSV",
            help="Triplets to choose the best epoch by; by default a tenth of the triplets, of products of their own.",
        )
        data.add_argument(
            "--retrieval",
            type=Path,
            metavar="FOLDER",
            help="A retrieval set (queries.csv, gallery.csv, qrels.csv) that is measured after every epoch.",
        )
        data.add_argument(
            "--mix", type=Path, metavar="CSV", help="Old triplets to mix in, so that fine-tuning does not forget."
        )
        data.add_argument("--mix-share", type=float, metavar="SHARE", help="Of the old ones in each batch (0.3).")
        data.add_argument(
            "--mix-images", type=Path, metavar="FOLDER", help="The folder of their photos, if it is not --images."
        )
        data.add_argument(
            "--bystanders",
            type=Path,
            metavar="FOLDER",
            help="Unlabelled photos of other goods, among which --anchor is to keep the cosines as they are.",
        )
        data.add_argument("--bystanders-per-batch", type=int, metavar="N", help="How many of them in a batch (64).")

        model = parser.add_argument_group("model")
        model.add_argument("--architecture", help="mildnet (default), mildnet-lite, ranknet, visnet or visnet-fynd.")
        model.add_argument(
            "--config",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="An option of the architecture, its value as JSON; may be repeated.",
        )
        model.add_argument("--weights", type=Path, metavar="FILE", help="Pretrained weights of the backbone.")
        model.add_argument(
            "--weights-cache", type=Path, metavar="FOLDER", help="Where the converted ImageNet weights are kept."
        )
        model.add_argument("--fine-tune", metavar="VERSION", help="Start from a model version.")
        model.add_argument(
            "--train",
            metavar="PART",
            help="What is trained: head (default), all, or the backbone from a block on, such as block5.",
        )
        model.add_argument(
            "--frozen-through", metavar="LAYER", help="The last layer that is not trained, instead of --train."
        )
        model.add_argument(
            "--calibrate",
            action=BooleanOptionalAction,
            default=True,
            help="Start the head from calibration on the training photos (default) or from random numbers.",
        )

        loop = parser.add_argument_group("training")
        loop.add_argument("--loss", help=f"By default {_DEFAULTS.loss}; an unknown name lists all.")
        loop.add_argument(
            "--margin",
            type=float,
            nargs="+",
            metavar="M",
            help="Of the loss; two for contrastive-margins (positive, negative), degrees for angular.",
        )
        loop.add_argument("--temperature", type=float, metavar="T", help="Of supcon and infonce.")
        loop.add_argument("--nonzero", action="store_true", help="Average the loss over terms that are not zero.")
        loop.add_argument("--miner", choices=("semi-hard", "hard"), help="Choose negatives within the batch.")
        loop.add_argument("--batch-size", type=int, metavar="B", help="Triplets in a batch (64).")
        loop.add_argument(
            "--per-instance",
            type=int,
            metavar="K",
            help="Batches of K photos of each instance (P x K = 3 B) instead of triplets as they are.",
        )
        loop.add_argument(
            "--by-category",
            action=BooleanOptionalAction,
            default=True,
            help="With --per-instance, draw each batch from one category (default).",
        )
        loop.add_argument(
            "--negatives",
            choices=("neighbours", "batch", "components", "explicit"),
            help="Which pairs of a batch may be pushed apart: those that share no positive (default), all but "
            "positives, only those that no chain of positives links, or only those that the triplets name.",
        )
        for name, kind, what in (
            ("epochs", int, "At most"),
            ("patience", int, "Stop after so many epochs without a better one; 0 never"),
            ("learning-rate", float, "The largest"),
            ("warmup", float, "Share of all steps over which a cosine schedule rises"),
            ("weight-decay", float, "Of adamw"),
            ("momentum", float, "Of sgd"),
            ("clip", float, "Largest norm of the gradient; 0 does not clip"),
            ("accumulate", int, "Batches whose gradients make one step"),
            ("backbone-rate", float, "Learning rate of the backbone as a multiple of the head's"),
            ("anchor", float, "Weight of the penalty for changes of the batch's cosines against the start"),
            ("l2-start", float, "Weight of the penalty for weights that leave the start"),
            ("average", float, "Decay of the running average of the weights that is kept; 0 for none"),
            ("blend", float, "Share of the trained weights in what is kept, the rest being the start's"),
            ("seed", int, "Of everything that is drawn"),
            ("checkpoint-seconds", float, "Also within an epoch, save the state so often"),
            ("keep-checkpoints", int, "The newest that are kept; 0 keeps all"),
        ):
            default = getattr(_DEFAULTS, name.replace("-", "_"))
            loop.add_argument(f"--{name}", type=kind, metavar="N" if kind is int else "X", help=f"{what} ({default}).")
        loop.add_argument("--schedule", choices=SCHEDULES, help=f"Of the learning rate ({_DEFAULTS.schedule}).")
        loop.add_argument("--optimizer", choices=OPTIMIZERS, help=f"{_DEFAULTS.optimizer} by default.")
        loop.add_argument("--monitor", choices=MONITORS, help=f"What the best epoch is best in ({_DEFAULTS.monitor}).")
        loop.add_argument(
            "--augment",
            action=BooleanOptionalAction,
            default=None,
            help="Change photos at random (default), also those whose features are kept (--views).",
        )
        loop.add_argument(
            "--augmentation",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="How: flip, crop, aspect, rotation, brightness, contrast, saturation, hue, erase; may be repeated.",
        )
        loop.add_argument(
            "--views", type=int, metavar="N", help=f"Augmented views of each photo in the cache ({VIEWS})."
        )
        loop.add_argument("--twins", action="store_true", help="Put two views of each photo into its batch.")
        loop.add_argument("--precision", choices=PRECISIONS, default="auto", help="What the network computes in.")
        loop.add_argument(
            "--devices", nargs="+", metavar="DEVICE", help="Train on these, such as GPU:0 GPU:1; by default all GPUs."
        )

        run = parser.add_argument_group("run")
        run.add_argument("--run", type=Path, metavar="FOLDER", help="Folder of the run; a new one by default.")
        run.add_argument("--resume", type=Path, metavar="FOLDER", help="Go on with a run that was interrupted.")
        run.add_argument("--report-only", type=Path, metavar="FOLDER", help="Write the report of a run anew.")
        run.add_argument("--cache", type=Path, metavar="FOLDER", help="Where computed features are kept.")
        run.add_argument("--no-cache", action="store_true", help="Compute the frozen layers in every epoch.")
        run.add_argument(
            "--baselines", default="none", metavar="NAMES", help="To measure as well: see evaluate_mildnet."
        )
        run.add_argument("--name", help="Of the version; by default the architecture's name and a number.")
        run.add_argument(
            "--aspects",
            action=BooleanOptionalAction,
            default=True,
            help="Find out what colour, pattern and shape add to the version's similarities (default).",
        )
        run.add_argument("--no-store", action="store_true", help="Keep the result in the run's folder alone.")
        run.add_argument(
            "--activate",
            action="store_true",
            help="Let the version take over from the active one if it is better on the retrieval set.",
        )
        run.add_argument("--force", action="store_true", help="With --activate: even if it is not better.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.quiet = options["verbosity"] == 0
        self.folder: Path | None = None
        self.clicks: Triplets | None = None
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        if options["report_only"]:
            self._report_only(options["report_only"])
            return
        from training.backbones.weights import WeightsUnavailable
        from training.embedding_files import UnreadablePhotos
        from training.evaluation import EvaluationError
        from training.feature_cache import CacheError
        from training.loading import WeightsError
        from training.photo_dataset import PhotoError
        from training.retrieval_set import RetrievalSetError
        from training.splitting import NothingToTrain
        from training.storing import NameTaken
        from training.trainer import TrainingError, TrainingInterrupted
        from training.triplets import TripletError

        try:
            self._train(options)
        except (
            CacheError,
            EvaluationError,
            NameTaken,
            NothingToTrain,
            PhotoError,
            RetrievalSetError,
            TrainingError,
            TripletError,
            UnreadablePhotos,
            WeightsError,
            WeightsUnavailable,
        ) as error:
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
        from training.training_run import RUN_FILE, read_run

        resumed = options["resume"] is not None
        if resumed:
            folder = options["resume"]
            record = read_run(folder)
            self.folder = folder
            # What the run was started with counts; what is said now only about its end.
            now = {name: options[name] for name in ("activate", "force", "no_store", "verbosity")}
            before = {
                name: Path(value) if name in _PATHS and value else value for name, value in record["given"].items()
            }
            options = {**options, **before, **{name: now[name] or before.get(name) for name in now}}
        else:
            self._check_usage(options)
            record = None
            folder = options["run"] or self._new_folder(options)
            if (folder / RUN_FILE).exists():
                raise CommandError(
                    _("%(folder)s holds a run already. Go on with it (--resume %(folder)s) or name another folder.")
                    % {"folder": folder}
                )
        distribution = self._distribution(options)
        with ProgressBars(self.stderr, self.quiet) as bars:
            data = self._data(options, bars, folder if resumed else None)
            setup, given_weights = self._setup(options, record, bars)
            bars.close()
            if record and record["data"]["sha256"] != data.sha256():
                raise CommandError(
                    _("The photos or triplets of %(folder)s have changed since it began. Put them back or start anew.")
                    % {"folder": folder}
                )
            run, result = self._run(folder, setup, data, given_weights, options, distribution, record, bars)
            if not distribution.chief:
                return
            found = self._evaluate(run, data, result, options, bars)
        version = None if options["no_store"] else self._store(run, data, result, found, options)
        self._report(folder)
        self._say(_("Report: %(path)s") % {"path": folder / "report.html"})
        if version is not None:
            self._hand_over(version, run, data, options)
            if options["aspects"]:
                features = run.training_features(PHOTOS)
                tell_aspects(self, version, run.model, features, quiet=self.quiet)

    def _check_usage(self, options: dict[str, Any]) -> None:
        sources = [name for name in ("triplets", "from_catalog", "from_clicks") if options[name]]
        if len(sources) != 1:
            raise CommandError(
                _(
                    "Name one source of triplets: --triplets CSV, --from-catalog, or --from-clicks. To go on with a "
                    "run, --resume FOLDER."
                ),
                returncode=2,
            )
        if options["monitor"] in ("recall_at_1", "mean_average_precision") and not options["retrieval"]:
            raise CommandError(
                _("%(figure)s can only be watched with a retrieval set: name one with --retrieval.")
                % {"figure": options["monitor"]}
            )
        if options["name"] and not options["no_store"]:
            from training.storing import free_name

            # Before hours of training, not after them.
            free_name(options["name"])

    def _new_folder(self, options: dict[str, Any]) -> Path:
        name = options["name"] or options["architecture"] or "mildnet"
        stem = f"{datetime.now():%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
        return default_weights_cache().parent / "runs" / stem

    def _distribution(self, options: dict[str, Any]) -> Distribution:
        import tensorflow as tf

        from training.distribution import choose_distribution

        try:
            distribution = choose_distribution(options["devices"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        if not tf.config.list_logical_devices("GPU"):
            # On a GPU some operations would be much slower, or have no such form at all.
            tf.config.experimental.enable_op_determinism()
        if distribution.replicas > 1:
            self._say(_("Training on %(count)d devices.") % {"count": distribution.replicas})
        return distribution

    def _data(self, options: dict[str, Any], bars: ProgressBars, resumed: Path | None) -> TrainingData:
        """Read and check everything, with all that is wrong in one report, before anything is computed.

        Args:
            resumed: the folder of the run that goes on. It goes on with the clicks that it began with.
        """
        from training.retrieval_set import RetrievalSet
        from training.training_data import join
        from training.triplet_sets import split, split_by_query

        retrieval = RetrievalSet.read(options["retrieval"], options["images"]) if options["retrieval"] else None
        if options["from_catalog"]:
            train = self._catalogue(options, bars)
        elif options["from_clicks"] and resumed is not None:
            train = self._read(resumed / CLICKS, self._photos_folder(options), bars)
        elif options["from_clicks"]:
            train = self.clicks = self._clicks(options, bars)
        else:
            train = self._read(options["triplets"], options["images"], bars)
        old = None
        if options["mix"]:
            old = self._read(options["mix"], options["mix_images"] or options["images"], bars)
        if options["validation"]:
            validation = self._read(options["validation"], options["images"], bars)
        else:
            parting = split_by_query if options["from_clicks"] else split
            parts = parting(train, VALIDATION_SHARE, options["seed"] or 0)
            self._say(str(parts))
            train, validation = parts.train, parts.validation
        bystanders = self._bystanders(options["bystanders"]) if options["bystanders"] else []
        return join(
            train, validation, old, retrieval, bystanders, lambda done, total: bars.photos(_("Reading"), done, total)
        )

    def _read(self, path: Path, images: Path | None, bars: ProgressBars) -> Triplets:
        from training.embedding_files import image_limits
        from training.triplet_checks import load_triplets

        what = _("Checking the photos of %(name)s") % {"name": path.name}
        triplets, report = load_triplets(
            path, images, lambda done, total: bars.photos(what, done, total), limits=image_limits()
        )
        bars.close()
        self._say(f"{path}: {report}")
        return triplets if report.sound.all() else triplets.select(report.sound)

    def _catalogue(self, options: dict[str, Any], bars: ProgressBars) -> Triplets:
        from training.catalogue_triplets import catalogue_triplets

        found = catalogue_triplets(self._photos_folder(options), seed=options["seed"] or 0, progress=bars.photos)
        bars.close()
        for name, reason in found.skipped[:10]:
            self.stderr.write(f"{name}: {reason}")
        self._say(
            _("%(triplets)d triplets of %(photos)d photos of %(products)d products.")
            % {"triplets": len(found.triplets), "photos": found.photos, "products": found.products}
        )
        return found.triplets

    def _clicks(self, options: dict[str, Any], bars: ProgressBars) -> Triplets:
        from training.shop_clicks import shop_click_triplets

        given = {name: options[name] for name in ("min_clicks", "min_share") if options[name] is not None}
        try:
            found = shop_click_triplets(self._photos_folder(options), **given, progress=bars.photos)
        except ValueError as error:
            raise CommandError(str(error)) from error
        bars.close()
        for name, reason in found.skipped[:10]:
            self.stderr.write(f"{name}: {reason}")
        self._say(
            _("%(triplets)d triplets of %(products)d products, from %(choices)d choices of shoppers.")
            % {"triplets": len(found.triplets), "products": found.products, "choices": found.choices}
        )
        return found.triplets

    def _photos_folder(self, options: dict[str, Any]) -> Path:
        return self._cache_folder(options) / "photos"

    def _bystanders(self, folder: Path) -> list[Path]:
        from shop_similarity.images import ImageError, open_image
        from training.embedding_files import image_limits

        if not folder.is_dir():
            raise CommandError(_("There is no folder %(folder)s of bystanders.") % {"folder": folder})
        limits = image_limits()
        paths, skipped = [], 0
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            try:
                open_image(path, limits, target_size=32)
                paths.append(path)
            except (ImageError, OSError):
                skipped += 1
        if not paths:
            raise CommandError(_("The folder %(folder)s holds no photo that can be used.") % {"folder": folder})
        self._say(
            _("%(count)d photos stand by; %(skipped)d files there are no usable photos.")
            % {"count": len(paths), "skipped": skipped}
        )
        return paths

    def _setup(
        self, options: dict[str, Any], record: Mapping[str, Any] | None, bars: ProgressBars
    ) -> tuple[Setup, Any]:
        """What the run is, and the weights it starts from (a version, a backbone's, or None for a resumed run)."""
        from training.training_run import START_WEIGHTS, Setup

        if record and (options["resume"] / START_WEIGHTS).exists():
            return Setup.from_dict(record["setup"]), None
        try:
            setup, weights = self._new_setup(options, bars)
        except ValueError as error:
            raise CommandError(str(error)) from error
        return (Setup.from_dict(record["setup"]) if record else setup), weights

    def _new_setup(self, options: dict[str, Any], bars: ProgressBars) -> tuple[Setup, Any]:
        from training.architectures import backbone_of, full_config
        from training.augmentation import Augmentation
        from training.backbones.weights import find_weights
        from training.precision import fast_policy
        from training.preprocessing import Preprocessing
        from training.recipe import RECIPES
        from training.training_data import SamplingOptions
        from training.training_run import Setup

        values = _key_values(options["config"], "--config")
        version = None
        if options["fine_tune"]:
            version = _version(options["fine_tune"])
            if options["architecture"] not in (None, version.architecture):
                raise ValueError(
                    f"{version.name} is a {version.architecture}: it can't be fine-tuned as {options['architecture']}."
                )
            architecture, config = version.architecture, {**version.config, **values}
            preprocessing = Preprocessing.from_dict(version.preprocessing)
            source = version.weights_source
        else:
            architecture = options["architecture"] or "mildnet"
            recipe = RECIPES.get(architecture)
            config = {**(recipe.config if recipe else {}), **values}
            full_config(architecture, config)
            weights = find_weights(
                backbone_of(architecture, config),
                options["weights_cache"] or default_weights_cache(),
                options["weights"],
                bars.bytes,
            )
            bars.close()
            self._say(_("Weights: %(source)s.") % {"source": weights.source})
            self._say(_("ImageNet's terms are for research and teaching: read docs/model.md before a shop uses it."))
            preprocessing = recipe.preprocessing if recipe else Preprocessing()
            preprocessing = replace(preprocessing, mean=weights.mean, std=weights.std)
            source = weights.source
        backbone = backbone_of(architecture, config)
        if options["train"] or options["frozen_through"] or "frozen_through" not in values:
            config = {**config, "frozen_through": _frozen_through(options, backbone)}
        if "guard" not in values:
            config = {**config, **_guard(architecture, config, backbone)}
        config = full_config(architecture, config)
        if config.embedding_dim != EMBEDDING_DIM and not options["no_store"]:
            raise ValueError(
                f"The shop stores embeddings of {EMBEDDING_DIM} numbers, this model gives {config.embedding_dim}. "
                f"Leave embedding_dim at {EMBEDDING_DIM}, or train with --no-store."
            )
        training = _training_options(options)
        cached = not options["no_cache"] and config.frozen_through is not None
        augment = options["augment"]
        if augment is None:
            augment = options["views"] != 0
        changes = _key_values(options["augmentation"], "--augmentation")
        views = (VIEWS if options["views"] is None else options["views"]) if augment and cached else 0
        sampling = SamplingOptions.from_dict(
            {
                key: value
                for key, value in {
                    "batch_size": options["batch_size"],
                    "per_instance": options["per_instance"],
                    "by_category": options["by_category"],
                    "negatives": options["negatives"],
                    "twins": options["twins"],
                    "mix_share": options["mix_share"],
                    "bystanders": options["bystanders_per_batch"],
                    "views": views,
                }.items()
                if value is not None
            }
        )
        linear = getattr(config, "is_linear", False)
        setup = Setup(
            architecture,
            config.to_dict(),
            preprocessing,
            source,
            training,
            sampling,
            Augmentation.from_dict(changes) if augment else None,
            fast_policy(backbone) if options["precision"] == "auto" else options["precision"],
            cached,
            options["calibrate"] and linear and architecture in RECIPES and version is None,
        )
        return setup, version if version is not None else weights

    def _run(
        self,
        folder: Path,
        setup: Setup,
        data: TrainingData,
        weights: Any,
        options: dict[str, Any],
        distribution: Distribution,
        record: Mapping[str, Any] | None,
        bars: ProgressBars,
    ) -> tuple[TrainingRun, TrainingResult]:
        from training.embedding_files import image_limits
        from training.training_run import RUN_FILE, TENSORBOARD, VALIDATION, TrainingRun, write_json
        from training.training_watcher import ProgressWatcher
        from training.triplets import write_triplets

        try:
            run = TrainingRun(
                folder,
                setup,
                data,
                self._cache_folder(options) / "features",
                distribution,
                bars.photos,
                image_limits(),
                self._announce,
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        run.sampler()
        if record is None and distribution.chief:
            folder.mkdir(parents=True, exist_ok=True)
            write_triplets(data.validation, folder / VALIDATION)
            if self.clicks is not None:
                write_triplets(self.clicks, folder / CLICKS)
            write_json(folder / RUN_FILE, self._record(setup, data, options))
            self.folder = folder
            self._say(_("Run: %(folder)s") % {"folder": folder})
        if weights is None:
            run.start_again()
        elif isinstance(weights, ModelVersion):
            run.start_from_version(weights, get_settings().weights_cache)
        else:
            run.start_from_backbone(weights)
        bars.close()
        log = folder / TENSORBOARD if distribution.chief else None
        with ProgressWatcher(self.stderr, self.quiet or not distribution.chief, log, setup.to_dict()) as watcher:
            result = run.fit(watcher, resume=record is not None)
        best = next(record for record in result.history if record["epoch"] == result.best_epoch)
        if result.stopped_early:
            self._say(_("Stopped early: no better epoch for %(count)d epochs.") % {"count": setup.training.patience})
        self._say(
            _("Best epoch: %(epoch)d of %(count)d, validation accuracy %(accuracy).4f.")
            % {"epoch": result.best_epoch, "count": len(result.history) - 1, "accuracy": best["val_accuracy"]}
        )
        if not result.best_epoch:
            self.stderr.write(
                _(
                    "No epoch was better than the start, so the start is what is kept. Try more data, a lower "
                    "--learning-rate or another --loss."
                )
            )
        return run, result

    def _announce(self, count: int, size: str, folder: Path) -> None:
        self._say(
            ngettext(
                "The features of %(count)d view of a photo will take %(size)s in %(folder)s.",
                "The features of %(count)d views of photos will take %(size)s in %(folder)s.",
                count,
            )
            % {"count": count, "size": size, "folder": folder}
        )

    def _record(self, setup: Setup, data: TrainingData, options: dict[str, Any]) -> dict[str, Any]:
        import keras
        import tensorflow as tf

        from training.triplet_checks import count_triplets

        sets = {"train": data.train, "validation": data.validation} | ({"old": data.old} if data.old else {})
        return {
            "architecture": setup.architecture,
            "started_from": options["fine_tune"] or setup.weights_source,
            "loss": setup.training.loss,
            "validation_root": str(data.validation.root.resolve()),
            "data": {name: count_triplets(triplets).to_dict() for name, triplets in sets.items()}
            | {"photos": len(data.paths), "sha256": data.sha256()},
            "setup": setup.to_dict(),
            "given": {
                name: _plain(options[name]) for name in sorted(options) if name not in _NOT_OURS and name != "resume"
            },
            "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "numpy": np.__version__},
        }

    def _evaluate(
        self, run: TrainingRun, data: TrainingData, result: TrainingResult, options: dict[str, Any], bars: ProgressBars
    ) -> Evaluation:
        """Measure start, trained model and baselines on the same photos, and keep what the report needs."""
        from training.comparison import Comparison
        from training.evaluation import Validation
        from training.evaluation_tables import tables
        from training.training_run import EMBEDDINGS, EVALUATION, write_json

        validation = Validation(data.retrieval, data.validation)
        number = {path: place for place, path in enumerate(data.paths)}
        places = np.array([number[path] for path in validation.paths])
        candidates = sorted({10, 50, 100, get_settings().candidates})
        comparison = Comparison(validation)
        vectors = {}
        for name, load in ((_("trained"), run.load_best), (_("start"), run.load_start)):
            load()
            began = time.monotonic()
            vectors[name] = run.embed(places, _("Measuring: %(name)s") % {"name": name})
            comparison.add_model(name, validation.evaluate(vectors[name], candidates), time.monotonic() - began)
        run.load_best()
        self._add_baselines(comparison, validation, options, bars)
        bars.close()
        trained = vectors[_("trained")]
        write_json(run.folder / EVALUATION, comparison.to_dict())
        part = run.folder / f".part-{EMBEDDINGS}"
        with part.open("wb") as file:
            np.savez(
                file, embeddings=trained.astype(np.float16), paths=np.array([str(path) for path in validation.paths])
            )
        part.replace(run.folder / EMBEDDINGS)
        self._say(tables(comparison))
        return comparison.models[_("trained")]

    def _add_baselines(self, comparison: Any, validation: Any, options: dict[str, Any], bars: ProgressBars) -> None:
        if options["baselines"] in (None, "none", ""):
            return
        from training.baselines import baselines
        from training.embedding_files import image_limits

        known = baselines(options["weights_cache"] or default_weights_cache(), image_limits(), bars.bytes)
        names = list(known) if options["baselines"] == "all" else options["baselines"].split(",")
        if unknown := [name for name in names if name not in known]:
            raise CommandError(
                _("There is no baseline %(unknown)s. There are: %(known)s.")
                % {"unknown": ", ".join(unknown), "known": ", ".join(known)}
            )
        for name in names:
            began = time.monotonic()
            baseline = known[name]
            tell = partial(_tell, bars, baseline.title, len(validation.paths))
            vectors = baseline.embed(validation.paths, tell)
            comparison.add_baseline(
                name, baseline.title, validation.evaluate(vectors, candidates=None), time.monotonic() - began
            )

    def _store(
        self, run: TrainingRun, data: TrainingData, result: TrainingResult, found: Evaluation, options: dict[str, Any]
    ) -> ModelVersion:
        from training.storing import free_name, store_version

        setup = run.setup
        best = next(record for record in result.history if record["epoch"] == result.best_epoch)
        source = setup.weights_source
        if options["fine_tune"]:
            source = _("%(name)s (%(source)s)") % {"name": options["fine_tune"], "source": source}
        metrics = {
            "training": {
                "epochs": len(result.history) - 1,
                "best_epoch": result.best_epoch,
                "stopped_early": result.stopped_early,
                "seconds": round(sum(record.get("seconds", 0) for record in result.history), 1),
                "best": {key: value for key, value in best.items() if key not in ("seconds", "images_per_second")},
                "triplets": len(data.train),
                "validation_triplets": len(data.validation),
                "photos": len(data.paths),
                "data_sha256": data.sha256(),
                "fine_tuned_from": options["fine_tune"],
                "recipe": {
                    "loss": setup.training.to_dict(),
                    "sampling": setup.sampling.to_dict(),
                    "augmentation": setup.to_dict()["augmentation"],
                    "precision": setup.precision,
                    "calibrated": setup.calibrated,
                },
            },
            "evaluation": found.to_dict(),
        }
        if run.calibration:
            metrics["calibration"] = run.calibration
        version = store_version(
            run.model,
            name=free_name(options["name"], prefix=setup.architecture),
            architecture=setup.architecture,
            config=setup.config,
            preprocessing=setup.preprocessing,
            weights_source=source,
            metrics=metrics,
        )
        self._say(_("Stored as model version %(name)s, a candidate.") % {"name": version.name})
        return version

    def _hand_over(self, version: ModelVersion, run: TrainingRun, data: TrainingData, options: dict[str, Any]) -> None:
        queued = sweep(
            files=False, versions=ModelVersion.objects.filter(pk=version.pk), priority=OutboxEntry.Priority.BACKFILL
        ).enqueued
        self._say(
            ngettext(
                "%(count)d photo waits to be embedded: a running worker takes it up, or run embed_products.",
                "%(count)d photos wait to be embedded: a running worker takes them up, or run embed_products.",
                queued,
            )
            % {"count": queued}
        )
        if not options["activate"]:
            return
        from shop_similarity.rollout import RolloutError, request_activation

        active = ModelVersion.objects.active()
        if active is not None and not options["force"]:
            self._measure_active(active, data)
        try:
            is_active = request_activation(version, force=options["force"])
        except RolloutError as error:
            raise CommandError(
                _("%(name)s is stored as a candidate, but not activated. %(reason)s")
                % {"name": version.name, "reason": error}
            ) from error
        self._say(
            _("It is the active version now.")
            if is_active
            else _("It becomes the active version as soon as its embeddings are complete.")
        )

    def _measure_active(self, active: ModelVersion, data: TrainingData) -> None:
        """The active version is measured on the same photos, or the two can't be compared."""
        from training.embedding_files import embed_with_version
        from training.evaluation import Validation
        from training.storing import store_evaluation

        validation = Validation(data.retrieval, data.validation)
        if active.metrics.get("evaluation", {}).get("set") == validation.sha256:
            return
        with ProgressBars(self.stderr, self.quiet) as bars:
            tell = partial(_tell, bars, _("Measuring the active version"), len(validation.paths))
            vectors = embed_with_version(active, validation.paths, tell)
        store_evaluation(active, validation.evaluate(vectors, sorted({10, 50, 100, get_settings().candidates})))

    def _report_only(self, folder: Path) -> None:
        from training.trainer import TrainingError

        try:
            self._report(folder)
        except (TrainingError, ValueError) as error:
            raise CommandError(str(error)) from error
        self._say(_("Report: %(path)s") % {"path": folder / "report.html"})

    def _report(self, folder: Path) -> None:
        from training.run_report import write_run_report

        write_run_report(folder)

    def _cache_folder(self, options: dict[str, Any]) -> Path:
        return options["cache"] or default_weights_cache().parent / "cache"

    def _say(self, text: str) -> None:
        if not self.quiet:
            self.stdout.write(text)


# Options of every Django command, and of how it is called.
_NOT_OURS = {
    "verbosity",
    "settings",
    "pythonpath",
    "traceback",
    "no_color",
    "force_color",
    "skip_checks",
    "report_only",
    "run",
}
_PATHS = {
    "triplets",
    "images",
    "validation",
    "retrieval",
    "mix",
    "mix_images",
    "bystanders",
    "weights",
    "weights_cache",
    "cache",
}


def _tell(bars: ProgressBars, what: str, total: int, done: int) -> None:
    bars.photos(what, done, total)


def _key_values(pairs: Sequence[str], option: str) -> dict[str, Any]:
    values = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"{option} takes KEY=VALUE, not {pair!r}.")
        try:
            values[key.strip()] = json.loads(text)
        except ValueError:
            values[key.strip()] = text
    return values


def _version(name: str) -> ModelVersion:
    version = ModelVersion.objects.filter(name=name).first()
    if version is None:
        known = ", ".join(ModelVersion.objects.order_by("name").values_list("name", flat=True)) or _("none")
        raise CommandError(
            _("There is no model version %(name)s to fine-tune. There are: %(known)s.") % {"name": name, "known": known}
        )
    return version


def _frozen_through(options: Mapping[str, Any], backbone: str) -> str | None:
    """The last layer or tap that is not trained."""
    from training.backbones import get_backbone

    if options["frozen_through"]:
        return options["frozen_through"]
    part = options["train"] or "head"
    spec = get_backbone(backbone)
    if part == "all":
        return None
    if part == "head":
        return spec.taps[-1]
    names = [tap.removesuffix("_pool") for tap in spec.taps]
    if part not in names:
        raise ValueError(f"--train must be head, all or one of {', '.join(names)}, not {part!r}.")
    place = names.index(part)
    return spec.taps[place - 1] if place else None


def _guard(architecture: str, config: Mapping[str, Any], backbone: str) -> dict[str, int]:
    """A guard against forgetting wherever there can be one: for a linear head on a backbone that stays as it is."""
    from training.architectures import full_config
    from training.backbones import get_backbone
    from training.recipe import GUARD

    # A version that has one is fine-tuned with it, whatever is trained.
    if config.get("guard") or not getattr(full_config(architecture, config), "is_linear", False):
        return {}
    return {"guard": GUARD} if get_backbone(backbone).taps[-1] == config.get("frozen_through") else {}


def _training_options(options: Mapping[str, Any]) -> TrainingOptions:
    names = (
        "loss",
        "miner",
        "epochs",
        "patience",
        "monitor",
        "optimizer",
        "learning_rate",
        "schedule",
        "warmup",
        "momentum",
        "weight_decay",
        "clip",
        "accumulate",
        "backbone_rate",
        "anchor",
        "l2_start",
        "average",
        "blend",
        "seed",
        "checkpoint_seconds",
        "keep_checkpoints",
    )
    given = {name: options[name] for name in names if options[name] is not None}
    loss = given.get("loss", _DEFAULTS.loss)
    chosen = TrainingOptions(
        **given,
        loss_options=_loss_options(loss, options["margin"], options["temperature"]),
        nonzero=options["nonzero"],
        twins=options["twins"],
    )
    from training.training_step import chosen_loss

    # What is wrong is told before anything is computed.
    chosen_loss(chosen)
    return chosen


def _loss_options(loss: str, margins: Sequence[float] | None, temperature: float | None) -> dict[str, float]:
    values: dict[str, float] = {}
    if margins:
        names = {"contrastive-margins": ("positive_margin", "negative_margin"), "angular": ("angle",)}
        wanted = names.get(loss, ("margin",))
        if len(margins) != len(wanted):
            raise ValueError(f"The loss {loss} takes {len(wanted)} numbers as --margin, not {len(margins)}.")
        values |= dict(zip(wanted, margins, strict=True))
    if temperature is not None:
        values["temperature"] = temperature
    return values


def _plain(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value
