"""Exhaustive grids on digits for the suites: their specification, their combinations, and the search alone."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sweeps.engine.study import carry_out
from sweeps.engine.work import Study
from sweeps.ledger.jobs import SEARCH_KINDS, Job, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec
from sweeps.studies.sweep import work

Grid = Mapping[str, Sequence[float]]


def grid_spec(name: str, grid: Grid, *settings: str, stages: bool = True) -> SweepSpec:
    """Return a grid search on digits, one thread a trial, for the CPU; `settings` as on a command line."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "space.yaml"
        file.write_text("\n".join(f"{setting}: {json.dumps({'grid': list(grid[setting])})}" for setting in grid))
        return build_spec(
            name=name,
            dataset="digits",
            overrides=["runtime.device=cpu", "runtime.threads=1", *settings],
            seeds=1,
            search="grid",
            space=file,
            stages=stages,
            control=False,
            audit=False,
            checkpoints="none",
        )


def search(spec: SweepSpec, results: Path) -> tuple[SweepLog, float]:
    """Run the search of a sweep up to its choice, without what comes after it; return the log and the wall time."""
    began = time.perf_counter()
    log = carry_out(spec, results, _search_only, summarise=lambda *_: None)
    seconds = time.perf_counter() - began
    if missing := [job.id for job in log.of_kind(Kind.TRIAL) if job.status != "FINISHED"]:
        raise AssertionError(f"trials failed: {', '.join(missing)}")
    return log, seconds


def _search_only(study: Study) -> Iterator[list[Job]]:
    return itertools.takewhile(lambda jobs: jobs[0].kind in SEARCH_KINDS, work(study))


def combinations(grid: Grid) -> Iterator[dict[str, float]]:
    """Yield what every combination of a grid sets."""
    return (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))


@contextmanager
def alone() -> Iterator[None]:
    """Leave out the tracking server and the Ray that the environment may name: all is measured on this machine."""
    hidden = {name: os.environ.pop(name) for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
