"""What a pool of decoders and its children say to each other: JSON behind its length, and pixels in bands of rows."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

BEGUN = b"+"
"""A child's first word on a photo, once it has all of its bytes."""

_BAND_BYTES = 4 * 2**20
# Longer than anything that either side says.
_MOST_JSON_BYTES = 65_536


def send(connection: socket.socket, data: bytes, deadline: float | None = None) -> None:
    """Send bytes.

    Args:
        deadline: on ``time.monotonic()``'s clock.

    Raises:
        TimeoutError: the deadline has passed.
    """
    _wait_until(connection, deadline)
    connection.sendall(data)


def receive(connection: socket.socket, size: int, deadline: float | None = None) -> bytearray:
    """Receive exactly ``size`` bytes.

    Raises:
        EOFError: the other side is gone.
        TimeoutError: the deadline has passed.
    """
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        _wait_until(connection, deadline)
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return buffer


def send_json(connection: socket.socket, message: dict[str, Any], deadline: float | None = None) -> None:
    text = json.dumps(message).encode()
    send(connection, struct.pack("!I", len(text)) + text, deadline)


def receive_json(connection: socket.socket, deadline: float | None = None) -> dict[str, Any]:
    """Receive what ``send_json`` sends.

    Raises:
        ValueError: it is longer than anything that is said here, or no JSON object.
    """
    (length,) = struct.unpack("!I", receive(connection, 4, deadline))
    if length > _MOST_JSON_BYTES:
        raise ValueError("The message is too long.")
    message = json.loads(receive(connection, length, deadline))
    if not isinstance(message, dict):
        raise ValueError("The message is no object.")
    return message


def bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    """First row and row behind the last of the pieces in which a picture is sent.

    In one piece, a large picture would be in memory twice on either side.
    """
    rows = max(1, _BAND_BYTES // (3 * width))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _wait_until(connection: socket.socket, deadline: float | None) -> None:
    # Zero would mean "not at all", and then the error is another one.
    connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
