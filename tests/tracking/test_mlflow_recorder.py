"""What is special about MLflow: its stores, its statuses, its limits, its global state."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tracking import (
    ConflictError,
    MlflowRecorder,
    Point,
    Status,
    TrackingError,
    UnreachableError,
    make_ahead,
    mlflow_backend,
    sqlite_uri,
)
from tracking.mlflow_backend import shown, sqlite_path
from tracking.recorder import ModelOutput

SWEEP = """
import sys
from tracking import MlflowRecorder
recorder = MlflowRecorder(sys.argv[1], "shared")
recorder.start(sys.argv[2], {}, {})
for step in range(1, 21):
    recorder.log_metrics(sys.argv[2], {"val/accuracy": step / 20}, step)
recorder.close()
print(recorder.experiment_id)
"""


@pytest.fixture
def recorder(database: Path) -> MlflowRecorder:
    return MlflowRecorder(sqlite_uri(database), "sweeps")


def test_two_processes_make_one_database_and_one_experiment(tmp_path: Path) -> None:
    path = tmp_path / "Läufe 100%" / "mlflow.db"
    command = [sys.executable, "-c", SWEEP, sqlite_uri(path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen([*command, key], stdout=pipe, stderr=pipe, text=True) for key in ("one", "two")]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0] == outputs[1] == (outputs[0][0], ""), "one experiment, and no migration log on the screen"

    recorder = MlflowRecorder(sqlite_uri(path), "shared")
    runs = recorder.client.search_runs([recorder.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["one", "two"]
    for run in runs:
        assert len(recorder.client.get_metric_history(run.info.run_id, "val/accuracy")) == 20
    beside = {file.name for file in path.parent.iterdir()}
    assert beside - {"mlflow.db-wal", "mlflow.db-shm"} == {"mlflow.db", "mlflow.db.lock"}


def test_global_state_and_logging_are_left_alone(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    logging.getLogger("mlflow").setLevel(logging.DEBUG)
    before, environment = mlflow.get_tracking_uri(), dict(os.environ)
    files = tmp_path / "files"
    files.mkdir()
    (files / "a").write_text("a")
    recorder = MlflowRecorder(sqlite_uri(database), "sweeps", artifact_root=tmp_path / "Ergebnisse ä")
    recorder.start("demo", {"a": 1}, {})
    recorder.log_metrics("demo", {"a": 1.0}, 1)
    recorder.log_directory("demo", files)
    recorder.finish("demo", Status.FINISHED)
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
    assert dict(os.environ) == environment
    assert logging.getLogger("mlflow").level == logging.DEBUG
    assert (tmp_path / "Ergebnisse ä" / recorder.run_id("demo") / "artifacts" / "a").read_text() == "a"
    assert not (tmp_path / "mlruns").exists()


def test_wal_is_on_and_closing_leaves_a_whole_file(database: Path, recorder: MlflowRecorder, tmp_path: Path) -> None:
    recorder.start("demo", {}, {})
    recorder.log_metrics("demo", {"val/accuracy": 0.5}, 1)
    recorder.client.create_registered_model("demo")
    recorder.close()
    assert {file.name for file in database.parent.iterdir()} == {"mlflow.db", "mlflow.db.lock"}
    recorder.start("again", {}, {})  # which opens it again
    copy = tmp_path / "copy.db"
    copy.write_bytes(database.read_bytes())
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT value FROM metrics").fetchall() == [(0.5,)]


def test_a_database_made_ahead_is_the_one_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (aside := tmp_path / "aside").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    made: list[str] = []
    make = mlflow_backend.make_database
    monkeypatch.setattr(mlflow_backend, "make_database", lambda uri, *more: (made.append(uri), make(uri, *more)))
    path = tmp_path / "results" / "mlflow.db"
    uri = sqlite_uri(path)
    make_ahead(uri)
    assert len(made) == 1
    assert not path.parent.exists(), "whether it will be wanted is not known yet"
    recorder = MlflowRecorder(uri, "sweeps")
    recorder.start("demo", {}, {})
    default = recorder.client.get_experiment("0")
    assert default.artifact_location == (path.parent / "mlartifacts" / "0").as_uri()
    make_ahead(uri)
    make_ahead("http://127.0.0.1:9")
    assert len(made) == 1
    assert list(aside.iterdir()) == []


def test_a_stopped_trial_is_finished_with_a_tag(recorder: MlflowRecorder) -> None:
    def seen() -> tuple[str, str | None, bool]:
        run = recorder.client.get_run(recorder.run_id("demo"))
        return run.info.status, run.data.tags.get("stopped_early"), run.info.end_time is not None

    recorder.start("demo", {}, {})
    assert seen() == ("RUNNING", None, False)
    recorder.finish("demo", Status.STOPPED)
    assert seen() == ("FINISHED", "true", True)
    recorder.start("demo", {}, {})
    assert seen()[:2] == ("RUNNING", None)
    recorder.finish("demo", Status.FINISHED)
    assert seen() == ("FINISHED", None, True)


def test_children_name_their_parent(recorder: MlflowRecorder) -> None:
    recorder.start("demo", {}, {})
    recorder.start("demo/trial-00", {}, {}, parent="demo")
    child = recorder.client.get_run(recorder.run_id("demo/trial-00"))
    assert child.data.tags["mlflow.parentRunId"] == recorder.run_id("demo")
    assert child.data.tags["safe.run_key"] == "demo/trial-00"


def test_more_than_one_call_holds(recorder: MlflowRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int]] = []
    log_batch = recorder.client.log_batch

    def counted(run_id: str, **batch: Any) -> None:
        calls.append((len(batch.get("metrics", ())), len(batch.get("params", ())), len(batch.get("tags", ()))))
        log_batch(run_id, **batch)

    monkeypatch.setattr(recorder.client, "log_batch", counted)
    recorder.start("demo", {f"p{i}": i for i in range(250)}, {f"t{i}": "" for i in range(120)})
    recorder.log_points("demo", [Point(f"val/{key}", 0.5, step) for key in range(30) for step in range(50)])
    recorder.log_points("demo", [Point("val/0", 0.5, 1)])
    assert calls == [(0, 100, 0), (0, 100, 0), (0, 50, 0), (1000, 0, 0), (500, 0, 0)]
    run = recorder.client.get_run(recorder.run_id("demo"))
    assert run.data.params == {f"p{i}": str(i) for i in range(250)}
    assert run.data.tags.items() >= {f"t{i}": "" for i in range(120)}.items()


def test_what_is_gathered_of_a_run_takes_as_few_calls_as_it_can(
    recorder: MlflowRecorder, uri: str, monkeypatch: pytest.MonkeyPatch, observe: Callable[[str, str], dict[str, Any]]
) -> None:
    told: list[tuple[str, ...] | tuple[str, int, int, int]] = []
    log_batch, set_terminated, seconds = recorder.client.log_batch, recorder.client.set_terminated, count()

    def counted(run_id: str, **batch: Any) -> None:
        told.append((run_id, *(len(batch[name]) for name in ("metrics", "params", "tags"))))
        log_batch(run_id, **batch)

    def ended(run_id: str, **options: Any) -> None:
        told.append((run_id,))
        set_terminated(run_id, **options)

    monkeypatch.setattr(recorder.client, "log_batch", counted)
    monkeypatch.setattr(recorder.client, "set_terminated", ended)
    monkeypatch.setattr(recorder, "_clock", lambda: float(next(seconds)))

    def work() -> None:
        for key in ("one", "two"):
            recorder.start(key, {f"p{i}": i for i in range(150)}, {"kind": "trial"})
            recorder.set_tags(key, {"kind": "other"})
        for session in (1, 2, 3):
            for key in ("one", "two"):
                points = [Point("val/accuracy", session / 10, session)]
                recorder.log_points(key, [*points, *(Point(f"train/{i}", 0.5, session) for i in range(320))])
                recorder.log_points(key, points)
        recorder.log_params("two", {"temperature": 1.0, "p1": 9})
        recorder.finish("two", Status.STOPPED)

    with recorder.gathered():
        work()
        assert told[-1] == (recorder.run_id("two"),)
    one, two = map(recorder.run_id, ("one", "two"))
    assert told == [(two, 898, 100, 2), (two, 65, 51, 0), (two,), (one, 899, 100, 1), (one, 64, 50, 0)]
    history = recorder.client.get_metric_history(one, "val/accuracy")
    assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert len({point.timestamp for point in history}) == 3, "each at its own time"
    seen = observe(uri, "sweeps")
    told.clear()
    with recorder.gathered():
        work()
    assert told == [(two, 0, 0, 2), (two,), (one, 0, 0, 1)], "tags are told again"
    assert observe(uri, "sweeps") == seen


def test_what_could_not_be_told_together_is_told_when_it_is_done_again(
    recorder: MlflowRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> None:
        with recorder.gathered():
            for key in ("one", "two"):
                recorder.start(key, {"lr": 0.1}, {"kind": "trial"})
                recorder.log_metrics(key, {"val/accuracy": 0.5}, 1)

    def away(*_: object, **__: object) -> None:
        raise OSError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(recorder.client, "log_batch", away)
        with pytest.raises(UnreachableError, match="connection lost"):
            work()
    work()
    for key in ("one", "two"):
        run = recorder.client.get_run(recorder.run_id(key))
        assert (run.data.params, run.data.metrics) == ({"lr": "0.1"}, {"val/accuracy": 0.5})
    assert len(recorder.client.search_runs([recorder.experiment_id])) == 2
    with pytest.raises(ConflictError, match=r"0\.5 at step 1 and was now 0\.6"), recorder.gathered():
        recorder.log_metrics("one", {"val/accuracy": 0.6}, 1)


def test_a_deleted_experiment_says_how_to_restore_it(database: Path, recorder: MlflowRecorder) -> None:
    recorder.client.delete_experiment(recorder.experiment_id)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore -x {recorder.experiment_id}"):
        MlflowRecorder(sqlite_uri(database), "sweeps")


def test_a_failing_store_is_reported_in_words(recorder: MlflowRecorder) -> None:
    recorder.start("demo", {}, {})
    recorder.client.delete_run(recorder.run_id("demo"))
    with pytest.raises(TrackingError, match=r"MLflow at sqlite:.*mlflow\.db refused"):
        recorder.log_metrics("demo", {"val/accuracy": 0.5}, 1)


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "/tmp/mlruns", "file:///tmp/mlruns", ""])
def test_file_stores_are_refused(uri: str) -> None:
    with pytest.raises(TrackingError, match="mlflow migrate-filestore --source FOLDER --target sqlite:"):
        MlflowRecorder(uri, "sweeps")


def test_another_schema_version_is_not_migrated_silently(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    with pytest.raises(TrackingError, match=r"schema 451aebb31d03.*mlflow db upgrade 'sqlite:.*mlflow\.db'"):
        MlflowRecorder(sqlite_uri(database), "sweeps")


@pytest.mark.parametrize("content", [b"no database " * 100, None])
def test_a_file_that_is_no_mlflow_database_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.db"
    if content is None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE something (a)")
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(TrackingError, match=r"other\.db cannot be used as an MLflow database"):
        MlflowRecorder(sqlite_uri(path), "sweeps")
    assert path.read_bytes() == before


def test_a_half_made_database_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db.creating").write_bytes(b"left by a killed process")
    MlflowRecorder(sqlite_uri(tmp_path / "mlflow.db"), "sweeps").close()
    assert not (tmp_path / "mlflow.db.creating").exists()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match="choose another folder"):
        MlflowRecorder(sqlite_uri(tmp_path / "file" / "mlflow.db"), "sweeps")


def test_an_unreachable_server_is_reported_before_mlflow_tries_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.MlflowClient", None)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: refuses, and nobody else takes the port
        uri = f"http://user:secret@127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(TrackingError, match="no MLflow server answers at http://user") as caught:
            MlflowRecorder(uri, "sweeps")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://", "http://127.0.0.1:port", "http://with space:1"])
def test_a_malformed_address_is_reported(uri: str) -> None:
    with pytest.raises(TrackingError, match="no MLflow server answers"):
        MlflowRecorder(uri, "sweeps")


def test_sqlite_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (Path("mlflow.db"), tmp_path / "ä b" / "c%#d.db"):
        assert sqlite_path(sqlite_uri(path)) == path.absolute()
    assert sqlite_path("sqlite:///mlflow.db") == tmp_path / "mlflow.db"
    assert sqlite_path("http://localhost:5000") is None
    for uri in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(TrackingError, match="lost when the program ends"):
            sqlite_path(uri)
    for name, told in (("what?", r"'\?'"), ("a%20b", "'%20'"), ("%aF", "'%aF'"), ("a\udcff", "bytes that are no text")):
        for place in (tmp_path / f"{name}.db", tmp_path / name / "mlflow.db"):
            with pytest.raises(TrackingError, match=f"cannot contain {told}; got .*: choose another folder"):
                sqlite_uri(place)
    assert sqlite_path(f"sqlite:///{tmp_path}/a%20b/%C3%A9.db") == tmp_path / "a b" / "é.db", "as SQLAlchemy reads it"
    MlflowRecorder(f"sqlite:///{tmp_path}/a%20b/mlflow.db", "sweeps").close()
    assert [place.name for place in tmp_path.iterdir()] == ["a b"]
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"


def artefacts(recorder: MlflowRecorder, tmp_path: Path) -> list[str]:
    """Record a run with a file as artefact, unless it is there, and return what all runs have, each read once."""
    files = tmp_path / "files"
    files.mkdir(exist_ok=True)
    key = f"run-{len(recorder.client.search_runs([recorder.experiment_id]))}"
    (files / f"{key}.txt").write_text(key)
    recorder.start(key, {}, {})
    recorder.log_directory(key, files)
    recorder.close()
    read = []
    for run in recorder.client.search_runs([recorder.experiment_id], order_by=["attributes.start_time ASC"]):
        for file in recorder.client.list_artifacts(run.info.run_id):
            with TemporaryDirectory() as folder:
                place = Path(recorder.client.download_artifacts(run.info.run_id, file.path, folder))
                assert place.read_text() == place.stem
            read.append(f"{run.info.run_name}/{file.path}")
    return read


FIRST = ["run-0/run-0.txt"]
BOTH = [*FIRST, "run-1/run-0.txt", "run-1/run-1.txt"]


@pytest.mark.parametrize("odd", ["moved", "a b#é%'&+;", "%zz"])
def test_artefacts_of_a_store_that_was_moved_are_found_and_new_ones_lie_beside_it(
    template: Path, tmp_path: Path, odd: str
) -> None:
    old, new = tmp_path / "old é#%", tmp_path / odd
    old.mkdir()
    database = Path(shutil.copy(template, old / "mlflow.db"))
    assert artefacts(MlflowRecorder(sqlite_uri(database), "sweeps"), tmp_path) == FIRST
    old.rename(new)
    old.write_text("")  # nothing can be written there any more
    recorder = MlflowRecorder(sqlite_uri(new / "mlflow.db"), "sweeps")
    assert artefacts(recorder, tmp_path) == BOTH
    assert len(list((new / "mlartifacts").iterdir())) == 2
    assert {place.name for place in tmp_path.iterdir()} == {old.name, new.name, "files"}


def test_a_copy_of_a_store_has_its_own_artefacts(template: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    shutil.copy(template, one / "mlflow.db")
    assert artefacts(MlflowRecorder(sqlite_uri(one / "mlflow.db"), "sweeps"), tmp_path) == FIRST
    shutil.copytree(one, two)
    assert artefacts(MlflowRecorder(sqlite_uri(two / "mlflow.db"), "sweeps"), tmp_path) == BOTH
    (one_run,) = (one / "mlartifacts").iterdir()
    assert len(list((two / "mlartifacts").iterdir())) == 2
    shutil.rmtree(two)
    again = MlflowRecorder(sqlite_uri(one / "mlflow.db"), "sweeps")
    assert [file.path for file in again.client.list_artifacts(one_run.name)] == ["run-0.txt"]


def test_a_database_that_was_moved_without_its_artefacts_leaves_them_where_they_are(
    template: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    shutil.copy(template, one / "mlflow.db")
    assert artefacts(MlflowRecorder(sqlite_uri(one / "mlflow.db"), "sweeps"), tmp_path) == FIRST
    (one / "mlflow.db").rename(two / "mlflow.db")
    assert artefacts(MlflowRecorder(sqlite_uri(two / "mlflow.db"), "sweeps"), tmp_path) == BOTH
    assert len(list((one / "mlartifacts").iterdir())) == 2
    assert not (two / "mlartifacts").exists()
    shutil.rmtree(one)  # now they are nowhere: new ones lie beside the database
    recorder = MlflowRecorder(sqlite_uri(two / "mlflow.db"), "sweeps")
    assert recorder.client.get_experiment(recorder.experiment_id).artifact_location == (two / "mlartifacts").as_uri()


def test_a_model_whose_points_came_through_before_a_kill_is_completed(
    recorder: MlflowRecorder, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow compares a hundred metrics at once with those that a model has; of more it refused what was there."""
    model, points = ModelOutput("trial-00-session-01", 1, "val/"), [Point(f"val/{key}", 0.5, 1) for key in range(120)]
    recorder.start("demo", {}, {})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recorder.client, "finalize_logged_model", killed)
    with pytest.raises(KeyboardInterrupt):
        recorder.log_models("demo", [model], points)
    again = MlflowRecorder(sqlite_uri(database), recorder.experiment_name)
    again.log_models("demo", [model], points)
    (logged,) = again.client.search_logged_models([again.experiment_id])
    assert (str(logged.status), len(logged.metrics or ())) == ("READY", 120)
