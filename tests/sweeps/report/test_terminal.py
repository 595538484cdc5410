"""The tables of a sweep on the terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from rich.console import Console

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Job, Kind, job_id
from sweeps.ledger.ledger import Ledger, SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.report.page import render
from sweeps.report.sections import report_page
from sweeps.report.terminal import describe, print_mlflow, show
from sweeps.results.summary import difference, sweep_summary
from sweeps.search.random_ import draw
from sweeps.spec.titles import short_value, title_of, trial_title
from sweeps.spec.typed import BY_MAKE
from tracking.recorder import Status

from .made_up import make_log


def test_the_outcome_has_every_part(finished_sweep: Callable[[], Ledger]) -> None:
    summary = sweep_summary(finished_sweep().log)
    parts = "name dataset evaluate_on search selection honest objective objectives slow trials enough baselines race"
    assert list(summary) == [
        *parts.split(),
        "selected",
        "importance",
        "edges",
        "pareto",
        "final",
        "control",
        "difference",
        "optimism_gap",
        "work",
        "mlflow",
    ]
    assert (summary["objective"], summary["honest"], summary["pareto"]) == ("val/average_accuracy", True, None)
    assert (summary["name"], summary["dataset"], summary["selection"]) == ("demo", "digits", "holdout")
    trial = summary["trials"][1]
    assert (trial["id"], trial["status"]) == ("trial-01", "FINISHED")
    assert trial["config"]["aggregation.temperature"] == 1.0
    assert trial["config"]["data.holdout_share"] == 0.2
    first, second = trial["sessions"]
    assert first["val/accuracy"] == 0.9
    assert "val/forgetting" not in first
    assert second["val/accuracy"] == pytest.approx((0.9 * 100 + 0.7 * 300) / 400)
    assert second["val/average_accuracy"] == pytest.approx((0.9 + 0.75) / 2)
    assert second["val/slow/accuracy"] == pytest.approx(0.3)
    assert all(name.startswith("val/") for name in second)
    assert summary["selected"]["trial"] == "trial-01"
    assert summary["selected"]["val/accuracy"] == second["val/accuracy"]
    assert summary["selected"]["config"] == trial["config"]
    assert summary["final"]["seeds"] == 2
    assert summary["final"]["test/accuracy"] == {
        "mean": 0.625,
        "std": pytest.approx(stdev([0.5, 0.75])),
        "values": [0.5, 0.75],
    }
    assert set(summary["final"]) == {"seeds", "test/accuracy", "test/slow/accuracy", "test/fast/accuracy"}
    assert summary["mlflow"] == {"tracking_uri": "sqlite:///x", "experiment": "digits", "parent_run_id": "p"}


def test_absent_parts_of_an_unfinished_sweep_are_none(make_spec: Callable[..., Any]) -> None:
    summary = sweep_summary(SweepLog(make_spec()))
    assert summary["trials"] == []
    assert summary["selected"] is None
    for part in ("final", "control", "difference", "optimism_gap", "mlflow"):
        assert summary[part] is None, part
    assert summary["work"]["sessions_trained"] == summary["work"]["total"]["seconds"] == 0


def test_people_read_percent(finished_sweep: Callable[[], Ledger], tmp_path: Path) -> None:
    text = io.StringIO()
    show(finished_sweep().log, tmp_path, Console(file=text, width=100))
    shown = text.getvalue()
    assert "demo · digits · random search · by holdout · finished" in shown
    assert "validation accuracy in percent" in shown
    assert "62.5 ± 17.7" in shown
    assert "mean ± std over 2 seeds" in shown
    assert "-m sweeps ui" in shown
    assert shown.index("trial-01") < shown.index("trial-00"), "best first"
    assert max(map(len, shown.splitlines())) < 100 + len(str(tmp_path))


def test_a_control_with_another_number_of_seeds_says_so(tmp_path: Path) -> None:
    log = make_log(trials=2, seeds=3)
    text = io.StringIO()
    show(log, tmp_path, Console(file=text, width=100))
    assert "preset (control) " in text.getvalue()
    assert "1.0 are really forgotten and 1.0 are more confusion with other" in text.getvalue()
    assert "Among the classes of its own session alone, 90.2 % of the images are right." in describe(log)
    log.jobs["control-2"].status = "KILLED"
    show(log, tmp_path, Console(file=text, width=100))
    assert "mean ± std over 3 seeds" in text.getvalue()
    assert "preset (control, seeds: 2)" in text.getvalue()
    assert "preset (control, seeds: 2): final" in describe(log)
    assert "control (2 seeds)" in render(report_page(log, {}))


def test_selection_on_test_is_said_everywhere(make_spec: Callable[..., Any], tmp_path: Path) -> None:
    log = SweepLog(make_spec(selection="test"))
    text = io.StringIO()
    show(log, tmp_path, Console(file=text, width=100))
    assert "selected on test" in text.getvalue()
    assert "selected on test" in describe(log)


def test_the_description_tells_space_choice_and_result(finished_sweep: Callable[[], Ledger]) -> None:
    text = describe(finished_sweep().log)
    assert "- `fast.cross_weight: {choice: [0.0, 1.0]}`" in text
    assert "Chosen: trial-01, `" in text
    assert "- SAFE: final 62.5 ± 17.7, average over the sessions " in text
    assert text.index("SAFE: final") < text.index("Chosen: ") < text.index("Space:")


def test_the_final_runs_stand_beside_the_control(finished_sweep: Callable[[], Ledger], tmp_path: Path) -> None:
    ledger = finished_sweep()
    log = ledger.log
    for repeat, accuracy in enumerate([0.4, 0.6]):
        job = replace(log.jobs[f"final-01-{repeat}"], id=f"control-{repeat}", kind="control")
        last = job.sessions[-1]
        job.sessions = [*job.sessions[:-1], replace(last, metrics={**last.metrics, "test/accuracy": accuracy})]
        log.jobs[job.id] = job
    text = io.StringIO()
    show(log, tmp_path, Console(file=text, width=200))
    shown = text.getvalue()
    assert "preset (control)" in shown
    assert "50.0 ± 14.1" in shown
    # Differences 0.1 and 0.15: mean 12.5 points, and t(1; 0.975) = 12.7 times 2.5 points.
    line = "chosen minus preset, final accuracy: +12.5 ± 31.8 points (95 % interval, 2 seeds): within noise"
    assert line in shown
    assert line in describe(log)
    assert "- preset (control): final 50.0 ± 14.1, average over the sessions -" in describe(log)


def test_the_command_that_opens_mlflow_names_a_results_folder_that_is_not_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(BY_MAKE, "1")

    def command(folder: Path, uri: str = "sqlite:///x.db") -> str:
        console = Console(record=True, width=100)
        print_mlflow({"tracking_uri": uri}, folder, console)
        return console.export_text().splitlines()[-1]

    assert command(Path("results/sweeps/demo")) == "open it with: make ui NAME=demo"
    assert command(Path("results/sweeps/demo"), "http://127.0.0.1:5000") == "MLflow:  http://127.0.0.1:5000"
    assert command(Path("my results/sweeps/demo")) == f"open it with: make ui NAME=demo 'RESULTS={tmp_path}/my results'"


def test_the_pages_of_mlflow_are_told_where_its_server_will_be(tmp_path: Path) -> None:
    def told(uri: str) -> list[str]:
        console = Console(record=True, width=80)
        ids = {"experiment_id": "7", "parent_run_id": "abc", "view": "demo"}
        print_mlflow({"tracking_uri": uri, **ids}, tmp_path / "sweeps" / "demo", console)
        return console.export_text().splitlines()

    for uri, server in (("sqlite:///x.db", "http://127.0.0.1:5000"), ("https://ml.org", "https://ml.org")):
        assert told(uri)[-2:] == [
            f"  its runs:  {server}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=demo",
            f"  the sweep: {server}/#/experiments/7/runs/abc?workflowType=machine_learning",
        ]


def test_results_that_were_moved_are_shown_with_the_database_that_they_have_now(tmp_path: Path) -> None:
    def told(uri: str) -> str:
        console = Console(record=True, width=100)
        print_mlflow({"tracking_uri": uri}, tmp_path / "new" / "sweeps" / "demo", console)
        return console.export_text().splitlines()[0]

    old = f"sqlite:///{tmp_path}/old/mlflow.db"
    assert told(old) == f"MLflow:  {old}"
    for place in ("new", "old"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "mlflow.db").touch()
    assert told(old) == f"MLflow:  {old}"
    (tmp_path / "old" / "mlflow.db").unlink()
    assert told(old) == f"MLflow:  sqlite:///{tmp_path}/new/mlflow.db"


def replicated(spec: Any, final: list[float], control: list[float]) -> SweepLog:
    """A sweep whose final runs and controls have these accuracies and twice the forgetting."""
    log = SweepLog(spec, selected={"trial": "trial-00", "prediction": {}, "score": 0.5})
    log.jobs["trial-00"] = JobLog("trial-00", Kind.TRIAL, "trial 00", {}, [], trial=0)
    for kind, trial, values in ((Kind.FINAL, 0, final), (Kind.CONTROL, None, control)):
        for repeat, value in enumerate(values):
            metrics = {"test/accuracy": value, "test/average_accuracy": 0.5, "test/forgetting": 2 * value}
            job = JobLog(job_id(kind, trial, repeat), kind, "", {}, [], trial, repeat, status=Status.FINISHED)
            job.sessions = [SessionRecord(1, 1, "test", metrics)]
            log.jobs[job.id] = job
    return log


def test_final_minus_control_is_paired_by_seed_and_said_in_words(make_spec: Callable[..., Any]) -> None:
    spec = make_spec(seeds=3)
    differences = difference(replicated(spec, [0.80, 0.82, 0.84], [0.79, 0.80, 0.81]))
    assert differences is not None
    # Differences 0.01, 0.02, 0.03: standard deviation 0.01, and t(2; 0.975) = 4.302653.
    assert differences["test/accuracy"]["mean"] == pytest.approx(0.02)
    assert differences["test/accuracy"]["half_width"] == pytest.approx(4.302653 * 0.01 / 3**0.5, rel=1e-6)
    assert (differences["test/accuracy"]["verdict"], differences["test/accuracy"]["seeds"]) == ("within noise", 3)
    assert differences["test/average_accuracy"]["verdict"] == "within noise", "no difference at all"
    clear = difference(replicated(spec, [0.90, 0.92, 0.941], [0.80, 0.82, 0.84]))
    assert clear is not None
    assert clear["test/accuracy"]["verdict"] == "better"
    assert clear["test/forgetting"]["verdict"] == "worse", "less forgetting is better"
    two = difference(replicated(spec, [0.80, 0.82, 0.84], [0.79, 0.80]))
    assert two is not None
    assert two["test/accuracy"]["seeds"] == 2
    assert difference(replicated(spec, [0.80, 0.82, 0.84], [0.79])) is None


@pytest.mark.parametrize("trials", [6, 1000])
def test_the_leaderboard_fits_80_columns_and_a_screen(
    make_spec: Callable[..., Any], fake: Any, tmp_path: Path, trials: int
) -> None:
    space = {
        "slow.diag_weight": {"zero_or_loguniform": [1e-3, 1e1]},
        "slow.offdiag_weight": {"zero_or_loguniform": [1e-1, 1e3]},
        "fast.feature_weight": {"zero_or_loguniform": [1e-1, 1e2]},
        "fast.cross_weight": {"zero_or_loguniform": [1e-2, 1e1]},
        "slow.weight_decay": {"loguniform": [1e-5, 1e-2]},
        "aggregation.temperature": {"grid": [0.1, 1, 10]},
    }
    log = SweepLog(make_spec(space=space, trials=trials))
    parsed = log.sweep_spec.parsed_space()
    for index in range(trials):
        id = f"trial-{index:02d}"
        config = {**log.spec.base, **draw(parsed, 0, index)}
        job = JobLog(id, "trial", id, config, list(parsed.predictions), status="FINISHED")
        job.sessions = fake(lambda config: 0.5 + min(config["fast.cross_weight"], 10) / 100)(
            Job(id, "trial", id, {**config, "data.evaluate_on": "holdout"}, job.predictions, states="")
        )
        log.jobs[id] = job
    text = io.StringIO()
    show(log, tmp_path, Console(file=text, width=80))
    lines = [line for line in text.getvalue().splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines), "nothing is cut within a cell"
    assert len(lines) < 40
    assert ("the first 20 of 1000; all: show --json" in " ".join(text.getvalue().split())) == (trials == 1000)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001, "1e-3"),
        (0.0, "0"),
        (0, "0"),
        (24.0, "24"),
        (0.05, "0.05"),
        (1.2345e-3, "1.23e-3"),
        (2e5, "2e5"),
        (10_000, "1e4"),
        (1000, "1000"),
        (True, "True"),
        ("ssf", "ssf"),
        ("/data/vit.safetensors", "vit.safetensors"),
    ],
)
def test_values_are_written_as_people_write_them(value: Any, text: str) -> None:
    assert short_value(value) == text


def test_titles_name_what_a_run_varies(make_spec: Callable[..., Any]) -> None:
    config = {"slow.diag_weight": 1e-3, "slow.offdiag_weight": 0.0, "fast.feature_weight": 24.0, "slow.lr": 0.01}
    config |= {"fast.cross_weight": 1.0, "pet.rank": 4}
    weights = list(config)[:3]
    assert trial_title("trial 07", config, weights) == "trial 07 · diag 1e-3 · rdn 0 · cos 24"
    assert trial_title("slow 01", config, ["slow.lr", "pet.rank"]) == "slow 01 · slow lr 0.01 · rank 4"
    assert trial_title("trial 00", config, [*config, "slow.lr"]).endswith("· cross 1 · rank 4 · +1")
    spec = make_spec(search="staged", created="2026-11-22 14:05")
    assert title_of(spec) == "digits · staged · 2026-11-22 14:05"
    marked = make_spec(search="grid", created="2026-11-22 14:05", selection="test")
    assert title_of(marked) == "digits · grid · 2026-11-22 14:05 · selected on test"
    assert title_of(make_spec(evaluate_on="/data/own", selection="transfer")) == "digits → own · random"


def test_reasons_of_many_runs_stay_short(make_spec: Callable[..., Any], tmp_path: Path) -> None:
    log = SweepLog(make_spec())
    base = dict(make_spec().base)
    for index in range(60):
        stopped = index >= 30
        status, reason = ("STOPPED", "outranked") if stopped else ("FAILED", f"reason {index}")
        log.jobs[f"trial-{index}"] = JobLog(f"trial-{index}", "trial", "t", base, [], status=status, reason=reason)
    text = io.StringIO()
    show(log, tmp_path, Console(file=text, width=80))
    shown = text.getvalue()
    assert "trial-19 failed: reason 19" in shown
    assert "reason 20" not in shown
    assert "... and 10 more" in shown
    assert "30 stopped early: outranked" in shown
