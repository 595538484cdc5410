"""Tiny sweeps with the real Ray, the real MLflow on SQLite and the real trainer on digits.

The space makes trial 0 fail (its weights file is missing) and lets the two others run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from sweeps.cli import main
from sweeps.ledger.ledger import FILE_NAME
from sweeps.spec.space import PREDICTION_SETTINGS
from tracking.mlflow_pages import charted

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[3]
SPACE = """
backbone.weights: {choice: [random, missing.safetensors]}
fast.cross_weight: {choice: [0.0, 1.0]}
aggregation.temperature: {grid: [0.1, 1, 10]}
"""
SETTINGS = ["slow.epochs=1", "fast.epochs=1", "head.projection_dim=64"]
TIMEOUT_S = 300


@dataclass
class Place:
    """A results folder and the words of the command that fills it."""

    results: Path
    words: list[str]

    def command(self, name: str, seeds: int) -> list[str]:
        words = [
            "run",
            "--dataset",
            "digits",
            "--search",
            "random",
            "--name",
            name,
            "--trials",
            "3",
            "--seeds",
            str(seeds),
        ]
        words += ["--finalists", "0"]
        return [*words, *self.words, *SETTINGS]

    def outcome(self, name: str) -> dict[str, Any]:
        text = StringIO()
        with redirect_stdout(text):
            assert main(["show", name, "--json", "--results", str(self.results)]) == 0
        parsed: dict[str, Any] = json.loads(text.getvalue())
        return parsed

    def runs(self, name: str) -> dict[str, Any]:
        """Return MLflow's runs of a sweep by run key."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.results / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("digits")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], f"tags.sweep = '{name}'")
        return {run.data.tags["safe.run_key"]: run for run in runs}

    def history(self, run: Any, metric: str) -> dict[int, float]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.results / 'mlflow.db'}")
        points = client.get_metric_history(run.info.run_id, charted(metric))
        assert len({point.step for point in points}) == len(points), f"{metric} is recorded twice"
        return {point.step: point.value for point in points}


@pytest.fixture
def _delivered_here() -> None:
    """Sweeps here deliver as they do for a person."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Run the sweep `whole` once for the module."""
    folder, working = tmp_path_factory.mktemp("sweeps"), tmp_path_factory.mktemp("working")
    space = folder / "space.yaml"
    space.write_text(SPACE)
    made = Place(folder / "results", ["--results", str(folder / "results"), "--space", str(space)])
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(working)
        assert main(made.command("whole", seeds=2)) == 0
        yield made
    assert not list(working.iterdir()), "something was written where it was called"


def test_the_outcome_is_complete(place: Place) -> None:
    outcome = place.outcome("whole")
    statuses = {trial["id"]: trial["status"] for trial in outcome["trials"]}
    assert statuses == {"trial-00": "FAILED", "trial-01": "FINISHED", "trial-02": "FINISHED"}
    assert "missing.safetensors" in outcome["trials"][0]["reason"]
    for trial in outcome["trials"][1:]:
        assert len(trial["sessions"]) == 5
        assert trial["config"]["aggregation.temperature"] in (0.1, 1.0, 10.0)
        assert all(0 <= session["val/slow/accuracy"] <= 1 for session in trial["sessions"])
    scores = {trial["id"]: trial["sessions"][-1]["val/average_accuracy"] for trial in outcome["trials"][1:]}
    assert outcome["selected"]["trial"] == max(sorted(scores), key=lambda trial: scores[trial])
    assert outcome["final"]["seeds"] == 2
    assert len(outcome["final"]["test/accuracy"]["values"]) == 2
    assert {"test/slow/accuracy", "test/fast/accuracy", "test/forgetting"} < set(outcome["final"])


