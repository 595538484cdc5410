"""Numbers of the made-up sweep, worked out here once more by hand or with numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sweeps.report.cost import disk_usage
from sweeps.report.gather import Gathered, curves, last_metric, matrix, prediction_scores, progress
from sweeps.report.tree import stages, tree

from .made_up import make_log

LEVELS = 0.8 + 0.1 * np.sin(1.7 * np.arange(12))
BEST = int(LEVELS.argmax())


def falling(top: float, sessions: int) -> list[float]:
    """Accuracy after each session, where groups of equal size lose a point a session."""
    return [top - 0.01 * (session - 1) / 2 for session in range(1, sessions + 1)]


def test_curves_are_mean_and_deviation_over_the_final_runs() -> None:
    by_label = {curve.label: curve for curve in curves(Gathered(make_log()))}
    assert list(by_label) == ["SAFE", "slow learner", "fast learner", "control"]
    runs = np.array([falling(LEVELS[BEST] + 0.01 * repeat, 4) for repeat in range(3)])
    assert by_label["SAFE"].mean == pytest.approx(runs.mean(axis=0))
    assert by_label["SAFE"].std == pytest.approx(runs.std(axis=0, ddof=1))
    assert by_label["slow learner"].mean == pytest.approx(runs.mean(axis=0) - 0.02)
    assert by_label["control"].mean == pytest.approx(falling(0.82, 4))
    assert by_label["SAFE"].runs == 3


def test_one_run_has_no_deviation() -> None:
    drawn = curves(Gathered(make_log(seeds=1, control=False)))
    assert all(curve.std == [None] * 4 for curve in drawn)


def test_the_matrix_is_the_mean_over_the_final_runs() -> None:
    accuracies = matrix(Gathered(make_log()))
    assert accuracies is not None
    assert (accuracies.runs, accuracies.split, accuracies.of_finals) == (3, "test", True)
    top = LEVELS[BEST] + 0.01
    for session in range(1, 5):
        assert accuracies.rows[session - 1] == pytest.approx(
            [top - 0.01 * (session - g) for g in range(1, session + 1)]
        )


def test_without_rows_of_final_runs_the_matrix_is_the_chosen_trials() -> None:
    log = make_log()
    for job in log.of_kind("final"):
        job.sessions = [replace(record, row=()) for record in job.sessions]
    accuracies = matrix(Gathered(log))
    assert accuracies is not None
    assert (accuracies.runs, accuracies.split, accuracies.of_finals) == (1, "val", False)
    assert accuracies.rows[3][0] == pytest.approx(LEVELS[BEST] - 0.03)


def test_trials_stand_best_first_and_unfinished_ones_last() -> None:
    log = make_log()
    log.apply({"type": "status", "job": "trial-03", "status": "FAILED", "reason": "no memory"})
    gathered = Gathered(log)
    order = [int(trial.id.removeprefix("trial-")) for trial in gathered.trials]
    expected = [int(index) for index in np.argsort(-LEVELS) if index != 3]
    assert order == [*expected, 3]
    assert [trial.rank for trial in gathered.trials] == [*range(1, 12), None]
    assert gathered.trials[-1].reason == "no memory"


def test_every_setting_of_prediction_has_its_score() -> None:
    scored = prediction_scores(Gathered(make_log()), "trial-00")
    average = np.mean(falling(0.8, 4))
    assert [settings["aggregation.temperature"] for settings, _ in scored] == [0.1, 1.0, 10.0]
    assert [score for _, score in scored] == pytest.approx([average - 0.02, average, average - 0.02])


def test_progress_counts_what_was_trained() -> None:
    course = progress(Gathered(make_log()))
    # Odd trials took session 1 from the store.
    assert course.sessions == list(np.cumsum([4 if index % 2 == 0 else 3 for index in range(12)]))
    scores = [np.mean(falling(level, 4)) for level in LEVELS]
    assert course.scores == pytest.approx(scores)
    assert course.best == pytest.approx(np.maximum.accumulate(scores))


def test_progress_of_what_is_better_small_goes_down() -> None:
    course = progress(Gathered(make_log(objective="average_accuracy:min")))
    assert course.best[-1] == min(score for score in course.scores if score is not None)


def test_the_tree_shares_session_1_by_slow_settings() -> None:
    nodes = tree(Gathered(make_log()))
    keys = [(0.0 if i % 5 == 4 else 10.0 ** (i % 4 - 3), ("adapter", "ssf")[i % 2]) for i in range(12)]
    assert [(n.settings["slow.diag_weight"], n.settings["pet.kind"]) for n in nodes] == list(dict.fromkeys(keys))
    assert sorted(trial for node in nodes for trial in node.trials) == [f"trial-{i:02d}" for i in range(12)]
    for node in nodes:
        assert node.trained + node.reused == len(node.trials)  # one first session a trial
        assert sum(len(child.trials) for child in node.children) == len(node.trials)
        assert sum(child.trained for child in node.children) == 3 * len(node.trials)
        assert all(list(child.settings) == ["fast.cross_weight"] for child in node.children)
    assert sum(node.reused for node in nodes) == 6


def test_stages_are_added_up_over_all_runs() -> None:
    counts = stages(Gathered(make_log()))
    # 12 trials, 3 final runs and 3 of the control with 4 sessions each; 6 reused one.
    assert counts == {"slow": {"computed": 66, "reused": 6, "seconds": 72.0, "saved_seconds": 0.0}}


def test_a_metric_that_one_run_lacks_is_absent() -> None:
    gathered = Gathered(make_log())
    assert last_metric(gathered.finals, "forgetting") is not None
    del gathered.finals[1].sessions[-1].metrics["test/forgetting"]
    assert last_metric(gathered.finals, "forgetting") is None
    assert last_metric([], "accuracy") is None


def test_disk_usage_counts_files_of_subfolders(tmp_path: Path) -> None:
    for name, sizes in {"runs/a": [10, 20], "runs/b": [5], "report": [99], "ray": []}.items():
        (tmp_path / name).mkdir(parents=True)
        for index, size in enumerate(sizes):
            (tmp_path / name / str(index)).write_bytes(b"x" * size)
    (tmp_path / "ledger.jsonl").write_text("{}")
    assert disk_usage(tmp_path) == {"runs": (3, 35)}
    assert disk_usage(tmp_path / "missing") == {}
