"""Threads that prepare image files: those of a batch side by side, and the next batches while one is trained on.

Decoding, cropping and resizing release Python's lock, so threads are as fast as processes here and copy nothing.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

A = TypeVar("A")
B = TypeVar("B")


def in_threads(function: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """Return `function` of every item, in order, with as many threads as torch has; the first error is raised."""
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < 2:
        return [function(item) for item in items]
    return list(_pool(threads).map(function, items))


def ahead(batches: Iterable[A], depth: int = 2) -> Iterator[A]:
    """Give what `batches` gives, taken from it by one thread up to `depth` batches before they are asked for.

    An error comes where its batch would have come. A caller that stops early stops the thread.
    """
    source, end = iter(batches), object()
    with ThreadPoolExecutor(1) as thread:
        pending = deque(thread.submit(next, source, end) for _ in range(depth))
        try:
            while (batch := pending.popleft().result()) is not end:
                pending.append(thread.submit(next, source, end))
                yield batch  # type: ignore[misc]
        finally:
            for waiting in pending:
                waiting.cancel()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="images")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not come along, and would be waited for
