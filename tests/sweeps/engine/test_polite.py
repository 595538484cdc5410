"""Signals of terminals and schedulers."""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.engine import polite
from sweeps.engine.polite import polite_kill, put_off


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """SIGHUP is not ignored, also where `nohup` runs the tests."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_they_are_one_interrupt_however_often_they_come_at_once(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    clock = [100.0]
    monkeypatch.setattr(polite.time, "monotonic", lambda: clock[0])
    with polite_kill():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        clock[0] += polite.ONCE_S
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_hangup_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with polite_kill():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_that_a_script_put_in_the_background_can_be_stopped() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), polite_kill():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)


IN_A_TERMINAL = """
import sys, time
from pathlib import Path
from sweeps.engine.polite import polite_kill
try:
    with polite_kill():
        print("ready", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    print("continue with ...", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("in order")
    sys.exit(130)
"""


def test_a_terminal_that_closes_is_an_interrupt_and_words_to_it_are_no_errors(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    pid, terminal = pty.fork()
    if not pid:
        os.execv(sys.executable, [sys.executable, "-c", IN_A_TERMINAL, str(ended)])
    told = b""
    while b"ready" not in told:
        told += os.read(terminal, 1000)
    os.close(terminal)
    deadline = time.monotonic() + 30
    while not (done := os.waitpid(pid, os.WNOHANG))[0]:
        assert time.monotonic() < deadline, os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    assert os.waitstatus_to_exitcode(done[1]) == 130
    assert ended.read_text() == "in order"


def raise_each(numbers: list[int], done: list[int]) -> None:
    for number in numbers:
        signal.raise_signal(number)
        done.append(number)


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGTERM] * 2])
def test_a_signal_is_put_off_to_the_end_and_one_that_comes_twice_is_one(numbers: list[int]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), polite_kill(), put_off():
        raise_each(numbers, done)
    assert done == numbers
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_another_wish_to_end_is_not_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polite, "ONCE_S", 0.0)
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt) as raised, put_off():
        raise_each([signal.SIGINT, signal.SIGINT], done)
    assert done == [signal.SIGINT]
    assert raised.value.__context__ is None, "it is answered once"
