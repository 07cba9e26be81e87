"""What Postgres plans by: counted anew where a version has many times what Postgres thinks.

Autovacuum counts a table when a tenth of it has changed. Until then a candidate in a shop of a million photos has next
to nothing, as far as Postgres knows, or half a percent of a table that was never counted, and each look at a few of its
photos goes through all of them by whatever index begins with the version.
"""

from __future__ import annotations

from .. import database
from ..models import Embedding, OutboxEntry
from .magnitudes import estimate

# Reading so many is quickly done.
_MANY = 1_000
# A version that has so many times what Postgres thinks makes it plan wrongly.
_TIMES = 10
# Autovacuum looks after what is as large as this.
_LARGE = 10_000


def bring_up_to_date(version_id: int) -> None:
    """Have tables counted in which a version has ten times what Postgres thinks; four short statements where none is.

    The role needs to own the tables, as who migrates them does; otherwise Postgres leaves it at a warning.
    """
    for model in (OutboxEntry, Embedding):
        rows = model.objects.using(database.write_alias()).filter(version=version_id).order_by().values("pk")
        known = estimate(rows)
        if known < _LARGE and rows[_MANY + _TIMES * known :][:1].exists():
            # The role's limits are made for pages: what they cancel here would be begun anew after each batch.
            with database.long_atomic(), database.cursor() as cursor:
                # Who builds an index or vacuums is not waited for.
                cursor.execute(f"ANALYZE (SKIP_LOCKED) {model._meta.db_table}")
