"""The pure decisions of the engine: who is stopped early, who shares a GPU, who hangs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safe.errors import UserError
from sweeps.engine.heartbeat import Heartbeat
from sweeps.engine.packing import HEADROOM, Packing, even_share, fitting_share
from sweeps.ledger.ledger import Ledger
from sweeps.search.asha import Halving, rungs, survives
from sweeps.spec.machine import MOST_ON_A_GPU

Make = Callable[..., Any]


def test_rungs_are_powers_below_the_last_session() -> None:
    assert rungs(10) == (1, 3, 9)
    assert rungs(9) == (1, 3)
    assert rungs(1) == ()


@pytest.mark.parametrize(("n", "left"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (7, 3), (9, 3)])
def test_the_best_third_survives(n: int, left: int) -> None:
    scores = [0.1 * k for k in range(n)]
    assert [survives(score, scores) for score in scores] == [False] * (n - left) + [True] * left


def test_equals_stand_together() -> None:
    assert all(survives(0.5, [0.5] * 9) for _ in range(9))
    assert not survives(-math.inf, [-math.inf, 0.1])


def test_halving_compares_at_the_same_session_only(tmp_path: Path, make_spec: Make, make_session: Make) -> None:
    ledger = Ledger.create(tmp_path, make_spec())
    prediction = {"aggregation.kind": "entropy", "aggregation.temperature": 1.0, "head.logit_scale": "learned"}

    def reach(job: str, *accuracies: float) -> None:
        if job not in ledger.log.jobs:
            ledger.append("job", job=job, kind="trial", title=job, config={}, predictions=[prediction])
        for accuracy in accuracies:
            session = len(ledger.log.jobs[job].sessions) + 1
            record = make_session(session, [[accuracy] * session], sessions=10, counts=(100,) * session)
            ledger.append("session", job=job, **record.to_json())

    halving = Halving(ledger.log)
    reach("trial-00", 0.9)
    assert not halving.reason(ledger.log.jobs["trial-00"])
    reach("trial-00", 0.2, 0.2)  # its average falls to 0.43: at session 1 it still counts as it was
    assert not halving.reason(ledger.log.jobs["trial-00"]), "alone at session 3"
    reach("trial-01", 0.8)
    assert halving.reason(ledger.log.jobs["trial-01"])
    reach("trial-02", 0.95)
    assert not halving.reason(ledger.log.jobs["trial-02"])
    reach("trial-02", 0.0)
    assert not halving.reason(ledger.log.jobs["trial-02"]), "session 2 is no rung"
    again = Halving(Ledger.open(tmp_path).log)
    assert again.reason(ledger.log.jobs["trial-01"]), "a continued sweep decides alike"


def test_a_slow_candidate_is_compared_by_its_slow_learner(tmp_path: Path, make_spec: Make, make_session: Make) -> None:
    ledger = Ledger.create(tmp_path, make_spec())
    for job, slow in [("slow-00", 0.7), ("slow-01", 0.6), ("trial-00", 0.9)]:
        kind = job.partition("-")[0]
        ledger.append("job", job=job, kind=kind, title=job, config={}, predictions=[])
        metrics = {"val/slow/average_accuracy": slow, "val/accuracy": 1 - slow}
        ledger.append("session", job=job, **make_session(1, [], metrics=metrics).to_json())
    halving = Halving(ledger.log)
    assert not halving.reason(ledger.log.jobs["slow-00"])
    assert halving.reason(ledger.log.jobs["slow-01"])


@pytest.mark.parametrize(
    ("gpus", "concurrency", "share"), [(0, 4, 0), (1, 1, 1), (1, 4, 0.25), (2, 3, 0.5), (4, 2, 1), (8, 12, 0.5)]
)
def test_gpus_are_divided_evenly(gpus: int, concurrency: int, share: float) -> None:
    assert even_share(gpus, concurrency) == share
    packing = Packing(None, gpus, concurrency)
    assert packing.share == share
    if share:
        assert gpus * round(1 / share) >= min(concurrency, gpus)


@pytest.mark.parametrize("peak", [1.0, 5.0, 19.0, 24.0, 30.0, 41.0, 79.0, 81.0])
def test_what_is_packed_fits_and_one_more_would_not(peak: float) -> None:
    runs = round(1 / fitting_share(peak, 80.0))
    assert 1 <= runs <= MOST_ON_A_GPU
    assert runs == 1 or runs * peak <= HEADROOM * 80.0
    assert runs == MOST_ON_A_GPU or (runs + 1) * peak > HEADROOM * 80.0


def test_auto_begins_with_one_a_gpu_and_packs_by_the_largest_session() -> None:
    packing = Packing("auto", 1, 4)
    assert packing.share == 1
    packing.measured(10.0, 80.0)
    assert packing.share == 0.25
    packing.measured(30.0, 80.0)
    assert packing.share == 0.5
    packing.measured(10.0, 80.0)
    assert packing.share == 0.5, "a smaller session says nothing"
    asked = Packing(0.25, 1, 4)
    asked.measured(79.0, 80.0)
    assert asked.share == 0.25, "what was asked for stays"
    assert Packing("auto", 0, 4).share == 0


def test_a_run_waits_for_room_and_may_ask_for_less_by_then() -> None:
    packing = Packing("auto", 2, 8)
    assert packing.fits([])
    assert packing.fits([1.0])
    assert not packing.fits([1.0, 1.0])
    packing.measured(10.0, 80.0)
    assert packing.fits([1.0] + [0.25] * 3)
    assert not packing.fits([1.0] + [0.25] * 4)
    thirds = Packing(1 / 3, 1, 3)
    assert thirds.fits([1 / 3] * 2)
    assert not thirds.fits([1 / 3] * 3)
    assert Packing(None, 0, 4).fits([0.0] * 100), "without GPUs there is always room"
    with pytest.raises(UserError, match="--gpus-per-trial 2: there are 1 GPUs"):
        Packing(2, 1, 1)
    with pytest.raises(UserError, match=r"--gpus-per-trial 0\.5: there is no GPU"):
        Packing(0.5, 0, 1)
    assert Packing(2, 4, 2).share == 2


def test_out_of_memory_lowers_the_packing_down_to_one_a_gpu() -> None:
    packing, shares = Packing(0.25, 2, 8), []
    while packing.lower(packing.share):
        shares.append(packing.share)
    assert shares == [1 / 3, 1 / 2, 1]
    packing = Packing(0.25, 2, 8)
    assert [packing.lower(0.25), packing.share, packing.lower(0.25), packing.share] == [True, 1 / 3, True, 1 / 3]
    assert [packing.lower(1 / 2), packing.lower(0.25), packing.share] == [True, True, 1]
    packing = Packing("auto", 1, 4)
    packing.measured(10.0, 80.0)
    assert packing.lower(packing.share)
    packing.measured(11.0, 80.0)
    assert packing.share == 1 / 3, "the figures were wrong once"
    assert not Packing(None, 0, 4).lower(0.0)


def test_a_run_is_silent_when_its_file_did_not_change_for_the_timeout(tmp_path: Path) -> None:
    now = 100.0
    heartbeat = Heartbeat(10, clock=lambda: now)
    heartbeat.started("a", tmp_path / "a")
    heartbeat.started("b", tmp_path / "b")
    now += 9
    heartbeat.look()
    assert heartbeat.silent() == []
    (tmp_path / "a").touch()
    os.utime(tmp_path / "a", ns=(5, 5))  # a clock that is decades behind
    now += 2
    heartbeat.look()
    assert heartbeat.silent() == ["b"]
    heartbeat.ended("b")
    now += 8.5
    heartbeat.sign("a")
    now += 9
    assert heartbeat.silent() == []
    now += 2
    assert heartbeat.silent() == ["a"]
    forever = Heartbeat(None, clock=lambda: now)
    forever.started("a", tmp_path / "a")
    now += 1e9
    assert forever.silent() == []
