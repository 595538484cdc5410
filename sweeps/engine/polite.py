"""Ending in order when a terminal closes or a scheduler wants its machine back."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ONCE_S = 1.0  # within which signals are one wish: `timeout` sends its own twice, to the process and to its group


@contextmanager
def polite_kill() -> Iterator[None]:
    """Take SIGTERM and SIGHUP for an interrupt: everything is closed, and the study can go on later.

    A SIGHUP that is ignored stays so: that is how `nohup` keeps a command running. An ignored SIGINT does not keep
    SIGTERM from working: a script's `command &` has it, so that Ctrl-C is not for the command.
    """
    heard = -ONCE_S

    def on_signal(*_: object) -> None:
        nonlocal heard
        _leave_closed_terminal()
        if time.monotonic() - heard >= ONCE_S:
            heard = time.monotonic()
            if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
                raise KeyboardInterrupt
            signal.raise_signal(signal.SIGINT)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] == signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def put_off() -> Iterator[None]:
    """Put off a signal that asks to end to the end of the block; another wish, ONCE_S later, is answered at once."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    heard: list[tuple[int, float]] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(number: int, _: object) -> None:
        if not heard:
            heard.append((number, time.monotonic()))
        elif time.monotonic() - heard[0][1] >= ONCE_S:
            heard.clear()
            restore()
            signal.raise_signal(number)

    if threading.current_thread() is not threading.main_thread():  # which alone has signals
        yield
        return
    for number in before:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        restore()
        if heard:
            signal.raise_signal(heard[0][0])


def _leave_closed_terminal() -> None:
    """Write to nowhere what would go to a terminal that is closed: each word to it would be an error."""
    for stream in (sys.__stdout__, sys.__stderr__):
        with suppress(AttributeError, OSError, ValueError):  # without a stream, or without a file behind it
            number = stream.fileno()  # type: ignore[union-attr]
            if stat.S_ISCHR(os.fstat(number).st_mode) and not os.isatty(number):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
