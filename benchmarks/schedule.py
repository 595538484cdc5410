"""Suite `schedule`: the simulated schedule of a stage tree beside a real sweep of it, on more and more workers.

The real sweep's runs sleep instead of training, which many workers can do on few cores. All else is real: Ray, the job
queue, and the stage store by which runs wait for one another.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.scale import Quiet, begun
from benchmarks.scale import job as stub_job
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.budget import Budget
from sweeps.engine.job_queue import JobQueue
from sweeps.engine.tuner import local_ray, run_work
from sweeps.ledger.jobs import Job
from sweeps.studies.schedule import Run, Step, schedule

WORKERS = (2, 4, 8, 16)
BAR = 1.1
BOUND_BAR = 1.15
SLOW_SETTINGS, FAST_SETTINGS, SESSIONS = 4, 6, 3
SLOW_SECONDS, FAST_SECONDS, OWN_SECONDS = 8.0, 4.0, 1.0


def run(console: Console, workers: tuple[int, ...] = WORKERS) -> list[dict[str, Any]]:
    """Return for each number of workers the simulated and the real seconds of one tree, and the lower bound."""
    rows = []
    for count in workers:
        expected = schedule([tree()], count)
        real = _real(count)
        rows.append(
            {
                "tree": f"{SLOW_SETTINGS} slow x {FAST_SETTINGS} fast settings",
                "workers": count,
                "simulated_seconds": expected.makespan,
                "real_seconds": real,
                "real_over_simulated": real / expected.makespan,
                "bound_seconds": expected.bound,
                "idle": expected.idle,
            }
        )
    for order in itertools.permutations(("slow", "fast", "head")):
        expected = schedule([_cube(order)], 8)
        rows.append(
            {
                "tree": f"8x8x8, {order[-1]} varies fastest, then {order[1]}",
                "workers": 8,
                "simulated_seconds": expected.makespan,
                "bound_seconds": expected.bound,
                "over_bound": expected.makespan / expected.bound,
            }
        )
    table = Table(title=f"schedules; bars: {BAR:g} times the simulated time, {BOUND_BAR:g} times the bound")
    columns = (
        "tree",
        "workers",
        "simulated_seconds",
        "real_seconds",
        "real_over_simulated",
        "bound_seconds",
        "over_bound",
    )
    for column in columns:
        table.add_column(column.replace("_", " "), justify="left" if column == "tree" else "right")
    for row in rows:
        table.add_row(*(f"{row[c]:.2f}" if isinstance(row.get(c), float) else str(row.get(c, "")) for c in columns))
    console.print(table)
    return rows


def tree() -> list[Run]:
    """Return the runs of a grid in the worst order: neighbours wait for the same first session."""
    return [
        [
            _session(("slow", slow), SLOW_SECONDS),
            *(_session(("fast", slow, fast, k), FAST_SECONDS) for k in range(2, SESSIONS + 1)),
        ]
        for slow, fast in itertools.product(range(SLOW_SETTINGS), range(FAST_SETTINGS))
    ]


def _session(key: tuple[object, ...], seconds: float) -> Step:
    return Step(((key, seconds),), OWN_SECONDS)


def _cube(order: tuple[str, ...]) -> list[Run]:
    """Return a grid of eight values each of a slow, a fast and a head's setting, `order` from slowest to fastest."""
    runs: list[Run] = []
    for values in itertools.product(range(8), repeat=3):
        chosen = dict(zip(order, values, strict=True))
        slow, fast = chosen["slow"], chosen["fast"]
        runs.append([_session(("slow", slow), 20.0), *(_session(("fast", slow, fast, k), 15.0) for k in range(2, 11))])
    return runs


def _real(workers: int) -> float:
    """Return the seconds that the tree takes on `workers` workers of a real Ray, once they are there."""
    with TemporaryDirectory() as name, local_ray(workers):
        from benchmarks.staged_stub import StagedStub

        folder = Path(name)
        base, ledger, recorder = begun(folder, 1, workers)
        (meeting := folder / "meeting").mkdir()
        began = 0.0

        def work() -> Iterator[list[Job]]:
            nonlocal began
            yield [_job(index, [Step((), 0.0)], base, folder, meet=[str(meeting), workers]) for index in range(workers)]
            began = time.perf_counter()
            yield [_job(workers + index, run, base, folder) for index, run in enumerate(tree())]
            began = time.perf_counter() - began

        run_work(
            JobQueue(work(), ledger.log, Budget(ledger.log), workers, stage_key=_key),
            Bookkeeper(ledger, recorder, Quiet(), folder / "runs", {}),
            storage=folder / "ray",
            stop=folder / "stop",
            threads=1,
            trainable=StagedStub,
        )
        recorder.close()
    return began


def _job(index: int, run: Run, base: dict[str, Any], folder: Path, **more: Any) -> Job:
    job = stub_job(index, base, folder)
    steps = [[[repr(key), seconds] for key, seconds in step.stages] for step in run]
    config = {**job.config, "sessions": len(run), "steps": steps, "seconds": run[0].own, **more}
    return replace(job, config=config, stages=str(folder / "stages"))


def _key(job: Job, session: int) -> str:
    steps = job.config["steps"]
    own = f"{job.id}, {session}"
    return str(steps[session - 1][0][0]) if session <= len(steps) and steps[session - 1] else own
