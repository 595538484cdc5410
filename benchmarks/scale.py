"""Suite `scale`: how cost grows with the work, and what a sweep of ten thousand trials costs its driver.

The trials train nothing. Everything but the training is real: Ray Tune, the ledger, the journal and MLflow on SQLite.
So the time by session is the engine's own: handing out jobs, their way to the workers and back, and writing down what
they gave, in the driver and until MLflow has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.exponents import measured_exponents
from safe.config import load_config
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.budget import Budget
from sweeps.engine.job_queue import JobQueue
from sweeps.engine.tuner import local_ray, run_work
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.ledger import Ledger
from sweeps.spec.machine import core_count
from sweeps.spec.specs import SweepSpec
from tracking import DeliveryProcess, JournalRecorder, sqlite_uri, telemetry_off
from tracking.delivery import Delivery

TRIALS = (100, 1000, 10_000)
SESSIONS = 5
ROUND = 50
TEMPERATURES = (0.1, 1.0, 10.0)
BAR_MS = 15.0
LONGEST_S = 3600.0


class Quiet:
    """Shows nothing."""

    def job_changed(self, *_: object) -> None:
        """Show nothing of it."""

    def working(self, *_: object) -> None:
        """Show nothing of it."""

    def note(self, words: str) -> None:
        """Show nothing of it."""


def run(console: Console, trials: tuple[int, ...] = TRIALS) -> list[dict[str, Any]]:
    """Fit the exponents; run `trials[-1]` stub trials and return, at each of `trials`, ms by session since the one
    before and memory."""
    laws = measured_exponents()
    console.print(_law_table(laws))
    with TemporaryDirectory() as folder:
        rows = _measured(Path(folder) / "sweeps" / "stub", trials)
    table = Table(title=f"a sweep of stub trials, {SESSIONS} sessions each; the bar is {BAR_MS:.0f} ms a session")
    for heading in ("trials", "ms a session, driver", "ms until MLflow has it", "driver MB", "KB a trial"):
        table.add_column(heading, justify="right")
    for row in rows:
        times = (f"{row[name]:.1f}" for name in ("driver_ms_per_session", "ms_per_session"))
        table.add_row(str(row["trials"]), *times, f"{row['driver_mb']:.0f}", f"{row['kb_per_trial']:.0f}")
    console.print(table)
    return [*laws, *rows]


def _law_table(laws: list[dict[str, Any]]) -> Table:
    table = Table(title="growth of cost: seconds ~ size^exponent", title_justify="left", title_style="", box=None)
    table.add_column("cost")
    table.add_column("theory")
    for heading in ("sizes", "exponent", "at most"):
        table.add_column(heading, justify="right")
    for law in laws:
        sizes = f"{law['sizes'][0]} .. {law['sizes'][-1]}"
        table.add_row(law["name"], law["theory"], sizes, f"{law['exponent']:.2f}", f"{law['at_most']:g}")
    return table


def begun(
    folder: Path, trials: int, workers: int, delivery: Callable[..., Delivery] = Delivery, **changes: Any
) -> tuple[dict[str, Any], Ledger, JournalRecorder]:
    """Return the base, the ledger and the recorder of a sweep of stub trials that begins in a folder.

    `changes` are fields of its specification.
    """
    telemetry_off()
    base = load_config("digits").flat()
    spec = SweepSpec(
        name="stub",
        dataset="digits",
        trials=trials,
        seeds=1,
        holdout_share=0.2,
        space={},
        base=base,
        threads=1,
        concurrency=workers,
        **changes,
    )
    recorder = JournalRecorder(folder / "journal.jsonl", sqlite_uri(folder / "mlflow.db"), "digits", delivery=delivery)
    recorder.start(spec.name, base, {})
    (folder / "heartbeats").mkdir()
    return base, Ledger.create(folder, spec), recorder


def _measured(folder: Path, trials: tuple[int, ...]) -> list[dict[str, Any]]:
    workers = core_count()
    folder.mkdir(parents=True)
    process = DeliveryProcess()  # as a sweep's driver has it
    base, ledger, recorder = begun(folder, trials[-1], workers, process.delivery)
    rows: list[dict[str, Any]] = []

    def work() -> Iterator[list[Job]]:
        before, since, memory = 0, time.perf_counter(), 0.0
        for first in range(0, trials[-1], ROUND):
            yield [job(index, base, folder) for index in range(first, first + ROUND)]
            done = first + ROUND
            if first == 0:  # the workers had to start
                recorder.flush(LONGEST_S)
                before, since, memory = done, time.perf_counter(), _resident_mb()
            elif done in trials:
                sessions = SESSIONS * (done - before)
                driver = 1000 * (time.perf_counter() - since) / sessions
                recorder.flush(LONGEST_S)
                rows.append(
                    {
                        "trials": done,
                        "driver_ms_per_session": driver,
                        "ms_per_session": 1000 * (time.perf_counter() - since) / sessions,
                        "driver_mb": _resident_mb(),
                        "kb_per_trial": 1000 * (_resident_mb() - memory) / (done - before),
                    }
                )
                before, since, memory = done, time.perf_counter(), _resident_mb()

    with local_ray(workers):
        from benchmarks.stub import StubTrainable

        run_work(
            JobQueue(work(), ledger.log, Budget(ledger.log), workers),
            Bookkeeper(ledger, recorder, Quiet(), folder / "runs", {}),
            storage=folder / "ray",
            stop=folder / "stop",
            threads=1,
            trainable=StubTrainable,
        )
    recorder.close()
    process.close()
    return rows


def job(index: int, base: dict[str, Any], folder: Path) -> Job:
    """Return a job for a stub trial, scored at three temperatures."""
    id = f"trial-{index:03d}"
    predictions = [
        {"aggregation.kind": "entropy", "aggregation.temperature": tau, "head.logit_scale": "learned"}
        for tau in TEMPERATURES
    ]
    config = {**base, "sessions": SESSIONS, "accuracy": index / 1000}
    heartbeat, stop = str(folder / "heartbeats" / id), str(folder / "stop")
    return Job(id, Kind.TRIAL, id, config, predictions, str(folder / "runs" / id), heartbeat=heartbeat, stop=stop)


def _resident_mb() -> float:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
