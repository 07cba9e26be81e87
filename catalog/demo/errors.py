"""Why the demo cannot go on."""


class DemoError(Exception):
    """A sentence that says what went wrong and what to do."""
