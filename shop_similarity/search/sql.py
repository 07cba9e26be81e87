"""SQL in pieces that bring their parameters along, so that no list of them has to follow the order of a statement."""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Iterable
from dataclasses import dataclass
from string import Formatter
from typing import Any

from django.db.models import QuerySet

from .. import database


@dataclass(frozen=True)
class Sql:
    """A piece of SQL.

    Attributes:
        text: with a ``%s`` for each parameter.
        parameters: in the order of their placeholders.
    """

    text: str
    parameters: tuple = ()

    @classmethod
    def of(cls, template: str, **values: Any) -> Sql:
        """The template with a value for each ``{name}``: a piece of SQL as it is, anything else as a parameter."""
        text = ""
        parameters: list[Any] = []
        for literal, name, _spec, _conversion in Formatter().parse(template):
            text += literal
            if name is not None:
                piece = values[name] if isinstance(values[name], Sql) else cls("%s", (values[name],))
                text += piece.text
                parameters += piece.parameters
        return cls(text, tuple(parameters))

    @classmethod
    def join(cls, separator: str, pieces: Iterable[Sql]) -> Sql:
        pieces = list(pieces)
        parameters = tuple(parameter for piece in pieces for parameter in piece.parameters)
        return cls(separator.join(piece.text for piece in pieces), parameters)

    @classmethod
    def number(cls, number: int) -> Sql:
        """A whole number written out, where the planner has to see it."""
        return cls(str(int(number)))

    @classmethod
    def of_queryset(cls, queryset: QuerySet) -> Sql:
        """What a queryset would run.

        Raises:
            EmptyResultSet: it can hold no row.
        """
        text, parameters = queryset.query.get_compiler(database.read_alias()).as_sql()
        return cls(text, tuple(parameters))

    def rows(self) -> list[Any]:
        """The rows of the statement, their values by the names of the columns."""
        with database.cursor(database.read_alias()) as cursor:
            cursor.execute(self.text, self.parameters)
            row = _row_type(tuple(column[0] for column in cursor.description))
            return [row._make(values) for values in cursor.fetchall()]


@functools.lru_cache(maxsize=32)
def _row_type(names: tuple[str, ...]) -> Any:
    # The column of a plan is called "QUERY PLAN", which is no name in Python.
    return namedtuple("Row", names, rename=True)
