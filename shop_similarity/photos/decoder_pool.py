"""Child processes that decode photos, so that a hostile one costs its own decoding and nothing else.

No check of bytes foresees every file that takes a decoder minutes, gigabytes or a crash. So photos are decoded in
processes of their own, which have bounds on processor time and memory and are killed at a deadline. They are started
when they are first needed, live for many photos, and end after a minute without work or with the process they serve.
"""

from __future__ import annotations

import atexit
import multiprocessing.spawn
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from PIL import Image

from .decoder_messages import BEGUN, bands, receive, receive_json, send, send_json
from .errors import DecoderUnavailable, ImageTooLarge, ImageTypeNotAllowed, ImageUnreadable
from .limits import ImageLimits

IDLE_SECONDS = 60
"""So long a child waits for another photo before it is ended."""
GRACE_SECONDS = 5
"""Beside twice the processor time of a photo, so long one waits for its pixels, for other processes want time too."""
MOST_CHILDREN = 8
"""Of one process, on machines that have so many processors."""

# What a decoder does to itself. Other signals come from elsewhere, like that of a kernel short of memory.
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP})
# What an interpreter and its libraries need; the secrets of a shop stay behind.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_ERRORS = {error.__name__: error for error in (ImageTooLarge, ImageTypeNotAllowed, ImageUnreadable)}


class _ChildGone(Exception):
    """The child had ended before the photo came."""


class _Child:
    """One child process and our end of the socket between us."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair()
        self.idle_since = 0.0
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
        try:
            self.process = subprocess.Popen(  # noqa: S603 (our own module, and nothing from outside)
                [_interpreter(), "-s", "-P", "-m", f"{__package__}.decoder_process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
                # Ctrl-C in a terminal goes to a whole group of processes.
                start_new_session=True,
            )
        except OSError as error:
            self.socket.close()
            raise _not_started(error) from error
        finally:
            theirs.close()

    def decode(self, data: bytes, limits: ImageLimits, target_size: int | None, deadline: float) -> Image.Image:
        """Have the child decode.

        Raises:
            ImageError: it says what is wrong with the photo.
            _ChildGone: it had ended before; another may be asked.
            EOFError, OSError: it has ended over the photo, or is late.
            ValueError: it has answered what no decoder answers.
        """
        order = {"bytes": len(data), "limits": asdict(limits), "target_size": target_size}
        try:
            send_json(self.socket, order, deadline)
            send(self.socket, data, deadline)
            if receive(self.socket, 1, deadline) != BEGUN:
                raise ValueError("The answer begins wrongly.")
        except (EOFError, ConnectionError) as error:
            raise _ChildGone from error
        answer = receive_json(self.socket, deadline)
        if name := answer.get("error"):
            if name == "MemoryError":
                raise ImageTooLarge(
                    _("The photo takes more memory to decode than a photo may; save it smaller and upload it again.")
                )
            # A decoder that was taken over may send a sentence that nobody can put together.
            answer["message"] % answer["params"]
            raise _ERRORS[name](_(answer["message"]), **answer["params"])
        width, height = answer["size"]
        if min(width, height) < 1 or width * height > limits.max_pixels:
            raise ValueError("The picture is larger than a photo may be.")
        image = Image.new("RGB", (width, height))
        for top, end in bands(width, height):
            pixels = receive(self.socket, 3 * width * (end - top), deadline)
            image.paste(Image.frombuffer("RGB", (width, end - top), pixels, "raw", "RGB", 0, 1), (0, top))
        return image

    def end(self, *, at_once: bool = False) -> int:
        """End the child; how it ended, as ``Popen.returncode`` says it."""
        self.socket.close()
        if at_once:
            self.process.kill()
        try:
            return self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class DecoderPool:
    """Child processes that decode photos, no more than ``size`` at a time; to be used by any number of threads."""

    def __init__(self, size: int) -> None:
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        # The one used last is at the end and taken first, so that the others may become idle.
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._tidier: threading.Thread | None = None

    def decode(self, data: bytes, limits: ImageLimits, target_size: int | None = None) -> Image.Image:
        """Decode a photo in a child; arguments and result as those of :func:`shop_similarity.photos.decoder.decode`.

        Raises:
            ImageError: the photo can't be used, for it takes too much time or memory or makes the decoder crash, too.
            DecoderUnavailable: no child has answered in time; worth a retry.
        """
        # The system bounds processor time; a child that waits for something uses none.
        patience = 2 * limits.max_seconds + GRACE_SECONDS
        deadline = time.monotonic() + patience
        if not self._free.acquire(timeout=patience):
            raise DecoderUnavailable(gettext("All processes that decode photos are busy; try again in a moment."))
        try:
            while True:
                child, is_new = self._take()
                try:
                    image = self._decode_in(child, data, limits, target_size, deadline)
                except _ChildGone as error:
                    status = child.end()
                    if is_new:
                        raise _not_started(f"exit status {status}") from error
                else:
                    return image
        finally:
            self._free.release()

    def _take(self) -> tuple[_Child, bool]:
        with self._lock:
            is_new = not self._idle
            child = _Child() if is_new else self._idle.pop()
            self._busy.add(child)
        return child, is_new

    def _decode_in(
        self, child: _Child, data: bytes, limits: ImageLimits, target_size: int | None, deadline: float
    ) -> Image.Image:
        is_usable = False
        try:
            image = child.decode(data, limits, target_size, deadline)
            is_usable = True
            return image
        except (ImageTooLarge, ImageTypeNotAllowed, ImageUnreadable):
            is_usable = True
            raise
        except TimeoutError as error:
            sentence = gettext(
                "The photo was not decoded within %(seconds)d seconds, for this machine is busy; try again later."
            )
            raise DecoderUnavailable(sentence % {"seconds": 2 * limits.max_seconds + GRACE_SECONDS}) from error
        except (EOFError, ConnectionError) as error:
            raise _end_of(child.end(), limits) from error
        except (ValueError, KeyError, TypeError) as error:
            # Nothing that a decoder does of itself: the photo may have taken it over.
            raise ImageUnreadable(_CRASHED) from error
        finally:
            # Before it is given back, or it would be struck off while another thread has it.
            self._busy.discard(child)
            if is_usable:
                self._give_back(child)
            else:
                child.end(at_once=True)

    def _give_back(self, child: _Child) -> None:
        child.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(child)
            if self._tidier is None:
                self._tidier = threading.Thread(target=self._tidy, name="shop-similarity-decoders", daemon=True)
                self._tidier.start()

    def _tidy(self) -> None:
        while True:
            time.sleep(IDLE_SECONDS / 4)
            with self._lock:
                old = [child for child in self._idle if time.monotonic() - child.idle_since > IDLE_SECONDS]
                self._idle = [child for child in self._idle if child not in old]
                if is_over := not self._idle:
                    self._tidier = None
            for child in old:
                child.end()
            if is_over:
                return

    def close(self) -> None:
        """End the children that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.end(at_once=True)

    def abandon(self) -> None:
        """Let go of children that are another process's: after a fork, in the new process."""
        for child in (*self._idle, *self._busy):
            child.socket.close()
            # Not ours to wait for, and not to be warned of.
            child.process.returncode = 0


