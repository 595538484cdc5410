from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sweeps.ledger import JobLog, Ledger
from sweeps.replicate import final_config, summarise
from sweeps.selection import leaderboard, score_trial

NewJob = Callable[..., JobLog]


@pytest.fixture
def job(make_session: Callable[..., dict[str, Any]], predictions: list[dict[str, Any]]) -> NewJob:
    """Give a function that makes a trial from one grid of accuracy rows per session."""

    def make(id: str, grids: list[list[list[float]]], status: str = "FINISHED") -> JobLog:
        sessions = [make_session(session, grid) for session, grid in enumerate(grids, start=1)]
        return JobLog(id, "trial", id, {}, predictions, status=status, sessions=sessions)

    return make


def test_the_temperature_with_the_highest_average_accuracy_is_taken(job: NewJob) -> None:
    trial = job("trial-00", [[[0.8], [0.9], [0.7]], [[0.8, 0.6], [0.2, 0.6], [0.7, 0.7]]])
    scored = score_trial(trial, "average_accuracy", "val")
    # Accuracies over 100 and 300 images: 0.8 and 0.65; 0.9 and 0.5; 0.7 and 0.7.
    assert scored.prediction["aggregation.temperature"] == 0.1
    assert scored.score == pytest.approx((0.8 + 0.65) / 2)
    assert scored.sessions[0]["accuracy"] == 0.8
    assert scored.sessions[1]["accuracy"] == pytest.approx(0.65)
    assert scored.sessions[1]["forgetting"] == pytest.approx(0.0)


def test_of_equal_temperatures_the_one_nearest_to_one_wins(job: NewJob) -> None:
    tied = job("trial-00", [[[0.8]] * 3, [[0.8, 0.6]] * 3])
    assert score_trial(tied, "average_accuracy", "val").prediction["aggregation.temperature"] == 1.0


def test_another_objective_chooses_otherwise(job: NewJob) -> None:
    trial = job("trial-00", [[[0.8], [0.9], [0.7]], [[0.8, 0.6], [0.2, 0.6], [0.7, 0.7]]])
    assert score_trial(trial, "accuracy", "val").prediction["aggregation.temperature"] == 10.0


def test_only_finished_trials_stand_on_the_board_and_ties_go_to_the_lowest_id(job: NewJob) -> None:
    good, better = [[[0.5]] * 3, [[0.5, 0.5]] * 3], [[[0.9]] * 3, [[0.9, 0.9]] * 3]
    jobs = [
        job("trial-00", good),
        job("trial-01", better, "STOPPED"),
        job("trial-02", better, "FAILED"),
        job("trial-03", better, "KILLED"),
        job("trial-04", good),
        job("trial-05", better[:1], "RUNNING"),
    ]
    assert [entry.trial for entry in leaderboard(jobs, "average_accuracy", "val")] == ["trial-00", "trial-04"]


def test_test_images_cannot_steer_a_search_on_the_holdout(job: NewJob) -> None:
    trial = job("trial-00", [[[0.8]] * 3])
    trial.sessions[0]["split"] = "test"
    with pytest.raises(ValueError, match="only 'val' may steer"):
        leaderboard([trial], "average_accuracy", "val")


def test_final_runs_use_all_training_images_and_shift_seed_and_class_order(
    finished_sweep: Callable[[], Ledger],
) -> None:
    chosen = finished_sweep().log.jobs["trial-01"].config
    assert (chosen["data.evaluate_on"], chosen["data.holdout_share"]) == ("holdout", 0.2)
    final = final_config(chosen, 2)
    changed = {name: value for name, value in final.items() if value != chosen[name]}
    assert changed == {
        "data.evaluate_on": "test",
        "data.holdout_share": 0.0,
        "seed": chosen["seed"] + 2,
        "class_order_seed": chosen["class_order_seed"] + 2,
    }


def test_mean_and_sample_deviation_agree_with_numpy() -> None:
    values = [0.91, 0.87, 0.95, 0.9]
    runs = [{"test/accuracy": value} for value in values]
    found = summarise([{**runs[0], "test/odd": 1.0}, *runs[1:]])
    assert list(found) == ["test/accuracy"]
    assert found["test/accuracy"]["mean"] == pytest.approx(np.mean(values), abs=1e-15)
    assert found["test/accuracy"]["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-15)
    assert found["test/accuracy"]["values"] == values
    assert summarise([{"a": 0.5}])["a"] == {"mean": 0.5, "std": None, "values": [0.5]}
