"""Where the tables of a shop with two databases are."""

from __future__ import annotations

from typing import Any

APPS = {"catalog", "relation_shops", "shop_similarity"}
# Tables of the shop that hang on rows of other models refer to these.
IN_BOTH = {"contenttypes"}


class ByApp:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "shop" if model._meta.app_label in APPS else "default"

    db_for_write = db_for_read

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        same = self.db_for_read(one) == self.db_for_read(other)
        return same or bool(IN_BOTH & {one._meta.app_label, other._meta.app_label})

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return app_label in IN_BOTH or (db == "shop") == (app_label in APPS)
