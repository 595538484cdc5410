"""Suite `default_sweep`: how long what `make sweep` runs takes, and how much of it all workers have work.

What runs did is read from the sweep's journal, which tells the second of everything: a worker has work from the start
of a run to its end, the imports of its process within the first one. Before the first run stand the imports of the
driver, its data, MLflow's database and Ray's start; after the last one the report and the model.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.grid import alone
from sweeps.spec.machine import core_count
from tracking import journal_path
from tracking.journal_file import read_records

DATASET, NAME = "quickstart", "default"
TIMES = 5


def run(console: Console) -> list[dict[str, Any]]:
    """Run it TIMES times, print a line each, return the medians as a row, and of the share the least and the most."""
    measured = []
    for number in range(1, TIMES + 1):
        measured.append(one := _measured())
        console.print(
            f"{DATASET}, {number} of {TIMES}: {one['seconds']:.0f} s, {one['before_seconds']:.1f} before the first run "
            f"and {one['after_seconds']:.1f} after the last; all workers have work {one['all_busy']:.1%} of the time",
            soft_wrap=True,
            highlight=False,
        )
    shares = [one["all_busy"] for one in measured]
    medians = {name: median(one[name] for one in measured) for name in measured[0]}
    row = {"name": f"{DATASET}, as make sweep runs it", "workers": core_count(), "times": TIMES}
    return [row | medians | {"all_busy_min": min(shares), "all_busy_max": max(shares)}]


def _measured() -> dict[str, float]:
    with TemporaryDirectory() as folder, alone():
        began, since = time.time(), time.perf_counter()
        words = [sys.executable, "-m", "sweeps", "run", "--dataset", DATASET, "--name", NAME, "--results", folder]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - since
        spans = runs_under_way(record for _, record in read_records(journal_path(Path(folder), NAME)))
    return {
        "runs": len(spans),
        "seconds": seconds,
        "before_seconds": min(first for first, _ in spans) - began,
        "after_seconds": began + seconds - max(last for _, last in spans),
        "all_busy": seconds_with(spans, core_count()) / seconds,
    }


def runs_under_way(records: Iterable[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Return when each run below a sweep's own was under way, in seconds since 1970, from a journal's records."""
    began: dict[str, float] = {}
    spans = []
    for record in records:
        key = record["run_key"]
        if record["call"] == "start" and "/" in key:
            began[key] = record["at"]
        elif record["call"] == "finish" and key in began:
            spans.append((began.pop(key), record["at"]))
    return spans


def seconds_with(spans: Iterable[tuple[float, float]], least: int) -> float:
    """Return for how long at least so many spans were open at a time."""
    events = sorted([event for first, last in spans for event in ((first, 1), (last, -1))])
    total, open_, before = 0.0, 0, 0.0
    for at, change in events:
        total += at - before if open_ >= least else 0.0
        open_, before = open_ + change, at
    return total
