"""Where the tables of a shop with two databases are."""

from __future__ import annotations

from typing import Any

APPS = {"catalog", "shop_similarity"}


class ByApp:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "shop" if model._meta.app_label in APPS else "default"

    db_for_write = db_for_read

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return self.db_for_read(one) == self.db_for_read(other)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return (db == "shop") == (app_label in APPS)
