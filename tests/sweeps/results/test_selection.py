"""Choosing a trial and its settings of prediction; fronts of several objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from safe.errors import UserError
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.ledger import Ledger
from sweeps.results.selection import choose, leaderboard, pack, pareto, score_points, score_trial, slow_objective
from sweeps.results.statistics import summarise
from sweeps.spec.configs import final_config
from sweeps.spec.objective import Objective

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


def test_a_job_that_is_packed_is_scored_as_before_and_only_its_best_point_is_kept(job: NewJob) -> None:
    grids = [[[0.8], [0.9], [0.7]], [[0.8, 0.6], [0.2, 0.6], [0.7, 0.7]]]
    trial, untouched = job("trial-00", grids), job("trial-00", grids)
    best = score_trial(trial, "average_accuracy", "val")
    curve = best.sessions
    pack(trial)
    ((_, kept),) = trial.scored.values()
    assert (kept, "sessions" in vars(kept[0])) == ((best,), False)
    assert score_trial(trial, "average_accuracy", "val") is kept[0]
    assert score_trial(trial, "average_accuracy", "val").sessions == curve
    assert score_points(trial, "average_accuracy", "val") == score_points(untouched, "average_accuracy", "val")
    assert score_trial(trial, "accuracy", "val") == score_trial(untouched, "accuracy", "val")
    assert {len(points) for _, points in trial.scored.values()} == {1}
    assert trial.complete
    trial.sessions = list(trial.sessions)
    assert trial.sessions == untouched.sessions
    assert score_points(trial, "average_accuracy", "val") == score_points(untouched, "average_accuracy", "val")


def test_forgetting_at_a_setting_has_the_parts_that_the_grid_tells(job: NewJob) -> None:
    trial = job("trial-00", [[[0.8], [0.9], [0.7]], [[0.5, 0.6], [0.2, 0.6], [0.7, 0.7]]])
    assert "forgetting_within" not in score_trial(trial, "average_accuracy", "val").sessions[-1]
    inner = [[[0.9], [0.9], [0.9]], [[0.7, 0.8], [0.9, 0.9], [0.9, 0.9]]]
    trial.sessions = [replace(r, grid_within=tuple(map(tuple, g))) for r, g in zip(trial.sessions, inner, strict=True)]
    scored = score_trial(trial, "forgetting_within:max", "val")
    assert scored.prediction["aggregation.temperature"] == 0.1
    assert scored.score == pytest.approx(0.2)
    assert scored.sessions[-1]["forgetting_confusion"] == pytest.approx(0.1)
    assert scored.sessions[-1]["accuracy_within_session"] == pytest.approx((0.7 * 100 + 0.8 * 300) / 400)


def test_of_equal_temperatures_the_one_nearest_to_one_wins(job: NewJob) -> None:
    tied = job("trial-00", [[[0.8]] * 3, [[0.8, 0.6]] * 3])
    assert score_trial(tied, "average_accuracy", "val").prediction["aggregation.temperature"] == 1.0


def test_a_session_that_is_done_again_is_scored_again(finished_sweep: Callable[[], Ledger], make_session: Any) -> None:
    ledger = finished_sweep()
    trial = ledger.log.jobs["trial-00"]
    assert score_trial(trial, "accuracy", "val").score == pytest.approx((0.8 * 100 + 0.6 * 300) / 400)
    again = make_session(2, [[0.8, 0.4], [0.8, 1.0], [0.8, 0.5]])
    ledger.append("session", job=trial.id, **again.to_json())
    assert score_trial(trial, "accuracy", "val").score == pytest.approx((0.8 * 100 + 1.0 * 300) / 400)
    ledger.close()


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
    trial.sessions[0] = replace(trial.sessions[0], split="test")
    with pytest.raises(ValueError, match="only 'val' may steer"):
        leaderboard([trial], "average_accuracy", "val")


def test_the_pareto_front_is_what_nothing_dominates(job: NewJob) -> None:
    """Accuracies after session 2 over 100 and 300 images; forgetting is that of the first group."""
    jobs = [
        job("trial-00", [[[0.9]] * 3, [[0.8, 0.8], [0.5, 0.9], [0.9, 0.5]]]),
        job("trial-01", [[[0.7]] * 3, [[0.7, 0.7], [0.6, 0.8], [0.8, 0.4]]]),
        job("trial-02", [[[0.9]] * 3, [[0.1, 0.1], [0.1, 0.1], [0.9, 0.9]]], "FAILED"),
    ]
    # (accuracy, forgetting): trial-00 (0.8, 0.1), (0.8, 0.4), (0.6, 0); trial-01 (0.7, 0), (0.75, 0.1), (0.5, -0.1).
    front = pareto(jobs, "accuracy,forgetting", "val")
    points = [(point.trial, point.prediction["aggregation.temperature"]) for point in front]
    assert points == [("trial-00", 0.1), ("trial-01", 0.1), ("trial-01", 10.0)]
    assert [point.values for point in front] == [
        pytest.approx(values) for values in ((0.8, 0.1), (0.7, 0.0), (0.5, -0.1))
    ]
    best = choose(jobs, "accuracy,forgetting", "val")
    assert best == front[0]
    least = choose(jobs, "forgetting,accuracy", "val")
    assert least is not None
    assert (least.trial, least.prediction) == (front[-1].trial, front[-1].prediction)


def test_equal_points_of_the_front_stand_once(job: NewJob) -> None:
    same = [[[0.8]] * 3, [[0.8, 0.8]] * 3]
    front = pareto([job("trial-00", same), job("trial-01", same)], "accuracy,forgetting", "val")
    assert [(p.trial, p.prediction["aggregation.temperature"]) for p in front] == [("trial-00", 1.0)]


def test_any_logged_metric_can_be_the_objective(job: NewJob) -> None:
    jobs = [job(f"trial-{i:02d}", [[[0.5]] * 3, [[0.5, a]] * 3]) for i, a in enumerate((0.4, 0.6))]
    for index, trial in enumerate(jobs):
        last = trial.sessions[-1]
        trial.sessions[-1] = replace(
            last,
            metrics={**last.metrics, "val/slow/accuracy": 0.5 + index, "time/train_seconds": 2.0 - index},
            losses=((1, {"train/fast/ce": 3.0}), (2, {"train/fast/ce": 1.0 + index})),
            grid_metrics=tuple({"nll": tau + index} for tau in (0.2, 0.3, 0.1)),
        )
    for objective, trial, value in (
        ("slow/accuracy", "trial-01", 1.5),
        ("time/train_seconds", "trial-01", 1.0),
        ("train/fast/ce", "trial-00", 1.0),
        ("nll", "trial-00", 0.1),
        ("forgetting:max,accuracy", "trial-01", 0.0),
    ):
        best = choose(jobs, objective, "val")
        assert best is not None
        assert (best.trial, best.score) == (trial, pytest.approx(value)), objective
    with pytest.raises(UserError, match="no finished trial has the metric fast/ece"):
        choose(jobs, "fast/ece", "val")
    assert choose([], "accuracy", "val") is None


def test_slow_settings_are_judged_by_the_slow_learner(job: NewJob) -> None:
    jobs = [job(f"slow-{i:02d}", [[]]) for i in range(4)]
    values = [(0.5, 0.3), (0.7, 0.1), (0.7, 0.2)]
    for trial, (average, forgetting) in zip(jobs, values, strict=False):
        alone = {"val/slow/average_accuracy": average, "val/slow/forgetting": forgetting}
        trial.sessions[-1] = replace(trial.sessions[-1], metrics={**trial.sessions[-1].metrics, **alone})
    jobs[3].status = "FAILED"
    known = [trial for trial in jobs if trial.status == "FINISHED"]
    assert slow_objective(known, "average_accuracy", "val") == Objective("slow/average_accuracy", True)
    assert slow_objective(known, "forgetting", "val") == Objective("slow/forgetting", False)
    assert slow_objective(known, "time/x", "val") == Objective("slow/average_accuracy", True), "no learner's own"


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
    stats = summarise([{**runs[0], "test/odd": 1.0}, *runs[1:]])
    assert list(stats) == ["test/accuracy"]
    assert stats["test/accuracy"]["mean"] == pytest.approx(np.mean(values), abs=1e-15)
    assert stats["test/accuracy"]["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-15)
    assert stats["test/accuracy"]["values"] == values
    assert summarise([{"a": 0.5}])["a"] == {"mean": 0.5, "std": None, "values": [0.5]}
