"""What stops training, evaluation or a command, in words for whoever runs it."""

from __future__ import annotations


class TrainingError(Exception):
    """It can't go on; ``str()`` is a sentence, or a report of several lines, that says why and what to do.

    Base of all errors of this kind, so that a command catches one and prints it.
    """
