"""How far a long piece of work is, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUICK_S = 2.0  # work that is over by then tells nothing
EVERY_S = 5.0  # between two lines
SILENCE_S = 10.0  # the longest where lines tell how far long work is
TICK_S = 0.5


class Ticking:
    """Calls a function twice a second, from a thread of its own, until it is closed."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act, self._end = act, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Call it no more."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(TICK_S):
            self._act()


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Give a function that is called for every piece that is done; nothing is shown of what takes less than `QUICK_S`.

    Args:
        what: is done, in words that stand before the count.
        total: pieces that there are.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, markup=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(what, total=total)
    begun, done, next_told = time.monotonic(), 0, QUICK_S

    def advance() -> None:
        nonlocal done, next_told
        done += 1
        seconds = time.monotonic() - begun
        if seconds >= next_told:
            next_told = seconds + EVERY_S
            bar.start()
            if not console.is_terminal:
                left = seconds * (total - done) / done
                print(f"{what}: {done} of {total}, about {left:.0f} s left", file=sys.stderr, flush=True)
        if bar.live.is_started:
            bar.update(task, completed=done)

    try:
        yield advance
    finally:
        bar.stop()


def duration(seconds: float) -> str:
    """Return seconds (finite) as a person says them: to 120 s in seconds, to two hours in minutes, else in hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
