"""Why a catalogue cannot be had."""


class SourceError(Exception):
    """A sentence that says what is missing."""
