"""How many rows there are, for people: exactly where they are few, else about so many, at a cost that does not grow."""

from __future__ import annotations

import json

from django.db.models import QuerySet

# So many rows are counted.
COUNTED = 50_000


class Number(int):
    """A number of rows; ``is_about`` says that it is the planner's estimate."""

    is_about: bool

    @property
    def rounded(self) -> int:
        """An estimate as it is told: to two digits and no finer than it is."""
        return round(self, 2 - len(str(int(self)))) if self.is_about else int(self)

    def __new__(cls, value: int, *, is_about: bool = False) -> Number:
        number = super().__new__(cls, value)
        number.is_about = is_about
        return number

    @property
    def told(self) -> str:
        """As commands write it."""
        return f"about {self.rounded}" if self.is_about else str(int(self))


def count(rows: QuerySet) -> Number:
    """How many rows there are, exactly up to :data:`COUNTED`. One statement, two beyond that."""
    keys = rows.order_by().values("pk")
    exactly = keys[: COUNTED + 1].count()
    return Number(exactly) if exactly <= COUNTED else Number(max(estimate(keys), exactly), is_about=True)


def estimate(rows: QuerySet) -> int:
    """What Postgres expects, by the size of its tables now and their statistics; it runs nothing."""
    return int(json.loads(rows.explain(format="json"))[0]["Plan"]["Plan Rows"])
