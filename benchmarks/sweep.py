"""Suite `sweep`: what sharing saves. An exhaustive grid of slow and fast settings and temperatures on digits, searched
by a sweep with the stage tree, against a naive Ray Tune sweep of the same grid (`benchmarks.naive`).

Of the naive sweep an even subset is run and scaled by count: what happens once (Ray and its workers starting and
ending) counts once, the time from the first run's beginning to the last one's end by the number of runs. Ours is timed
whole, its ledger and MLflow included. Final runs belong to neither.

Temperatures are most of the saving, so the tree's own share is shown apart: a sweep with it against one without.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.grid import Grid, alone, combinations, grid_spec, search
from sweeps.engine.tuner import local_ray
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.accounting import work_account
from sweeps.results.selection import aggregated
from sweeps.spec.specs import SweepSpec
from sweeps.studies.plan import plan_of

SLOW: Grid = {"slow.diag_weight": [0.0, 1.0], "slow.offdiag_weight": [0.0, 100.0]}
FAST: Grid = {"fast.feature_weight": [0.0, 24.0], "fast.cross_weight": [0.0, 1.0]}
TEMPERATURES: Grid = {"aggregation.temperature": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0]}
MEASURED = 8  # naive runs, or as many as keep every worker equally busy

# Grids on two long sessions, where the first one is shared by 2 and by 8 trials. Fewer epochs than the preset's, in the
# same proportion, keep the suite short; both sides have the same.
TWO_SESSIONS = ("data.init_classes=5", "data.increment=5", "slow.epochs=4", "fast.epochs=2")
TREES: dict[str, Grid] = {
    "8 slow x 2 fast": {"slow.offdiag_weight": [0, 1, 3, 10, 30, 100, 300, 1000], "fast.cross_weight": [0.0, 1.0]},
    "2 slow x 8 fast": {"slow.offdiag_weight": [0, 100], "fast.cross_weight": [0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10]},
}


def run(console: Console) -> list[dict[str, Any]]:
    """Measure, print, return a row for the grid against the naive sweep and one for each grid of the tree's share."""
    with tempfile.TemporaryDirectory() as folder, alone():
        row = against_naive(Path(folder), console)
        shares = [tree_share(name, Path(folder)) for name in TREES]
    _print_shares(shares, console)
    return [row, *shares]


def against_naive(folder: Path, console: Console) -> dict[str, Any]:
    """Search the whole grid our way and a subset naively; prove that both give the same; return all figures."""
    spec = grid_spec("whole", {**SLOW, **FAST, **TEMPERATURES})
    plan = plan_of(spec).search
    console.print(
        f"4 slow x 4 fast settings x 8 temperatures on digits: {plan.naive} sessions naively, {plan.unshared} with "
        f"temperatures alone shared, {plan.trained} with the tree",
        highlight=False,
        soft_wrap=True,
    )
    log, seconds = search(spec, folder)
    account = work_account(log)
    if (counted := [account["sessions_naive"], account["sessions_trained"]]) != [plan.naive, plan.trained]:
        raise AssertionError(f"planned {plan.naive} naive and {plan.trained} trained sessions, the ledger {counted}")
    assert log.selected is not None
    winner = {**log.jobs[log.selected["trial"]].config, **log.selected["prediction"]}
    every = len(list(combinations({**SLOW, **FAST, **TEMPERATURES})))
    chosen = subset(min(every, workers_share(MEASURED, spec.concurrency)), winner)
    naive = measure_naive([spec.trial_config(settings) for settings in chosen], spec, folder)
    ours = [point(log, settings) for settings in chosen]
    prove_equal(chosen, naive["runs"], ours)
    scaled = naive["once_seconds"] + naive["runs_seconds"] * every / len(chosen)
    row = {
        "name": "4 slow x 4 fast x 8 temperatures",
        "workers": spec.concurrency,
        "sessions_naive": plan.naive,
        "sessions_temperatures_shared": plan.unshared,
        "sessions_trained": account["sessions_trained"],
        "ours_seconds": seconds,
        "ours_search_seconds": log.search_seconds,
        "naive_runs": every,
        "naive_runs_measured": len(chosen),
        "naive_once_seconds": naive["once_seconds"],
        "naive_measured_seconds": naive["runs_seconds"],
        "naive_seconds": scaled,
        "ratio": scaled / seconds,
        "measured": chosen,
        "winner": {"trial": log.selected["trial"], "settings": chosen[0], "score": log.selected["score"]},
    }
    words = ", ".join(f"{name} {value:g}" for name, value in chosen[0].items())
    console.print(
        f"ours: {row['sessions_trained']} sessions trained in {seconds:.1f} s (Ray, ledger and MLflow included; from "
        f"the first trial to the last {log.search_seconds:.1f} s), {spec.concurrency} trials at a time",
        f"naive: {len(chosen)} of {every} runs in {naive['runs_seconds']:.1f} s and {naive['once_seconds']:.1f} s once "
        f"for Ray and its workers; scaled by count {scaled:.1f} s",
        f"ratio: {row['ratio']:.1f}",
        f"equal: accuracies after every session of all {len(chosen)} measured runs, exactly; the winner of the whole "
        f"grid is the best of them both ways ({words}: {100 * log.selected['score']:.2f} %)",
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )
    return row


