"""What goes wrong with an embedded server."""


class ServiceError(Exception):
    """An embedded server cannot be started or stopped; the message says why and what to do."""


class PortTakenError(ServiceError):
    """Another process took the port between looking for a free one and listening on it."""