def test_mlflow_holds_what_show_says(place: Place) -> None:
    outcome, runs = place.outcome("whole"), place.runs("whole")
    assert len(runs) == 1 + 3 + 2 + 2 + 2  # parent, trials, final runs, controls, audits of the finished trials
    parent = runs["whole"]
    assert parent.info.run_id == outcome["mlflow"]["parent_run_id"]
    assert parent.info.status == "FINISHED"
    assert "mlflow.parentRunId" not in parent.data.tags
    for trial in outcome["trials"]:
        run = runs[f"whole/{trial['id']}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == trial["status"]
        expected = {name: str(value) for name, value in trial["config"].items() if name not in PREDICTION_SETTINGS}
        assert {name: run.data.params[name] for name in expected} == expected
        for name in trial["sessions"][-1] if trial["sessions"] else ():
            said = {step: row[name] for step, row in enumerate(trial["sessions"], start=1) if name in row}
            assert place.history(run, name) == said, name
        if trial["sessions"]:
            assert run.data.params["aggregation.temperature"] == str(trial["config"]["aggregation.temperature"])
            assert list(place.history(run, "train/slow/ce")) == [1]
            assert list(place.history(run, "train/fast/ce")) == [2, 3, 4, 5]
    finals = [run for key, run in runs.items() if "/final-" in key]
    for name in ("test/accuracy", "test/average_accuracy", "test/slow/accuracy"):
        assert sorted(place.history(run, name)[5] for run in finals) == sorted(outcome["final"][name]["values"])
    assert {run.data.params["class_order_seed"] for run in finals} == {"1993", "1994"}


def test_sessions_of_the_best_trials_and_of_the_final_runs_are_models_that_rank(place: Place) -> None:
    from mlflow import MlflowClient

    from safe.states.checkpoint import load_state

    client = MlflowClient(f"sqlite:///{place.results / 'mlflow.db'}")
    runs, outcome = place.runs("whole"), place.outcome("whole")
    last = {trial["id"]: trial["sessions"][-1] for trial in outcome["trials"] if trial["status"] == "FINISHED"}
    best = sorted(last, key=lambda trial: -last[trial]["val/average_accuracy"])[:3]
    experiment = runs["whole"].info.experiment_id
    of_sweep = "tags.sweep = 'whole'"
    models = client.search_logged_models([experiment], of_sweep, max_results=200)
    finals = [key.removeprefix("whole/") for key in runs if "/final-" in key]
    assert len({last[trial]["val/average_accuracy"] for trial in best}) == len(best)
    assert sorted(model.name for model in models) == sorted(
        f"{job}-session-{session:02d}" for job in [*best, *finals] for session in range(1, 6)
    )
    assert {str(model.status) for model in models} == {"READY"}
    order = {"field_name": "metrics.val/average_accuracy", "ascending": False, "dataset_name": "digits-holdout"}
    ranked = client.search_logged_models([experiment], f"{of_sweep} AND tags.session = '5'", order_by=[order])
    assert [model.name for model in ranked][: len(best)] == [f"{trial}-session-05" for trial in best]
    for model in ranked[: len(best)]:
        points = {metric.key: (metric.value, metric.step, metric.dataset_name) for metric in model.metrics}
        trial = last[model.name.removesuffix("-session-05")]
        assert {name: value for name, (value, _, _) in points.items()} == trial
        assert {(step, data) for _, step, data in points.values()} == {(5, "digits-holdout")}
    folder = Path(ranked[0].artifact_location.removeprefix("file://"))
    assert load_state(folder / "artifacts/state/session-05.pt")["session"] == 5
    for run in runs.values():
        assert not client.list_artifacts(run.info.run_id, "checkpoints"), "a state is kept once"


def test_the_parent_run_tells_the_whole_story(place: Place, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{place.results / 'mlflow.db'}")
    parent = place.runs("whole")["whole"]
    file = Path(client.download_artifacts(parent.info.run_id, "report/report.html", str(tmp_path)))
    assert file.read_text("utf-8") == (place.results / "sweeps/whole/report/report.html").read_text("utf-8")
    assert place.outcome("whole")["selected"]["trial"] in file.read_text("utf-8")
    description = parent.data.tags["mlflow.note.content"]
    page = f"#/experiments/{parent.info.experiment_id}/runs/{parent.info.run_id}/artifacts/report/report.html"
    assert f"[report/report.html]({page}?workflowType=machine_learning)" in description
    words = "safe-digits version 1 is the champion: average_accuracy"
    assert parent.data.tags["model.note"].startswith(words)
    assert f"model: {words}" in description


def test_the_parent_run_reads_as_what_was_chosen(place: Place) -> None:
    outcome, runs = place.outcome("whole"), place.runs("whole")
    parent, (final, *_) = runs["whole"], sorted(key for key in runs if "/final-" in key)
    params = {name: text for name, text in parent.data.params.items() if not name.startswith(("sweep.", "preset."))}
    assert params == runs[final].data.params
    assert len(parent.data.metrics) <= 40
    assert parent.data.metrics["test/accuracy"] == outcome["final"]["test/accuracy"]["mean"]
    curve = place.history(parent, "best/val/average_accuracy")
    trials = [trial for trial in outcome["trials"] if trial["status"] == "FINISHED"]
    assert curve[max(curve)] == max(trial["sessions"][-1]["val/average_accuracy"] for trial in trials)
    assert list(curve.values()) == sorted(curve.values())
    assert len(curve) == len(trials)
    names = {entry.dataset.name for entry in parent.inputs.dataset_inputs}
    assert names == {"digits-train", "digits-holdout", "digits-test"}
    (output,) = parent.outputs.model_outputs
    assert output.model_id in {output.model_id for output in runs[final].outputs.model_outputs}
    assert (parent.data.tags["mlflow.source.name"], parent.data.tags["mlflow.source.type"]) == (
        "python -m sweeps run", "LOCAL",
    )  # fmt: skip


def test_runs_say_what_steered_them_and_on_which_images(place: Place) -> None:
    runs = place.runs("whole")
    marks = {key: run.data.tags["selection"] for key, run in runs.items()}
    assert {mark for key, mark in marks.items() if "/audit-" in key} == {"test"}
    assert {mark for key, mark in marks.items() if "/audit-" not in key} == {"holdout"}
    fed = {key: {entry.tags[0].value: entry.dataset.digest for entry in run.inputs.dataset_inputs}
           for key, run in runs.items() if run.inputs.dataset_inputs}  # fmt: skip
    assert set(fed["whole/trial-01"]) == {"train", "holdout"}
    assert fed["whole/trial-01"] == fed["whole/trial-02"]
    assert set(fed["whole/control-0"]) == {"train", "test"}
    assert fed["whole/control-0"] == fed["whole/control-1"], "a seed changes no image"


def test_a_second_call_adds_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = place.results / "sweeps" / "whole" / FILE_NAME
    before, runs = ledger.read_bytes(), set(place.runs("whole"))
    assert main(place.command("whole", seeds=2)) == 0
    assert "chosen: trial-" in capsys.readouterr().out
    assert ledger.read_bytes() == before
    assert set(place.runs("whole")) == runs


def test_an_interrupted_sweep_continues_to_the_same_numbers(place: Place) -> None:
    words = [sys.executable, "-m", "sweeps", *place.command("cut", seeds=1), "--system-metrics"]
    ledger = place.results / "sweeps" / "cut" / FILE_NAME
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, env=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + TIMEOUT_S
    while not ledger.exists() or '"checkpoint"' not in ledger.read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert main(["stop", "cut", "--results", str(place.results)]) == 0
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, errors
    assert f"-m sweeps resume cut --results {place.results}" in errors
    assert "Traceback" not in errors
    runs = place.runs("cut")
    assert runs["cut"].info.status == "KILLED"
    assert {run.info.status for run in runs.values()} <= {"KILLED", "FINISHED", "FAILED"}
    assert place.outcome("cut")["final"] is None

    assert main(["resume", "cut", "--results", str(place.results)]) == 0
    whole, cut = place.outcome("whole"), place.outcome("cut")
    assert cut["trials"][1:] == whole["trials"][1:]
    assert cut["selected"] == whole["selected"]
    assert cut["final"]["test/accuracy"]["values"] == whole["final"]["test/accuracy"]["values"][:1]
    runs = place.runs("cut")
    assert len(runs) == 1 + 3 + 1 + 1 + 2
    assert runs["cut"].info.status == "FINISHED"
    assert set(place.history(runs["cut/trial-01"], "system/memory_utilization")) == {1, 2, 3, 4, 5}
    assert not any(name.startswith("system/") for name in place.runs("whole")["whole/trial-01"].data.metrics)
    records = [json.loads(line) for line in ledger.read_text().splitlines()]
    saved = next(record for record in records if record["type"] == "checkpoint")
    again = [r for r in records if r["type"] == "session" and (r["job"], r["session"]) == (saved["job"], 1)]
    assert len(again) == 1, "what was saved before the interrupt is not done again"


def test_the_exported_configuration_reproduces_the_first_final_run(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safe.cli.main import main as safe_main
    from sweeps.ledger.ledger import read_ledger

    file = tmp_path / "chosen.yaml"
    assert main(["export", "whole", "--out", str(file), "--results", str(place.results)]) == 0
    capsys.readouterr()
    assert safe_main(["train", "--config", str(file), "--json"]) == 0
    trained = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    first = read_ledger(place.results / "sweeps" / "whole").of_kind("final")[0]
    for line, record in zip(trained, first.sessions, strict=True):
        for name, value in record.metrics.items():
            if name.startswith("test/"):
                assert line[name] == value, f"{name} after session {record.session}"


def test_no_resume_checkpoint_is_left_behind(place: Place) -> None:
    assert not list(place.results.rglob("resume.pt"))


def test_an_ablation_is_a_table_in_mlflow_too(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow import MlflowClient

    words = [
        "ablation",
        "--dataset",
        "digits",
        "--name",
        "parts",
        "--variants",
        "class-means,joint",
        "--seeds",
        "1",
        "--results",
        str(place.results),
    ]
    assert main([*words, *SETTINGS, "backbone.weights=random"]) == 0
    assert "class means" in capsys.readouterr().out
    rows = place.outcome("parts")["rows"]
    runs = place.runs("parts")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for row, key in zip(rows, ("parts/class-means-0", "parts/joint-0"), strict=True):
        assert place.history(runs[key], "test/accuracy")[5 if "means" in key else 1] == row["accuracy"]["mean"]
        assert runs[key].data.tags["mlflow.parentRunId"] == runs["parts"].info.run_id
    client = MlflowClient(f"sqlite:///{place.results / 'mlflow.db'}")
    tables = {Path(item.path).name for item in client.list_artifacts(runs["parts"].info.run_id, "tables")}
    assert tables == {"ablation.md", "ablation.csv"}

    more = ["frozen" if word == "class-means,joint" else word for word in words]
    assert main([*more, *SETTINGS, "backbone.weights=random"]) == 0
    grown = place.outcome("parts")["rows"]
    assert [row["variant"] for row in grown] == ["class-means", "frozen", "joint"]
    assert [row for row in grown if row["variant"] != "frozen"] == rows
    assert len(place.runs("parts")) == len(runs) + 1
