"""`python -m benchmarks --suite sweep`: what it counts, which naive runs it chooses, and that it sees a difference."""

from __future__ import annotations

from collections import Counter
from types import ModuleType
from typing import Any

import pytest

from benchmarks.simulator import Rehearsal
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.studies.plan import plan_of


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> ModuleType:
    """Return the suite's module. The package is not installed."""
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath))
    import benchmarks.sweep

    return benchmarks.sweep


def whole(bench: ModuleType) -> dict[str, Any]:
    return {**bench.SLOW, **bench.FAST, **bench.TEMPERATURES}


def test_the_grid_counts_what_the_bar_says(bench: ModuleType) -> None:
    plan = plan_of(bench.grid_spec("whole", whole(bench)))
    assert plan.spec.trials == 16
    assert plan.predictions == 8
    assert plan.search.naive == 4 * 4 * 8 * 5
    assert plan.search.unshared == 4 * 4 * 5
    assert plan.search.trained == 4 + 4 * 4 * 4


@pytest.mark.parametrize(("name", "first_sessions"), [("8 slow x 2 fast", 8), ("2 slow x 8 fast", 2)])
def test_the_trees_grids_share_first_sessions(bench: ModuleType, name: str, first_sessions: int) -> None:
    plan = plan_of(bench.grid_spec("tree", bench.TREES[name], *bench.TWO_SESSIONS))
    assert plan.sessions == 2
    assert plan.search.naive == plan.search.unshared == 16 * 2
    assert plan.search.trained == first_sessions + 16


@pytest.mark.parametrize(("workers", "runs"), [(1, 8), (2, 8), (3, 9), (8, 8), (16, 16)])
def test_every_worker_has_equally_many_runs(bench: ModuleType, workers: int, runs: int) -> None:
    assert bench.workers_share(8, workers) == runs


def test_the_subset_is_spread_evenly_from_its_first_one(bench: ModuleType) -> None:
    first = list(bench.combinations(whole(bench)))[77]
    subset = bench.subset(8, {**first, "seed": 0})
    assert subset[0] == first
    for grid, times in ((bench.SLOW, 2), (bench.FAST, 2), (bench.TEMPERATURES, 1)):
        seen = Counter(tuple(settings[name] for name in grid) for settings in subset)
        assert dict.fromkeys(seen, times) == seen
        assert len(seen) * times == 8
    every = bench.subset(128, first)
    assert {tuple(settings.items()) for settings in every} == {
        tuple(settings.items()) for settings in bench.combinations(whole(bench))
    }


def made_up(job: Job) -> list[SessionRecord]:
    """Return two sessions whose accuracies tell the settings: 0.5 + feature_weight / 1000 + temperature / 1000."""
    base = 0.5 + job.config["fast.feature_weight"] / 1000
    rows = [base + prediction["aggregation.temperature"] / 1000 for prediction in job.predictions]
    return [
        SessionRecord(
            *(session, 2, "val", {}),
            grid=tuple((row,) * session for row in rows),
            grid_metrics=({},) * len(rows),
            counts=(10,) * session,
        )
        for session in (1, 2)
    ]


def test_our_numbers_are_found_by_settings_and_compared_exactly(bench: ModuleType) -> None:
    spec = bench.grid_spec("whole", whole(bench))
    log: SweepLog = Rehearsal(spec).run(lambda job: made_up(job) if job.kind == Kind.TRIAL else [])
    best = {"fast.feature_weight": 24.0, "aggregation.temperature": 100.0}
    first = next(result for result in bench.combinations(whole(bench)) if best.items() <= result.items())
    chosen = bench.subset(8, first)
    ours = [bench.point(log, settings) for settings in chosen]
    for settings, result in zip(chosen, ours, strict=True):
        accuracy = 0.5 + settings["fast.feature_weight"] / 1000 + settings["aggregation.temperature"] / 1000
        assert result["rows"] == [[accuracy], [accuracy] * 2]
        assert result["average_accuracy"] == pytest.approx(accuracy, abs=1e-12)
    bench.prove_equal(chosen, ours, ours)
    other = [*ours[:5], {**ours[5], "rows": [[ours[5]["rows"][0][0] + 1e-9], ours[5]["rows"][1]]}, *ours[6:]]
    with pytest.raises(AssertionError, match="rows at"):
        bench.prove_equal(chosen, other, ours)
    with pytest.raises(AssertionError, match="is better than the winner"):
        bench.prove_equal(chosen[::-1], ours[::-1], ours[::-1])
