"""``manage.py embed_products``: embed everything that is not embedded yet, here or by the workers."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from shop_similarity import database, rollout
from shop_similarity.embedding import bell, outbox
from shop_similarity.embedding.engines import is_beside
from shop_similarity.embedding.index import build_index, build_plan, index_state
from shop_similarity.embedding.sweep import sweep
from shop_similarity.models import ModelVersion, OutboxEntry
from shop_similarity.workers.identity import free_claims_of_the_dead


class Command(BaseCommand):
    help = (
        "Compares the catalogue with the embeddings, embeds what is missing or has changed, and builds the index. "
        "Workers may run at the same time and share the work."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", metavar="VERSION", help="Name of one model version; all live ones by default.")
        parser.add_argument("--retry-failed", action="store_true", help="Try photos that failed once more.")
        parser.add_argument(
            "--no-files", action="store_true", help="Do not ask the storage whether files were replaced."
        )
        parser.add_argument(
            "--queue-only", action="store_true", help="Only queue the photos and ring the workers; do not embed here."
        )

    @database.on_primary()
    def handle(self, *args: Any, **options: Any) -> None:
        self.verbosity = options["verbosity"]
        self.is_first = False
        versions = self._versions(options["model"])
        free_claims_of_the_dead()
        retried = 0
        if options["retry_failed"]:
            retried = outbox.retry_failed(OutboxEntry.objects.filter(version__in=versions))
        report = sweep(
            files=not options["no_files"],
            versions=ModelVersion.objects.filter(pk=versions[0].pk) if options["model"] else None,
            priority=OutboxEntry.Priority.BACKFILL,
        )
        if report.skipped:
            self._say("Somebody else is sweeping the catalogue right now; going on with what is queued.")
        self._say(f"Photos queued: {report.enqueued + retried}. Embeddings without a photo removed: {report.removed}.")
        if options["queue_only"]:
            try:
                bell.send()
            except Exception as error:
                raise CommandError(
                    f"The photos are queued, but the broker can't be reached ({error}). A running worker finds them "
                    "by itself; start one with `celery -A shop_similarity.workers worker`."
                ) from error
        else:
            self._embed(versions)
        if self.is_first:
            # Photos came first, for shoppers see those.
            call_command(
                "fit_aspects", versions[0].name, verbosity=self.verbosity, stdout=self.stdout, stderr=self.stderr
            )

    def _versions(self, name: str | None) -> list[ModelVersion]:
        if name:
            version = ModelVersion.objects.filter(name=name).first()
            if version is None:
                known = ", ".join(ModelVersion.objects.values_list("name", flat=True)) or "none"
                raise CommandError(f"There is no model version {name!r}. Known: {known}.")
            if version.state == ModelVersion.State.RETIRED:
                raise CommandError(f"Model version {name!r} is retired and gets no embeddings.")
            return [version]
        versions = list(ModelVersion.objects.live())
        if versions:
            return versions
        self.stdout.write("There is no model version yet: making the first one from this catalogue's photos.")
        call_command("calibrate_mildnet", activate=True, aspects=False, stdout=self.stdout, stderr=self.stderr)
        self.is_first = True
        return list(ModelVersion.objects.live())

    def _say(self, text: str) -> None:
        if self.verbosity > 0:
            self.stdout.write(text)

    def _embed(self, versions: list[ModelVersion]) -> None:
        from shop_similarity.workers.drain import drain
        from shop_similarity.workers.line import DrainReport
        from shop_similarity.workers.rollout import advance_rollout

        keys = [version.pk for version in versions]
        stop = threading.Event()
        before = _handle_interrupts(stop)
        total = DrainReport()
        try:
            with tqdm(
                total=_pending(keys),
                unit="photo",
                disable=self.verbosity == 0,
                # A log file wants a line now and then, not a bar that moves.
                mininterval=0.2 if sys.stderr.isatty() else 10,
            ) as bar:
                while not stop.is_set():
                    settled = bar.n

                    def show(now: DrainReport, before: float = settled) -> None:
                        bar.update(before + now.settled - bar.n)

                    report = drain(
                        keys,
                        progress=show,
                        stop=stop,
                        look_after=advance_rollout,
                    )
                    if report.unusable:
                        raise CommandError("; ".join(report.unusable.values()))
                    total.embedded += report.embedded
                    total.copied += report.copied
                    total.failed += report.failed
                    total.seconds += report.seconds
                    left = _pending(keys)
                    if not left:
                        break
                    if not outbox.claimed_elsewhere(keys) and not any(map(outbox.has_due, keys)):
                        # Their next try may be minutes away.
                        self._say(
                            f"Photos that wait for another try: {left}. A worker takes them up, or run this again."
                        )
                        break
                    time.sleep(0.5)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        self._say(
            f"Photos embedded: {total.embedded}, in {total.seconds:.1f} s. Copied from a photo with the same bytes: "
            f"{total.copied}. Failed: {total.failed}."
        )
        if stop.is_set():
            raise CommandError("Interrupted. Nothing is lost: run the command again, or start a worker, to go on.")
        if is_beside():
            call_command("sync_engine", verbosity=self.verbosity, stdout=self.stdout, stderr=self.stderr)
        for version in () if is_beside() else versions:
            if index_state(version.pk).state != "ready":
                self._say(f"Building the index of {version.name}: {build_plan(version.pk)}.")
            started = time.monotonic()
            if build_index(version.pk):
                self._say(f"Built the index of {version.name} in {time.monotonic() - started:.1f} s.")
        switched = rollout.advance()
        if switched is not None:
            self._say(f"{switched.name} is the active version now, as it was wished.")
        if total.failed:
            self._say("`manage.py similarity_status` tells which photos failed and why.")


def _pending(versions: list[int]) -> int:
    return sum(counts["pending"] for counts in outbox.counts(versions).values())


def _handle_interrupts(stop: threading.Event) -> dict[int, Any]:
    """Let Ctrl-C end the drain after its batch; returns the handlers to put back."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, lambda *_args: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
