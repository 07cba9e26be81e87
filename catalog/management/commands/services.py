"""manage.py services start|stop|status|delete"""

from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _

from catalog.services import shop
from catalog.services.errors import ServiceError


class Command(BaseCommand):
    help = (
        "Start, stop or show the shop's own Postgres and Valkey, to run other commands without the demo. "
        "They go on running until `services stop`; `services delete` throws away their data."
    )
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument("action", choices=["start", "stop", "status", "delete"])

    def handle(self, *args, action: str, **options):
        servers = []
        for server, own in ((shop.postgres, shop.own_database_url()), (shop.valkey, shop.own_broker_url())):
            if own is None:
                servers.append(server(report=self.stdout.write))
            else:
                name = "DATABASE_URL" if server is shop.postgres else "CELERY_BROKER_URL / REDIS_URL"
                self.stdout.write(_("%(name)s names a server of your own: left alone.") % {"name": name})
        try:
            for server in servers:
                getattr(self, f"_{action}")(server)
        except ServiceError as error:
            raise CommandError(str(error)) from error

    def _start(self, server):
        if server.start():
            self.stdout.write(_("%(title)s was started on port %(port)d.") % self._named(server))
        else:
            self.stdout.write(_("%(title)s runs already on port %(port)d.") % self._named(server))

    def _stop(self, server):
        if server.stop():
            self.stdout.write(_("%(title)s was stopped.") % {"title": server.title})
        else:
            self.stdout.write(_("%(title)s was not running.") % {"title": server.title})

    def _delete(self, server):
        server.delete()
        self.stdout.write(_("%(title)s was stopped and its data deleted.") % {"title": server.title})

    def _status(self, server):
        if server.is_running():
            self.stdout.write(_("%(title)s runs on port %(port)d; its data lies in %(data)s.") % self._named(server))
        else:
            self.stdout.write(_("%(title)s does not run.") % {"title": server.title})

    def _named(self, server) -> dict:
        return {"title": server.title, "port": server.port, "data": server.data}
