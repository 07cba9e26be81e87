"""The queryset of the plugin's tables: read as the shop's router says, or from the primary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from django.db import models

_Row = TypeVar("_Row", bound=models.Model, covariant=True)
_on_primary: ContextVar[bool] = ContextVar("shop_similarity_on_primary", default=False)


@contextmanager
def on_primary() -> Iterator[None]:
    """Read where it is written to, in this thread, until the block ends; also a decorator.

    For all that decides by what it reads what to write: a replica may not have heard yet of what was saved a moment
    ago, and would say that it is gone.
    """
    before = _on_primary.set(True)
    try:
        yield
    finally:
        _on_primary.reset(before)


def reads_primary() -> bool:
    return _on_primary.get()


class Rows(models.QuerySet[_Row]):
    """Rows of the plugin; within :func:`on_primary` they come from where they are written."""

    @property
    def db(self) -> str:
        if reads_primary():
            self._for_write = True
        return super().db
