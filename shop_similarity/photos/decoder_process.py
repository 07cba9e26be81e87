"""The child process that decodes photos for :mod:`shop_similarity.photos.decoder_pool`, one after the other.

It knows neither the shop's settings nor its environment, and has bounds on the processor time and the memory of each
photo.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from PIL import Image

from .decoder import decode
from .decoder_messages import BEGUN, bands, receive, receive_json, send, send_json
from .errors import ImageError
from .limits import ImageLimits

_PHOTOS = 500
_MOST_RESIDENT_BYTES = 300 * 2**20


def main() -> None:
    """Decode what comes through the socket whose file descriptor is the last argument, until its other end closes."""
    # Whoever stops the shop or presses Ctrl-C means the parent, and its end ends this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A crash leaves no core behind, and nothing here has a file to write.
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(what, (0, 0))
    # Without translations the messages of errors stay what the parent looks up in its catalogues.
    settings.configure(USE_I18N=False)
    Image.init()
    connection = socket.socket(fileno=int(sys.argv[-1]))
    with suppress(EOFError, OSError, MemoryError):
        for _number in range(_PHOTOS):
            _answer(connection)
            if _memory()[1] > _MOST_RESIDENT_BYTES:
                # What a decoder does not give back, the end of the process does.
                break
    # Tearing the interpreter down takes longer than all of the rest.
    os._exit(0)


def _answer(connection: socket.socket) -> None:
    order = receive_json(connection)
    limits = ImageLimits(**order["limits"])
    _bound(limits)
    data = bytes(receive(connection, order["bytes"]))
    send(connection, BEGUN)
    try:
        image = decode(data, limits, order["target_size"])
    except ImageError as error:
        send_json(connection, {"error": type(error).__name__, "message": str(error.message), "params": error.params})
    except MemoryError:
        send_json(connection, {"error": "MemoryError"})
        raise
    else:
        send_json(connection, {"size": image.size})
        for top, end in bands(*image.size):
            send(connection, image.crop((0, top, image.width, end)).tobytes())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _bound(limits: ImageLimits) -> None:
    """Give the next photo so much processor time and memory as it may take, on top of what is taken already."""
    # SIGPROF ends the process then, whatever library it is in. RLIMIT_CPU would count in whole seconds.
    signal.setitimer(signal.ITIMER_PROF, limits.max_seconds)
    if address_space := _memory()[0]:
        _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        bound = address_space + limits.memory_bound
        resource.setrlimit(resource.RLIMIT_AS, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def _memory() -> tuple[int, int]:
    """Bytes of address space and of memory in use; zeros on systems that do not say and do not bound them either."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except OSError:
        return 0, 0
    return int(pages[0]) * resource.getpagesize(), int(pages[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
