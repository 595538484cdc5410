"""Suite `reading`: what commands take that read a sweep of ten thousand trials, from their start to their end.

The ledger is written by the engine's own bookkeeper, without workers and without MLflow.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.scale import SESSIONS, TRIALS, Quiet, begun, job
from benchmarks.stub import session_record
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.spec.machine import core_count
from tracking import MemoryRecorder, Status

COMMANDS = ("show", "list", "report")
TIMES = 5


def run(console: Console, trials: int = TRIALS[-1]) -> list[dict[str, Any]]:
    """Write the sweep, run each command a few times in turn, print and return medians."""
    with TemporaryDirectory() as folder:
        _write(Path(folder) / "sweeps" / "stub", trials)
        took = [[_seconds(command, Path(folder)) for command in COMMANDS] for _ in range(TIMES)]
    rows = [
        {
            "name": f"{command}, {trials} trials",
            "cpu_seconds": statistics.median(seconds),
            "cpu_seconds_min": min(seconds),
            "cpu_seconds_max": max(seconds),
            "times": TIMES,
        }
        for command, seconds in zip(COMMANDS, zip(*took, strict=True), strict=True)
    ]
    for row in rows:
        console.print(f"{row['name']}: {row['cpu_seconds']:.2f} s of a core", highlight=False)
    return rows


def _write(folder: Path, trials: int) -> None:
    folder.mkdir(parents=True)
    base, ledger, journal = begun(folder, trials, core_count())
    journal.close()
    recorder = MemoryRecorder()
    recorder.start(ledger.log.spec.name, {}, {})
    books = Bookkeeper(ledger, recorder, Quiet(), folder / "runs", {})
    for index in range(trials):
        one = job(index, base, folder)
        books.started(one)
        for session in range(1, SESSIONS + 1):
            record = session_record(session, SESSIONS, one.config["accuracy"], len(one.predictions))
            books.session(one.id, record)
            books.checkpoint(one.id, str(folder / "ray" / one.id / f"checkpoint_{session:06d}"))
        books.ended(one.id, Status.FINISHED)
    ledger.close()


def _seconds(command: str, results: Path) -> float:
    """Return the processor seconds of a command."""
    before = getrusage(RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "sweeps", command, "--results", str(results)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
