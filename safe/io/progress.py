"""How far a long piece of work is, on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUICK_S = 2.0  # work that is over by then tells nothing
EVERY_S = 5.0  # between two lines


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
