"""Decodes photos in a process of its own, so that a crash of a decoder is seen, and says what each of them cost.

    python -m tests.shop_similarity.photos.decoding_child

Reads requests from its input (the length of the photo, most pixels, side of the target or 0; the photo), and answers
each with a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from django.conf import settings

REQUEST = struct.Struct(">IIH")
MAX_SECONDS = 20
"""Of the processor, for one photo; then the child dies of SIGPROF."""
MAX_ADDRESSES = 4 * 2**30


class Died(AssertionError):
    """The child ended in the middle of a photo."""


class DecodingChild:
    """The child as its parent sees it; started anew after each death."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def decode(self, data: bytes, max_pixels: int, target_size: int | None) -> dict[str, Any]:
        """``outcome``: "image", or the class of the error; ``problem``: what the contract forbids; ``seconds`` of the
        processor; ``megabytes`` above those that the child held before.

        Raises:
            Died: with the name of the signal.
        """
        if self.process is None:
            # Memory that is freed goes back at once, so that the next photo's is seen.
            environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": "0"}
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
        try:
            self.process.stdin.write(REQUEST.pack(len(data), max_pixels, target_size or 0) + data)
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            code = self.close()
            name = signal.Signals(-code).name if code < 0 else f"exit {code}"
            raise Died(f"The process that decoded {len(data):,} bytes died: {name}.")
        return json.loads(answer)

    def close(self) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        # What a dead process has not read can't be flushed.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        code = process.wait()
        process.stdout.close()
        return code


def main() -> None:
    settings.configure(USE_I18N=False)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESSES, MAX_ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while header := sys.stdin.buffer.read(REQUEST.size):
        length, max_pixels, target_size = REQUEST.unpack(header)
        answer = _decode(sys.stdin.buffer.read(length), max_pixels, target_size or None)
        print(json.dumps(answer), flush=True)


def _decode(data: bytes, max_pixels: int, target_size: int | None) -> dict[str, Any]:
    from shop_similarity.photos.decoding import ImageError, ImageLimits, open_image

    limits = ImageLimits(max_pixels=max_pixels, max_seconds=0)
    problem = None
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, started = _kilobytes("VmRSS"), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        image = open_image(data, limits, target_size=target_size)
        outcome = "image"
        if image.mode != "RGB" or image.width * image.height > max_pixels:
            problem = f"{image.mode} {image.size}"
    except ImageError as error:
        outcome = type(error).__name__
        if not str(error).endswith(".") or "%(" in str(error):
            problem = f"no sentence: {error}"
    except BaseException as error:
        outcome = type(error).__name__
        problem = traceback.format_exc()
    signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - started
    megabytes = (_kilobytes("VmHWM") - before) / 1000
    return {"outcome": outcome, "problem": problem, "seconds": seconds, "megabytes": megabytes}


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    main()
