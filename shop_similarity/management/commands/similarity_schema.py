"""``manage.py similarity_schema``: the OpenAPI schema of the REST API, for whoever generates a client of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import NoReverseMatch, reverse
from django.utils import translation
from django.utils.module_loading import import_string


class Command(BaseCommand):
    help = "Writes the OpenAPI schema of the plugin's API as JSON. Needs no database."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", type=Path, metavar="FILE", help="Write here.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            reverse("shop_similarity_api:schema")
        except (NoReverseMatch, ImproperlyConfigured) as error:
            raise CommandError(
                f"The shop has no API: include shop_similarity.api.urls in its addresses. {error}"
            ) from error
        # The API is an optional part, which commands do not know of.
        own_schema = import_string("shop_similarity.api.schema.own_schema")
        with translation.override("en"):
            text = json.dumps(own_schema(), ensure_ascii=False, indent=2) + "\n"
        if options["output"]:
            options["output"].write_text(text, encoding="utf-8")
        else:
            self.stdout.write(text, ending="")
