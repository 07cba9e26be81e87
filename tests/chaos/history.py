"""One history: its actions and faults, the calm after them, and the verdict."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.chaos.faults import Faults
from tests.chaos.plan import Step, draw
from tests.chaos.world import Editor, World, until

# The outbox has to be empty so long after the last fault.
CALM_SECONDS = 150
# A line so often.
_REPORT_EVERY = 20


@dataclass
class Verdict:
    """What became of a history.

    Attributes:
        violations: sentences.
        faults: errors that no fault explains, a sentence each.
    """

    seed: int
    actions: int
    kills: int = 0
    photos: int = 0
    lost: int = 0
    duplicate: int = 0
    stale: int = 0
    outbox: int = 0
    errors: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicate or self.stale or self.outbox or self.errors)

    def line(self) -> dict[str, Any]:
        """What the last line says."""
        names = ("actions", "kills", "photos", "lost", "duplicate", "stale", "outbox", "errors", "seed", "seconds")
        return {name: getattr(self, name) for name in names}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class History:
    """Runs one history in a world whose servers run."""

    def __init__(self, world: World, editor: Editor, seed: int, actions: int, weights: dict[str, bytes]) -> None:
        self.world = world
        self.editor = editor
        self.steps = draw(seed, actions)
        self.weights = weights
        self.verdict = Verdict(seed, actions)
        self.faults = Faults(world, seed)
        self.clicks: set[tuple[UUID, str]] = set()
        self.unseen: set[int] = set()
        self.activated: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0

    def run(self) -> Verdict:
        started = time.monotonic()
        self._begin()
        for number, step in enumerate(self.steps, 1):
            self.faults.begin(step)
            self._do(step, number)
            time.sleep(step.pause)
            if number % _REPORT_EVERY == 0 or number == len(self.steps):
                say(
                    f"seed {self.verdict.seed}: {number} of {len(self.steps)} actions, {self.faults.kills} kills, "
                    f"{time.monotonic() - started:.0f} s"
                )
        self._judge()
        self.verdict.kills = self.faults.kills
        self.verdict.faults += self.faults.errors
        self.verdict.errors = len(self.verdict.faults)
        self.verdict.seconds = round(time.monotonic() - started, 1)
        return self.verdict

    def _begin(self) -> None:
        from django.core.management import call_command
        from django.db import connections

        from shop_similarity.models import ModelVersion
        from tests.chaos.world import make_versions

        call_command("flush", verbosity=0, interactive=False)
        self.world.valkey.client().flushall()
        make_versions(self.weights)
        self.activated = {ModelVersion.objects.active().name}
        connections.close_all()

    def _do(self, step: Step, number: int) -> None:
        from tests.chaos.actions import Outcome, attempt

        # Every third is done by the other process.
        outcome = (
            Outcome(**self.editor.do(step.action, step.seed)) if number % 3 == 0 else attempt(step.action, step.seed)
        )
        self.clicks |= {(UUID(query), product) for query, product in outcome.clicks}
        self.unseen |= set(outcome.unseen)
        self.activated |= set(outcome.activated)
        self.statuses.update(outcome.statuses)
        in_trouble = self.faults.database_was_in_trouble(outcome.seconds + 1)
        if outcome.fault:
            self.verdict.faults.append(outcome.fault)
        elif outcome.error and not in_trouble and "IntegrityError" not in outcome.error:
            self.verdict.faults.append(f"{step.action}, though Postgres was there: {outcome.error}")
        if any(status >= 500 and status != 503 for status in outcome.statuses) and not in_trouble:
            self.verdict.faults.append(f"{step.action} was answered with {outcome.statuses}.")
        if not in_trouble and step.action in ("create", "replace", "delete_photo", "move"):
            self.slowest = max(self.slowest, outcome.seconds)

    def _judge(self) -> None:
        from django.db import connections

        from shop_similarity.embedding.sweep import sweep
        from shop_similarity.models import OutboxEntry
        from tests.chaos import invariant

        self.faults.calm()
        connections.close_all()
        # Their next try may be minutes away.
        OutboxEntry.objects.filter(failed_at__isnull=True).update(due_at=None)
        self._until_calm(lambda: not self._differs())
        # What signals and sweeps of rows see must be right without a look at the files.
        before = invariant.look(clicks=self.clicks, activated=self.activated, unseen=self.unseen)
        # What only a sweep of files sees, must be right after it.
        sweep(files=True)
        self._until_calm(lambda: not invariant.waiting().exists())
        embed = _Network()
        after = invariant.look(embed=embed, clicks=self.clicks, activated=self.activated)
        verdict = self.verdict
        verdict.photos = after.photos
        for kind in ("lost", "duplicate", "stale", "outbox"):
            found = dict.fromkeys([*getattr(before, kind), *getattr(after, kind)])
            setattr(verdict, kind, len(found))
            verdict.violations += [f"{kind}: {text}" for text in found]
        say(
            f"seed {verdict.seed}: {after.photos} photos, {len(self.clicks)} clicks, answers {dict(self.statuses)}, "
            f"slowest save without trouble of Postgres {self.slowest:.2f} s"
        )
        connections.close_all()

    def _differs(self) -> bool:
        """Whether an entry waits, or a photo that a sweep of the rows has still to find."""
        from django.db.models import Exists, OuterRef

        from shop_similarity.catalogue import FILE, PRODUCT, get_catalogue
        from shop_similarity.models import Embedding, ModelVersion, OutboxEntry
        from tests.chaos import invariant

        def differing(version: int) -> bool:
            known = {"version": version, "image_id": OuterRef("pk"), "product_id": OuterRef(PRODUCT)}
            embedded = Embedding.objects.filter(**known, file_name=OuterRef(FILE))
            # A photo that failed under this name is looked at again only when its file has changed.
            failed = OutboxEntry.objects.filter(**known, failed_at__isnull=False, file_name__in=["", OuterRef(FILE)])
            return get_catalogue().images().filter(~Exists(embedded), ~Exists(failed)).exists()

        live = ModelVersion.objects.live().values_list("pk", flat=True)
        return invariant.waiting().exists() or any(map(differing, live))

    def _until_calm(self, is_calm: Callable[[], bool]) -> None:
        started = time.monotonic()
        if not until(is_calm, CALM_SECONDS, 0.1):
            self.verdict.faults.append(f"After {time.monotonic() - started:.0f} s of calm photos still wait.")


class _Network:
    """What the versions' networks make of bytes, in this process."""

    def __call__(self, version: Any, content: bytes) -> Any:
        from shop_similarity.photos.decoding import open_image
        from shop_similarity.photos.limits import catalogue_limits
        from shop_similarity.workers.embedder import get_embedder

        embedder = get_embedder(version)
        image = open_image(content, catalogue_limits(), target_size=embedder.preprocessing.size)
        return embedder.embed([embedder.preprocessing.prepare(image)])[0]
