"""Work that waits for a disk or decodes photos, done in threads ahead of whoever takes the results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None, ahead: int | None = None
) -> Iterator[Result]:
    """``map`` in threads, with the results in the order of the items.

    An exception of the function comes in its place and ends it. When it ends or is closed, calls that have not begun
    are dropped, so that Ctrl-C does not wait for thousands of photos.

    Args:
        function: called in threads, several at a time.
        items: taken as they are needed.
        threads: one for each core by default.
        ahead: how many items may be begun or done before the first of them is taken; 4 for each thread by default.
    """
    threads = threads or os.cpu_count() or 1
    ahead = ahead or 4 * threads
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ordered-map")
    calls: deque[Future[Result]] = deque()
    try:
        for item in items:
            calls.append(pool.submit(function, item))
            if len(calls) >= ahead:
                yield calls.popleft().result()
        while calls:
            yield calls.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
