"""What a sweep will cost, counted before it runs and held against what it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from safe.config import load_config
from safe.training.cost import session_costs
from safe.training.trainer import SafeTrainer
from safe.types import Working
from sweeps.cli import main
from sweeps.spec.devices import parse_devices
from sweeps.spec.options import build_spec
from sweeps.studies.forecast import Reckoned, Rounds
from sweeps.studies.plan import Plan, plan_of
from sweeps.studies.probe import Speed, probe

GRID = """
slow.diag_weight: {grid: [0, 0.01, 0.1, 1]}
fast.cross_weight: {grid: [0, 0.1, 1, 10]}
aggregation.temperature: {grid: [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 100]}
"""


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Give the space of 4 slow settings, 4 fast ones and 8 temperatures."""
    file = tmp_path / "grid.yaml"
    file.write_text(GRID)
    return file


def planned(**asked: Any) -> Plan:
    return plan_of(build_spec(**{"name": "a", "dataset": "digits", "overrides": ["runtime.device=cpu"], **asked}))


def test_the_plan_of_the_exhaustive_grid_on_digits(
    grid: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [
        "plan",
        "--dataset",
        "digits",
        "--search",
        "grid",
        "--space",
        str(grid),
        "--no-probe",
        "--results",
        str(tmp_path / "results"),
    ]
    assert main([*words, "runtime.device=cpu"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[-1] for line in lines if line and line[-1] in ("640", "80", "68")] == ["640", "80", "68"]
    assert main([*words, "--json", "runtime.device=cpu"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["exact"]
    assert (printed["trials"], printed["sessions"], printed["predictions"]) == (16, 5, 8)
    assert printed["work"] == {
        "sessions_naive": 640,
        "sessions_unshared_trials": 80,
        "sessions_trained": 68,
        "final": {"sessions_trained": 45},
        "race": {"sessions_trained": 34},
    }
    assert (printed["stages"]["slow"], printed["stages"]["fast"]) == (4, 64)
    assert not (tmp_path / "results").exists(), "a plan leaves nothing behind"


def test_of_a_search_that_learns_the_plan_is_a_bound() -> None:
    staged, tpe, random = (planned(trials=10, search=search).search for search in ("staged", "tpe", "random"))
    # Ten slow settings with one session each and two heads, then ten trials whose four later sessions are their own.
    assert (staged.trained, staged.unshared, staged.naive) == (10 + 40, 20 + 50, 20 + 550)
    assert (tpe.trained, tpe.unshared, tpe.naive) == (50, 50, 550)
    assert random == tpe, "trials drawn from ranges share nothing"
    assert not planned(trials=10, search="staged").exact


def test_settings_of_the_heads_and_of_prediction_train_nothing(tmp_path: Path) -> None:
    file = tmp_path / "heads.yaml"
    file.write_text("head.projection_dim: {grid: [100, 200, 300]}\naggregation.kind: {grid: [entropy, mean]}\n")
    plan = planned(search="grid", space=file).search
    assert (plan.naive, plan.unshared, plan.trained) == (30, 15, 5)
    assert plan.stages == {"slow": 1, "fast": 4, "features": 2 * 5 + 2 * 4, "readout": 3 * 9, "logits": 3 * 9}


def test_first_k_counts_the_sessions_that_trials_run(grid: Path) -> None:
    plan = planned(search="grid", space=grid, selection="first-k", first_k=2)
    assert (plan.sessions, plan.search.naive, plan.search.trained) == (2, 16 * 2 * 8, 4 + 16)
    assert plan.final.trained == 45, "chosen, preset and rival"


def test_the_estimate_adds_up_by_hand(grid: Path) -> None:
    plan = planned(search="grid", space=grid, concurrency=2, seeds=1, audit=False, finalists=0)
    speed = Speed(train=0.001, read=0.0, head=0.5, images=(100,) * 5, judged=(10,) * 5)
    # Epochs of the digits preset: 10 in session 1, 5 later. Heads: of every slow setting one a session, of every trial
    # one in each of the four later sessions.
    search = 4 * (10 * 100 * 0.001 + 5 * 0.5) + 64 * 5 * 100 * 0.001 + 16 * 4 * 0.5
    final = 2 * ((10 + 4 * 5) * 100 * 0.001 + 9 * 0.5)
    forecast = Rounds(plan, speed).on(2)
    assert (forecast.search.work, forecast.final.work) == pytest.approx((search, final))
    assert (forecast.search.makespan, forecast.final.makespan) == pytest.approx((search / 2, final / 2))
    assert Rounds(plan, speed).on(1).seconds == pytest.approx(search + final)


def test_the_time_of_a_staged_search_is_that_of_trials_not_of_slow_settings_alone() -> None:
    plan = planned(trials=4, search="staged", seeds=1, control=False, audit=False, finalists=0)
    speed = Speed(train=0.001, read=0.0, head=0.0, images=(100,) * 5, judged=(10,) * 5)
    forecast = Rounds(plan, speed).on(1)
    assert forecast.search.work == pytest.approx(4 * 10 * 0.1 + 4 * 4 * 5 * 0.1)
    whole = 10 * 0.1 + 4 * 5 * 0.1
    assert forecast.final.work == pytest.approx(whole)
    # With a race: half of the search's 20 sessions are two more runs, and the rival is refit too.
    raced = Rounds(planned(trials=4, search="staged", seeds=1, control=False, audit=False), speed).on(1)
    assert raced.search.work == pytest.approx(forecast.search.work + 2 * whole)
    assert raced.final.work == pytest.approx(2 * whole)


def test_a_gpu_takes_what_its_published_peak_says() -> None:
    device, number = parse_devices("H100x8")
    assert (device.name, number) == ("h100", 8)
    assert device.seconds(989e12, 0) == pytest.approx(1 / 0.4)
    assert device.seconds(0, 67e12) == pytest.approx(1 / 0.4)
    plan = planned(dataset="omnibenchmark", trials=8, audit=False, overrides=["data.root=/nowhere"])
    one, eight = (Rounds(plan, Reckoned(device)).on(workers) for workers in (1, 8))
    work = sum(cost.flops for cost in session_costs(plan.refits[0])) / (0.4 * 989e12)
    assert one.final.work == pytest.approx(len(plan.refits) * work, rel=0.05)
    assert one.seconds == pytest.approx(one.search.work + one.final.work)
    assert eight.seconds >= one.seconds / 8


@pytest.mark.parametrize(("words", "told"), [("h10", "Did you mean 'h100'"), ("h100x0", "at least one device")])
def test_an_unknown_gpu_is_refused(words: str, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["plan", "--on", words, "--results", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err


def test_a_plan_does_without_the_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["plan", "--dataset", "omnibenchmark", "--results", str(tmp_path), "data.root=/nowhere"]
    assert main([*words, "--on", "a100x4"]) == 0
    shown = capsys.readouterr().out
    assert "28,985 gradient steps" in " ".join(shown.split())
    assert "reckoned for a100x4 by 40% of its published peak" in " ".join(shown.split())
    assert "in all with 10 s until Ray and its workers are up" in " ".join(shown.split())
    with pytest.warns(UserWarning, match="not there.*--on h100x8 reckons a time"):
        assert main(words) == 0
    assert "estimated time" not in capsys.readouterr().out
    assert main([*words, "--on", "a100x4", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["workers"], printed["run"]["steps"]) == (4, 28_985)
    assert printed["start_seconds"] == 10
    assert printed["search_seconds"] + printed["final_seconds"] >= printed["critical_seconds"]


def test_the_probe_times_the_real_thing_without_changing_it() -> None:
    flat = {**load_config("digits").flat(), "runtime.device": "cpu", "head.projection_dim": 64}
    before = torch.random.get_rng_state()
    told = list[Working]()
    speed = probe(flat, told.append)
    assert {one.doing for one in told} >= {"training", "closing"}
    assert torch.equal(torch.random.get_rng_state(), before)
    assert min(speed.train, speed.read, speed.head) > 0
    sessions = SafeTrainer(load_config("digits")).stream.sessions
    assert speed.images == tuple(len(session.train) for session in sessions)
    assert speed.judged == tuple(len(session.evaluation) for session in sessions)
