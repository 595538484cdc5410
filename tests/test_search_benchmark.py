"""`python -m benchmarks --suite search`: rehearsals over a made-up table whose costs can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe.config import load_config
from safe.types import Provenance, SessionResult
from sweeps.ledger.jobs import Job, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.spec.specs import SweepSpec
from sweeps.studies.simulator import Rehearsal

SLOW_VALUES, FAST_VALUES = [0.0, 0.01, 1.0], [0.0, 1.0, 5.0]


def table() -> SweepLog:
    """A finished grid of 3 slow and 3 fast settings on two sessions; best at diag 0.01 and cross 5."""
    spec = SweepSpec(
        name="table",
        dataset="digits",
        trials=9,
        seeds=1,
        search="grid",
        holdout_share=0.2,
        space={"slow.diag_weight": {"grid": SLOW_VALUES}, "fast.cross_weight": {"grid": FAST_VALUES}},
        base=load_config("digits").flat(),
        threads=1,
        concurrency=1,
        control=False,
        audit=False,
    )

    def runner(job: Job) -> list[SessionRecord]:
        alone = 0.5 - abs(job.config["slow.diag_weight"] - 0.01) / 10
        accuracy = alone + job.config["fast.cross_weight"] / 100
        return [
            SessionRecord.of(
                SessionResult(session, 2, "val", session, {"slow/average_accuracy": alone}),
                Provenance("d", "w", "0,1"),
                [10] * session,
                [[accuracy] * session],
            )
            for session in ((1, 2) if job.kind == Kind.TRIAL else ())
        ]

    return Rehearsal(spec).run(runner)


def test_a_rehearsal_pays_for_each_training_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks import search

    monkeypatch.setattr(search, "TRIALS", 9)
    results = search.Results(table())
    assert (results.sessions, results.cost_of_all, results.best) == (2, 3 + 9, pytest.approx(0.55))
    trained: set[str] = set()
    trial = {"slow.diag_weight": 1.0, "fast.cross_weight": 5.0}
    other = {"slow.diag_weight": 1.0, "fast.cross_weight": 0.0}
    costs = [
        results.cost(kind, config, trained)
        for kind, config in ((Kind.SLOW, trial), (Kind.TRIAL, trial), (Kind.TRIAL, other))
    ]
    assert costs == [1, 1, 1]
    assert results.cost(Kind.TRIAL, other, trained) == 0
    assert results.cost(Kind.TRIAL, {**trial, "slow.diag_weight": 0.0}, trained) == 2
    for name in search.SEARCHES:
        curve = search.rehearse(results, name, seed=0)
        assert curve == search.rehearse(results, name, seed=0)
        assert len(curve) == 9
        spent, best = zip(*curve, strict=True)
        assert list(spent) == sorted(spent)
        assert list(best) == sorted(best)
        assert spent[-1] <= results.cost_of_all
        # Staged pays three slow settings before its first trial, which then trains one session only.
        assert spent[0] == (4 if name == "staged" else 2)
    assert search.rehearse(results, "tpe", 0)[-1] == (12, pytest.approx(0.55)), "nothing is proposed twice"


def test_a_point_of_the_curve_counts_only_repeats_that_have_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    from benchmarks import search

    curves = [[(5, 0.5), (10, 0.7)], [(5, 0.6), (20, 0.9)], [(12, 0.8)]]
    assert search.row("tpe", 4, curves) == {"name": "tpe", "sessions": 4, "repeats": 0}
    ten = search.row("tpe", 10, curves)
    assert (ten["repeats"], ten["mean"], ten["std"]) == (2, pytest.approx(0.65), pytest.approx(0.05))
    assert search.row("tpe", 20, curves)["mean"] == pytest.approx((0.7 + 0.9 + 0.8) / 3)
