"""What lies among MLflow's artefacts, and what `prune --mlflow` removes of it: by hand-made sweeps of known sizes."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from safe.errors import UserError
from sweeps.cli import main
from sweeps.ledger.folders import Folders
from sweeps.ledger.ledger import Ledger
from sweeps.model.fetched import fetch_state
from sweeps.model.stored import PRUNED_TAG
from sweeps.spec.specs import SweepSpec
from tracking import MlflowRecorder, sqlite_uri
from tracking.mlflow_reader import find_sweep_models
from tracking.recorder import ModelFiles, ModelOutput, Point

RUNS = {"trial-00": "trial", "final-00-0": "final"}
SESSIONS = 3
MODEL_BYTES = 1_000_000
TABLE_BYTES = 400_000


class Store:
    """A results folder with sweeps whose runs have three session models each."""

    def __init__(self, results: Path, make_spec: Callable[..., SweepSpec]) -> None:
        self.results, self.make_spec = results, make_spec
        self.uri = sqlite_uri(results / "mlflow.db")
        self.state, self.tables = results / "files" / "session.pt", results / "files" / "tables"
        self.tables.mkdir(parents=True)
        self.state.write_bytes(b"x" * MODEL_BYTES)
        (self.tables / "table.csv").write_bytes(b"x" * TABLE_BYTES)
        self.recorder = MlflowRecorder(self.uri, "digits")
        self.client = self.recorder.client

    def finish(self, name: str, *, finished: bool = True) -> Path:
        """Record a sweep; its folder."""
        folder = Folders(self.results, name).sweep
        folder.mkdir(parents=True)
        with_ledger = Ledger.create(folder, self.make_spec(name=name))
        if finished:
            with_ledger.append("finished")
        with_ledger.close()
        self.recorder.start(name, {}, {})
        for run, kind in RUNS.items():
            key = f"{name}/{run}"
            self.recorder.start(key, {}, {}, parent=name)
            self.recorder.log_directory(key, self.tables)
            for session in range(1, SESSIONS + 1):
                files = (ModelFiles(self.state, "artifacts/state"),)
                tags = {"sweep": name, "kind": kind, "session": str(session)}
                model = ModelOutput(f"{run}-session-{session:02d}", session, "val/", tags=tags, files=files)
                self.recorder.log_models(key, [model], [Point("val/accuracy", session / 10, session)])
        return folder

    def register(self, sweep: str, name: str, source: Callable[[Any], str]) -> None:
        """Register a session of a sweep as a model of its own."""
        model = next(model for model in find_sweep_models(self.client, sweep) if model.name == name)
        self.client.create_registered_model(name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)  # where MLflow looks `models:/<id>` up
            self.client.create_model_version(name, source(model), model.source_run_id, await_creation_for=0)

    def with_files(self, sweep: str) -> set[str]:
        """Return the models of a sweep whose state is there."""
        place = self.results / "mlartifacts" / "models"
        states = [place / model.model_id / "artifacts" for model in find_sweep_models(self.client, sweep)]
        names = {model.model_id: model.name for model in find_sweep_models(self.client, sweep)}
        return {names[state.parent.name] for state in states if (state / "artifacts/state/session.pt").exists()}


@pytest.fixture
def store(tmp_path: Path, make_spec: Callable[..., SweepSpec], monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    made = Store(tmp_path, make_spec)
    made.finish("demo")
    return made


def prune(store: Store, *words: str) -> int:
    return main(["prune", *words, "--results", str(store.results)])


def test_what_lies_there_is_told_by_sweep_and_kind(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.finish("demo_2")
    assert prune(store) == 0
    told = capsys.readouterr().out
    assert f"in {store.results / 'mlartifacts'}:" in told
    rows = [line.split(maxsplit=2) for line in told.splitlines() if " MB " not in line and ":" in line][1:]
    assert [[name, mb, what.strip()] for name, mb, what in rows] == [
        [name, mb, what]
        for name in ("demo", "demo_2")
        for mb, what in (
            ("0.8", "files of runs: tables, plots, report"),
            ("3.0", "models of sessions: final"),
            ("3.0", "models of sessions: trial"),
        )
    ]
    assert "there is nothing to remove" in told
    run = next(
        model for model in find_sweep_models(store.client, "demo") if model.tags["kind"] == "trial"
    ).source_run_id
    store.client.delete_run(run)
    assert prune(store) == 0
    assert "0.4  deleted there, or of no sweep here; `mlflow gc` removes" in capsys.readouterr().out


def test_old_states_go_and_what_is_registered_stays(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.register("demo", "final-00-0-session-01", lambda model: str(model.artifact_location))
    store.register("demo", "trial-00-session-01", lambda model: f"models:/{model.model_id}")  # as MLflow's pages do
    everything = {f"{run}-session-{session:02d}" for run in RUNS for session in range(1, SESSIONS + 1)}
    assert prune(store, "--mlflow") == 0
    assert "2.0  states of 2 sessions in MLflow, whose numbers stay" in capsys.readouterr().out
    assert store.with_files("demo") == everything

    assert prune(store, "--mlflow", "--yes") == 0
    assert "removed 2.0 MB" in capsys.readouterr().out
    kept = everything - {"final-00-0-session-02", "trial-00-session-02"}
    assert store.with_files("demo") == kept
    models = {model.name: model for model in find_sweep_models(store.client, "demo")}
    assert set(models) == everything, "they are ranked as before"
    for name, model in models.items():
        assert [metric.value for metric in model.metrics] == [int(model.tags["session"]) / 10]
        assert (model.tags.get(PRUNED_TAG), str(model.status)) == (None if name in kept else "true", "READY")

    gone = models["trial-00-session-02"]
    with pytest.raises(UserError, match=f"models:/{gone.model_id} in MLflow: only its metrics are kept"):
        fetch_state(f"models:/{gone.model_id}", store.uri, tmp_path)
    again = MlflowRecorder(store.uri, "digits")  # a history that is written once more brings no file back
    files = (ModelFiles(store.state, "artifacts/state"),)
    again.log_models("demo/trial-00", [ModelOutput(gone.name, 2, "val/", files=files)], [Point("val/accuracy", 0.2, 2)])
    assert store.with_files("demo") == kept

    assert prune(store, "--mlflow", "--keep", "0", "--yes") == 0
    assert store.with_files("demo") == {"final-00-0-session-01", "trial-00-session-01"}
    capsys.readouterr()
    assert prune(store, "--mlflow", "--keep", "0", "--yes") == 0
    assert "there is nothing to remove" in capsys.readouterr().out


def test_a_copy_of_a_version_that_is_deleted_and_a_path_are_registered_too(store: Store) -> None:
    store.register("demo", "final-00-0-session-01", lambda model: str(model.artifact_location))
    store.client.copy_model_version("models:/final-00-0-session-01/1", "production")
    store.client.delete_registered_model("final-00-0-session-01")
    store.register("demo", "trial-00-session-01", lambda model: str(model.artifact_location).removeprefix("file://"))
    assert prune(store, "--mlflow", "--keep", "0", "--yes") == 0
    assert store.with_files("demo") == {"final-00-0-session-01", "trial-00-session-01"}


@pytest.mark.parametrize("place", ["photos", "mlartifacts", "mlartifacts/models", "mlartifacts/../photos", "linked"])
def test_a_folder_that_is_not_a_model_s_own_among_the_artefacts_is_never_removed(store: Store, place: str) -> None:
    photo = store.results / "photos" / "artifacts" / "photo.png"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"x" * MODEL_BYTES)
    model = find_sweep_models(store.client, "demo")[0]
    (store.results / "mlartifacts" / model.model_id).symlink_to(store.results / "photos")
    named = store.results / (f"mlartifacts/{model.model_id}/artifacts" if place == "linked" else place)
    with closing(sqlite3.connect(store.results / "mlflow.db")) as connection, connection:
        uri = f"file://{named}"
        connection.execute("UPDATE logged_models SET artifact_location = ? WHERE model_id = ?", (uri, model.model_id))
    before = {path for path in store.results.rglob("*") if path.is_file()}
    assert prune(store, "--mlflow", "--keep", "0", "--yes") == 0
    assert photo.exists()
    gone = before - {path for path in store.results.rglob("*") if path.is_file()}
    assert {path.name for path in gone} == {"session.pt"}
    assert len(gone) == len(RUNS) * SESSIONS - 1, "of the others"


def test_sweeps_that_run_or_are_not_finished_keep_theirs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    running, open_ = store.finish("running"), store.finish("open", finished=False)
    assert open_.is_dir()
    with (running / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prune(store, "--mlflow", "--yes", "--keep", "0") == 0
    told = capsys.readouterr().out
    assert "left alone: the sweep 'running' is being run" in told
    assert "left alone: 'open' is not finished, so MLflow keeps its states" in told
    assert {name: len(store.with_files(name)) for name in ("demo", "running", "open")} == {
        "demo": 0,
        "running": 6,
        "open": 6,
    }


def test_a_server_s_files_are_its_owner_s(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    assert prune(store) == 0
    assert "mlartifacts" not in capsys.readouterr().out
    assert prune(store, "--mlflow") == 2
    told = capsys.readouterr().err
    assert "--mlflow removes files on this disk, but MLFLOW_TRACKING_URI names http://me:***@127.0.0.1:9" in told
