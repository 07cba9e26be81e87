"""What goes wrong with an engine that names candidates; told apart here, for pages of every kind answer to it."""

from __future__ import annotations


class EngineDown(Exception):
    """The engine does not answer, or has no copy to answer from; the sentence says what to do."""


class EngineError(EngineDown):
    """The engine can't be used as it is configured; the sentence says what to do."""
