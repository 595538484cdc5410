"""One process at a time has a sweep."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safe.errors import UserError
from sweeps.ledger.lock import is_held, locked, stop_holder

ROOT = Path(__file__).resolve().parents[3]
HOLD = (
    "import sys, time; from pathlib import Path; from sweeps.ledger.lock import locked\n"
    "with locked(Path(sys.argv[1]), 'demo'):\n"
    "    print('held', flush=True); time.sleep(600)"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_and_told_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert is_held(tmp_path)
    told = f"by another process \\(pid {holder.pid} on {socket.gethostname()}\\)"
    with pytest.raises(UserError, match=told), locked(tmp_path, "demo"):
        pass


def test_a_lock_ends_with_a_killed_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert not is_held(tmp_path)
    with locked(tmp_path, "demo"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()} {socket.gethostname()}"


def test_the_holder_is_asked_to_stop(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert stop_holder(tmp_path, "demo") == holder.pid
    assert holder.wait(timeout=60) == -signal.SIGTERM


def test_nobody_else_is_asked_to_stop(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    lock = tmp_path / "lock"
    for text in (f"{os.getpid() + 10**7} {socket.gethostname()}", f"{holder.pid} elsewhere", "", "1 x"):
        lock.write_text(text)
        with pytest.raises(UserError, match="cannot be reached from here"):
            stop_holder(tmp_path, "demo")
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        lock.write_text(f"{bystander.pid} {socket.gethostname()}")
        with pytest.raises(UserError, match="cannot be reached"):
            stop_holder(tmp_path, "demo")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    holder.kill()
    holder.wait()
    with pytest.raises(UserError, match="is not running"):
        stop_holder(tmp_path, "demo")
