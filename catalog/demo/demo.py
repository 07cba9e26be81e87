"""The demo from the first step to the last: start everything, show the shop, stop everything."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.utils.translation import gettext as _

from catalog.demo import only_one
from catalog.demo.administrator import administrator
from catalog.demo.catalogue import fill_shop
from catalog.demo.children import Child, end_marked, mark_children
from catalog.demo.embedding import embed_all
from catalog.demo.errors import DemoError
from catalog.demo.interruption import Interrupted, Interruption
from catalog.demo.model import active_version, ensure_model, lacks_explanation
from catalog.demo.page_check import LookAlikes, check_page
from catalog.demo.servers import Servers
from catalog.demo.static_files import collect
from catalog.demo.steps import Steps
from catalog.demo.web import WebServer
from catalog.services import home

WORKER = ("-m", "celery", "-A", "shop_similarity.workers", "worker", "--loglevel=INFO")
# What other users of the machine have no business with: photos of products to come are among it.
OWN_FOLDERS = ("log", "media", "weights")
# A worker that is asked to end finishes the batch it computes: on a slow machine that takes a while.
WORKER_PATIENCE = 20.0


@dataclass(frozen=True)
class Options:
    """What the user asked for; `folder` is a catalogue to load, port 0 any free one.

    The administrator's password is printed if `show_password`, else into a terminal alone: logs are read by others.
    """

    port: int = 8000
    folder: Path | None = None
    clear: bool = False
    check: bool = False
    show_password: bool = False


class Demo:
    """One run of the demo. `run` returns its exit status."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.data = Path(settings.DATA_DIR)
        self.project = Path(settings.BASE_DIR)
        self.steps = Steps()
        self.interruption = Interruption()
        self.servers = Servers(note=lambda text: self.steps.say(f"  {text}"))
        self.children: list[Child] = []
        self.web: WebServer | None = None
        self.state: dict = {}
        self.version = None
        self.look_alikes: LookAlikes | None = None

    def run(self) -> int:
        """Run until the check is done or the user ends it; afterwards none of the demo's processes is left."""
        error: str | None = None
        status = 0
        with self.interruption:
            try:
                self.data.mkdir(parents=True, exist_ok=True)
                self.data.chmod(home.SEARCHABLE)
                for name in OWN_FOLDERS:
                    (self.data / name).mkdir(exist_ok=True)
                    (self.data / name).chmod(0o700)
                with only_one.only_one(self.data):
                    mark_children(self.data)
                    try:
                        self._start()
                        if self.options.check:
                            self._check()
                        else:
                            self._serve()
                    finally:
                        self._stop()
            except DemoError as problem:
                error, status = str(problem), 1
            except Interrupted as signal:
                serving = self.web is not None and not self.options.check and self.state
                # Ending a shop that is being served is what Ctrl-C is for.
                error, status = _("Interrupted."), 0 if serving else 128 + signal.number
                if serving:
                    error = None
        if error:
            with suppress(OSError):
                print(error, file=sys.stderr, flush=True)  # noqa: T201
        if self.options.check:
            self.steps.say(json.dumps(self._report(error), ensure_ascii=False))
        return status

    @contextmanager
    def _step(self, name: str, title: str) -> Iterator[Callable[[str], None]]:
        self.interruption.check()
        with self.steps.step(name, title) as note:
            yield note

    def _start(self) -> None:
        step = self._step
        if left := end_marked(self.data, WORKER_PATIENCE):
            self.steps.say(_("Ended %(count)d processes of a demo that was killed.") % {"count": left})
        with step("servers", _("Postgres and Valkey")), self.interruption.shielded():
            self.servers.start()
        with step("migrate", _("Tables")):
            call_command("migrate", interactive=False, verbosity=0)
        with step("catalogue", _("Catalogue")) as note:
            fill_shop(self.options.folder, clear=self.options.clear, note=note)
        with step("web", _("Web server")) as note:
            shown = self.options.show_password or (sys.stdout.isatty() and not self.options.check)
            login = administrator(self.data, show_password=shown)
            collect()
            self.web = WebServer(0 if self.options.check else self.options.port, self.data / "log" / "web.log")
            only_one.announce(self.data, self.web.url)
            if self.web.port != self.options.port and not self.options.check:
                note(_("Port %(port)d is taken.") % {"port": self.options.port})
            note(_("The shop: %(url)s") % {"url": self.web.url})
            note(_("Its admin: %(url)sadmin/ (%(login)s)") % {"url": self.web.url, "login": login})
        with step("model", _("Model")) as note:
            if active_version() is None:
                note(_("The shop has none yet. The first one needs no training, only calibration."))
            self.version = ensure_model(self.project, start=self._start_child)
            note(
                _("%(name)s, weights: %(source)s")
                % {"name": self.version.name, "source": self.version.weights_source or _("unknown")}
            )
        with step("worker", _("Celery worker")) as note:
            log = self.data / "log" / "worker.log"
            worker = self._start_child(lambda: Child(WORKER, folder=self.project, log=log))
            note(_("process %(pid)d, log: %(log)s") % {"pid": worker.process.pid, "log": log})
        with step("embed", _("Embedding")) as note:
            self.state = embed_all(worker, note)
            note(
                _("%(embedded)d of %(images)d photos embedded, %(failed)d failed")
                % {key: self.state[key] for key in ("embedded", "images", "failed")}
            )

    def _check(self) -> None:
        with self.steps.step("page", _("Product page")) as note:
            self.look_alikes = check_page(self.web.url)
            note(
                _("%(product)s looks like %(others)s")
                % {
                    "product": self.look_alikes.product,
                    "others": ", ".join(name for name, _similarity in self.look_alikes.look_alikes),
                }
            )
        if not self.state["embedded"]:
            raise DemoError(_("No photo could be embedded."))

    def _serve(self) -> None:
        self.steps.say("")
        self.steps.say(
            _("The shop is ready after %(seconds).1f s: %(url)s   (Ctrl-C ends it)")
            % {"seconds": self.steps.total, "url": self.web.url}
        )
        worker = self.children[-1]
        self._explain()
        told = False
        while True:
            time.sleep(0.5)
            self.interruption.check()
            if worker.ended() is not None and not told:
                told = True
                self.steps.say(
                    _("The worker ended with %(status)s; new photos wait until the next start. Its log: %(log)s")
                    % {"status": worker.ended(), "log": worker.log}
                )

    def _explain(self) -> None:
        """Let versions that lack it learn what explains their similarities, while the shop is already open."""
        if not lacks_explanation():
            return
        log = self.data / "log" / "aspects.log"
        self._start_child(lambda: Child(("manage.py", "fit_aspects"), folder=self.project, log=log))
        self.steps.say(_("In a minute or two the pages also say why products are similar. Log: %(log)s") % {"log": log})

    def _start_child(self, start) -> Child:
        with self.interruption.shielded():
            child = start()
            self.children.append(child)
        return child

    def _stop(self) -> None:
        self.interruption.close()
        self.steps.say(_("Stopping ..."))
        if self.web is not None:
            self.web.stop()
        for child in reversed(self.children):
            child.stop(WORKER_PATIENCE)
        end_marked(self.data, WORKER_PATIENCE)
        connections.close_all()
        problems = self.servers.stop()
        for problem in problems:
            self.steps.say(problem)
        if not problems:
            self.steps.say(_("All stopped."))

    def _report(self, error: str | None) -> dict:
        version = self.version
        report = {
            "products": self.state.get("products"),
            "images": self.state.get("images"),
            "embedded": self.state.get("embedded"),
            "failed": self.state.get("failed"),
            "seconds": self.steps.seconds | {"total": self.steps.total},
            "weights": version
            and {"version": version.name, "source": version.weights_source, "sha256": version.weights_sha256},
            "similar": self.look_alikes and self.look_alikes.as_json(),
        }
        return report | ({"error": error} if error else {})