_CRASHED = _("The photo makes the decoder crash; save it anew as JPEG or PNG and upload it again.")


def _end_of(status: int, limits: ImageLimits) -> Exception:
    """What to raise where a child has ended over a photo, by its exit status."""
    if status == -signal.SIGPROF:
        return ImageTooLarge(
            _(
                "The photo takes more than %(seconds)s seconds to decode; save it anew as JPEG or PNG, or smaller, and "
                "upload it again."
            ),
            seconds=f"{limits.max_seconds:g}",
        )
    if -status in _CRASHES:
        return ImageUnreadable(_CRASHED)
    sentence = gettext("The process that decoded the photo was ended (exit status %(status)d); try again later.")
    return DecoderUnavailable(sentence % {"status": status})


def _not_started(reason: object) -> DecoderUnavailable:
    sentence = gettext(
        "No process to decode photos could be started (%(reason)s). Free memory or processes, or set "
        "DECODE_SECONDS to 0, which decodes photos without bounds on time and memory."
    )
    return DecoderUnavailable(sentence % {"reason": reason})


def _interpreter() -> str:
    """A Python of this environment; servers that embed one (uWSGI, mod_wsgi) are ``sys.executable`` themselves."""
    executable = os.fsdecode(multiprocessing.spawn.get_executable() or "")
    if "python" in Path(executable).name.lower():
        return executable
    names = (f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3", "python")
    paths = (Path(prefix, "bin", name) for prefix in (sys.prefix, sys.base_prefix) for name in names)
    return next((str(path) for path in paths if path.exists()), executable)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


_pool = DecoderPool(1)


def _start_afresh() -> None:
    global _pool
    _pool.abandon()
    _pool = DecoderPool(max(2, min(_processors(), MOST_CHILDREN)))


def decoder_pool() -> DecoderPool:
    """This process's own pool."""
    return _pool


_start_afresh()
atexit.register(lambda: _pool.close())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