def tree_share(name: str, folder: Path) -> dict[str, Any]:
    """Search a grid with the stage tree and without; prove that both give the same; return all figures."""
    logs: list[SweepLog] = []
    row: dict[str, Any] = {"name": name, "settings": TWO_SESSIONS}
    for words, stages in (("with", True), ("without", False)):
        spec = grid_spec(f"{name} {words}".replace(" ", "-"), TREES[name], *TWO_SESSIONS, stages=stages)
        log, seconds = search(spec, folder / spec.name)  # a results folder of its own: nothing is there yet
        planned = plan_of(spec).search
        if log.sessions_trained != (expected := planned.trained if stages else planned.unshared):
            raise AssertionError(
                f"{spec.name}: planned {expected} trained sessions, the ledger has {log.sessions_trained}"
            )
        row |= {f"{words}_seconds": seconds, f"{words}_search_seconds": log.search_seconds}
        row |= {f"{words}_sessions_trained": log.sessions_trained}
        logs.append(log)
    grids = [{job.id: [record.grid for record in job.sessions] for job in log.of_kind(Kind.TRIAL)} for log in logs]
    if grids[0] != grids[1] or logs[0].selected != logs[1].selected:
        raise AssertionError(f"{name}: the sweeps with and without the tree differ")
    return {
        **row,
        "ratio": row["without_seconds"] / row["with_seconds"],
        "search_ratio": row["without_search_seconds"] / row["with_search_seconds"],
    }


def workers_share(runs: int, workers: int) -> int:
    """Return the least number of runs, at least `runs`, that gives all workers equally many."""
    return -(-runs // workers) * workers


def subset(count: int, first: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return `count` combinations of the whole grid, spread evenly and different: of 8 in a row each slow and each fast
    setting stands twice and each temperature once. `first` holds the settings of the first one."""
    lists = [list(combinations(grid)) for grid in (SLOW, FAST, TEMPERATURES)]
    slow, fast, temperature = (
        next(i for i, settings in enumerate(listed) if settings.items() <= dict(first).items()) for listed in lists
    )
    n, pairs = len(lists[0]), len(lists[0]) * len(lists[1])
    places = [(slow + k, fast + k + k // n, temperature + k + k // pairs) for k in range(count)]
    return [
        {name: value for listed, i in zip(lists, place, strict=True) for name, value in listed[i % len(listed)].items()}
        for place in places
    ]


def measure_naive(configs: Sequence[Mapping[str, Any]], spec: SweepSpec, folder: Path) -> dict[str, Any]:
    """Run configurations naively; return the `runs`, the seconds from the first one's beginning to the last one's end
    (`runs_seconds`) and those before and after (`once_seconds`)."""
    began = time.perf_counter()
    with local_ray(spec.concurrency * spec.threads):
        from benchmarks.naive import naive_sweep

        runs = naive_sweep(configs, folder / "naive", threads=spec.threads, concurrency=spec.concurrency)
    seconds = time.perf_counter() - began
    training = max(last["ended"] for last in runs) - min(last["began"] for last in runs)
    return {"runs": runs, "runs_seconds": training, "once_seconds": seconds - training}


def point(log: SweepLog, settings: Mapping[str, float]) -> dict[str, Any]:
    """Return what our sweep found at a combination of the grid: `rows` and `average_accuracy` as a naive run has."""
    job, index = _find(log, settings)
    sessions = aggregated(job.sessions, index)
    rows = [list(record.grid[index]) for record in job.sessions]
    return {"rows": rows, "average_accuracy": sessions[-1]["average_accuracy"]}


def _find(log: SweepLog, settings: Mapping[str, float]) -> tuple[JobLog, int]:
    for job in log.of_kind(Kind.TRIAL):
        for index, prediction in enumerate(job.predictions):
            if settings.items() <= {**job.config, **prediction}.items():
                return job, index
    raise LookupError(f"no trial has {dict(settings)}")


def prove_equal(
    chosen: Sequence[Mapping[str, float]], naive: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]
) -> None:
    """Raise `AssertionError` unless both ways give the same numbers, and the first combination as the best."""
    for settings, theirs, mine in zip(chosen, naive, ours, strict=True):
        for name in ("rows", "average_accuracy"):
            if theirs[name] != mine[name]:
                raise AssertionError(f"{name} at {dict(settings)}: naive {theirs[name]}, ours {mine[name]}")
    for way, results in (("naive", naive), ("ours", ours)):
        best = max(range(len(chosen)), key=lambda i: results[i]["average_accuracy"])
        if best != 0:
            raise AssertionError(f"{way}: {dict(chosen[best])} is better than the winner {dict(chosen[0])}")


def _print_shares(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    title = (
        f"the tree's own share, digits with {' '.join(TWO_SESSIONS)}:\n"
        "the same sweep without it (--no-stages) and with it; equal in every trial, and the same winner"
    )
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    table.add_column("grid")
    for column in ("sessions without", "with", "s without", "with", "ratio", "search alone"):
        table.add_column(column, justify="right")
    for row in rows:
        sessions = (str(row[f"{words}_sessions_trained"]) for words in ("without", "with"))
        seconds = (f"{row[f'{words}_seconds']:.1f}" for words in ("without", "with"))
        table.add_row(row["name"], *sessions, *seconds, f"{row['ratio']:.2f}", f"{row['search_ratio']:.2f}")
    console.print(table)
