"""Staged search, TPE and random search at equal training cost, rehearsed over one table of real results on glyphs.

Glyphs, because on digits nearly every setting is as good as the best. The table is an exhaustive grid, trained once by
a sweep of its own (`<results>/sweeps/bench-search`, continued when it was interrupted and read when it is there). A
rehearsal proposes trials exactly as a sweep does and looks their results up; it is told what shared work would cost: a
slow setting judged alone trains one session, a trial its sessions less those that an earlier one trained. Only the best
validation score of *trials* counts.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from safe.errors import UserError
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.results.selection import score_trial
from sweeps.spec.combinations import key
from sweeps.spec.depth import acts_in_session_1
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec
from sweeps.studies.simulator import Rehearsal

NAME = "bench-search"
SESSIONS = 3  # of ten: enough to tell settings apart
# The preset's own values are left out: they are the result of a search, and every search would begin with them.
SPACE = {
    "slow.diag_weight": {"grid": [0.003, 0.03, 0.5]},
    "slow.offdiag_weight": {"grid": [0.1, 3.0, 100.0]},
    "fast.feature_weight": {"grid": [0.5, 5.0, 50.0]},
    "fast.cross_weight": {"grid": [0.0, 0.5, 6.0]},
    "aggregation.temperature": {"grid": [0.01, 0.1, 1.0, 10.0]},
}
SEARCHES = ("staged", "tpe", "random")
REPEATS = 40
TRIALS = 24
STEP = 10  # of the curve, in training sessions


def run(console: Console) -> list[dict[str, Any]]:
    """Return the curves: per search and number of training sessions, the best score so far over the repeats."""
    log = grid_log(Path(os.environ.get("RESULTS") or "results"))
    results = Results(log)
    curves = {search: [rehearse(results, search, seed) for seed in range(REPEATS)] for search in SEARCHES}
    budgets = range(STEP, results.sessions * TRIALS + 1, STEP)
    rows = [row(search, budget, curves[search]) for search in SEARCHES for budget in budgets]
    _print(rows, results, console)
    with_trials = [row for row in rows if row["repeats"]]
    return [*with_trials, {"name": "the whole grid", "sessions": results.cost_of_all, "mean": results.best}]


def grid_log(results: Path) -> SweepLog:
    """Return the log of the exhaustive grid, run or continued if it is not finished."""
    from sweeps.studies.sweep import run_sweep

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "space.yaml"
        file.write_text("\n".join(f"{name}: {json.dumps(entry)}" for name, entry in SPACE.items()))
        spec = build_spec(
            name=NAME,
            dataset="glyphs",
            overrides=["runtime.device=cpu", "runtime.threads=1"],
            search="grid",
            selection="first-k",
            first_k=SESSIONS,
            seeds=1,
            space=file,
            audit=False,
            control=False,
            checkpoints="none",
        )
    log = run_sweep(spec, results)
    if missing := [job.id for job in log.of_kind(Kind.TRIAL) if job.status != "FINISHED"]:
        raise UserError(f"the table of the search benchmark lacks {', '.join(missing)}; run it again")
    return log


class Results:
    """The table: session records of every combination, found by a job's settings."""

    def __init__(self, log: SweepLog) -> None:
        self.spec = log.sweep_spec
        self.names = list(self.spec.parsed_space().domains)
        trials = log.of_kind(Kind.TRIAL)
        self._rows = {self._key(job.config, self.names): job.sessions for job in trials}
        # The slow learner is frozen after session 1, so its own metrics are the same in every trial that carries it.
        self._alone = {self._key(job.config, self._slow): job.sessions for job in trials}
        self.sessions = len(trials[0].sessions)
        self.cost_of_all = len(self._alone) + len(self._rows) * (self.sessions - 1)
        split = self.spec.split
        self.scores = {
            self._key(job.config, self.names): score_trial(job, self.spec.objective, split).goodness[0]
            for job in trials
        }
        self.best = max(self.scores.values())

    def __call__(self, job: Job) -> list[SessionRecord]:
        """Return the session records of a job of a search; nothing for what comes after it."""
        if job.kind == Kind.SLOW:
            return self._alone[self._key(job.config, self._slow)]
        return self._rows[self._key(job.config, self.names)] if job.kind == Kind.TRIAL else []

    def cost(self, kind: str, config: Mapping[str, Any], trained: set[str]) -> int:
        """Return the sessions that a job trains beyond those `trained` before, and add them."""
        slow = self._key(config, self._slow)
        whole = self._key(config, self.names)
        new = (slow not in trained) + (self.sessions - 1) * (kind == Kind.TRIAL and whole not in trained)
        trained |= {slow, whole} if kind == Kind.TRIAL else {slow}
        return new

    def score(self, config: Mapping[str, Any]) -> float:
        """Return the objective of a trial at its best settings of prediction."""
        return self.scores[self._key(config, self.names)]

    @property
    def _slow(self) -> list[str]:
        return [name for name in self.names if acts_in_session_1(name)]

    @staticmethod
    def _key(config: Mapping[str, Any], names: list[str]) -> str:
        return key({name: config[name] for name in names})


def rehearse(results: Results, search: str, seed: int) -> list[tuple[int, float]]:
    """Return (training sessions so far, best score so far) after every trial of one search."""
    asked: dict[str, Any] = {"search": search, "search_seed": seed, "trials": TRIALS, "audit": False, "control": False}
    spec = SweepSpec.model_validate({**results.spec.model_dump(), **asked, "seeds": 1, "round_size": 4})
    log = Rehearsal(spec).run(results)
    trained: set[str] = set()
    spent, best = 0, float("-inf")
    curve = []
    for job in [*log.of_kind(Kind.SLOW), *log.of_kind(Kind.TRIAL)]:
        spent += results.cost(job.kind, job.config, trained)
        if job.kind == Kind.TRIAL:
            best = max(best, results.score(job.config))
            curve.append((spent, best))
    return curve


def row(search: str, budget: int, curves: list[list[tuple[int, float]]]) -> dict[str, Any]:
    """Return mean and standard deviation of the best score that fits a budget, over the repeats that have a trial."""
    reached = [max(best for spent, best in curve if spent <= budget) for curve in curves if curve[0][0] <= budget]
    line: dict[str, Any] = {"name": search, "sessions": budget, "repeats": len(reached)}
    if reached:
        line |= {"mean": statistics.fmean(reached), "std": statistics.pstdev(reached)}
    return line


def _print(rows: list[dict[str, Any]], results: Results, console: Console) -> None:
    title = f"best validation score so far, percent, mean ± std of {REPEATS} repeats (grid: {100 * results.best:.2f})"
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    table.add_column("training sessions", justify="right")
    for search in SEARCHES:
        table.add_column(search, justify="right")
    for budget in dict.fromkeys(row["sessions"] for row in rows):
        cells = [row for row in rows if row["sessions"] == budget]
        words = [f"{100 * c['mean']:.2f} ± {100 * c['std']:.2f}" if "mean" in c else "-" for c in cells]
        table.add_row(str(budget), *words)
    console.print(table)
