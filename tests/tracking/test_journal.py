"""The journal between a sweep and MLflow: outages, kills, other stores, what dead processes leave behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tracking import (
    ConflictError,
    InUseError,
    JournalRecorder,
    JsonlRecorder,
    MlflowRecorder,
    Point,
    Status,
    TrackingError,
    UnreachableError,
    deliver,
    sqlite_uri,
    waiting,
)
from tracking.__main__ import main
from tracking.delivery import Delivery
from tracking.journal_file import JournalFile, read_records
from tracking.jsonl import read_journal
from tracking.reconcile import reconcile, reconcile_store

Observe = Callable[[str, str], dict[str, Any]]
EXPERIMENT = "sweeps"


def work(recorder: Any, files: Path) -> None:
    """A sweep of two trials, each of three sessions."""
    recorder.start("demo", {"seed": 0}, {"kind": "sweep"}, name="Demo")
    for trial in range(2):
        key = f"demo/trial-{trial:02d}"
        recorder.start(key, {"lr": 0.1 * trial, "heads": "ridge"}, {"kind": "trial"}, parent="demo")
        recorder.log_input(key, "digits", "abc", "train")
        for session in range(1, 4):
            losses = [Point("train/slow/ce", 1 / epoch, epoch) for epoch in range(2 * session - 1, 2 * session + 1)]
            recorder.log_points(key, [Point("val/accuracy", 0.9 / (trial + session), session), *losses])
        recorder.log_directory(key, files, "checkpoints")
        recorder.finish(key, Status.FINISHED)
    recorder.set_description("demo", "# Demo")
    recorder.finish("demo", Status.FINISHED)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "sweeps" / "demo" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "session-01.pt").write_bytes(b"state")
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sweeps" / "demo" / "journal.jsonl"


@pytest.fixture
def undisturbed(template: Path, tmp_path: Path, files: Path, observe: Observe) -> dict[str, Any]:
    """What MLflow holds after `work` without the journal."""
    other = tmp_path / "undisturbed"
    other.mkdir()
    uri = sqlite_uri(Path(shutil.copy(template, other / "mlflow.db")))
    recorder = MlflowRecorder(uri, EXPERIMENT)
    work(recorder, files)
    recorder.close()
    return observe(uri, EXPERIMENT)


class Outage:
    """Opens the real store, which takes `calls` calls and then none until `over` is set."""

    def __init__(self, calls: int) -> None:
        self.calls = calls
        self.over = threading.Event()

    def __call__(self, tracking_uri: str, experiment: str, *, clock: Callable[[], float]) -> MlflowRecorder:
        self._take()
        recorder = MlflowRecorder(tracking_uri, experiment, clock=clock)
        for method in ("start", "log_points", "log_input", "set_tags", "log_directory", "finish"):
            setattr(recorder, method, self._guarded(getattr(recorder, method)))
        return recorder

    def _guarded(self, method: Callable[..., None]) -> Callable[..., None]:
        def guarded(*arguments: Any, **options: Any) -> None:
            self._take()
            method(*arguments, **options)

        return guarded

    def _take(self) -> None:
        self.calls -= 1
        if self.calls < 0 and not self.over.is_set():
            raise UnreachableError("the store is away")


@pytest.mark.parametrize("calls", [0, 1, 4, 9])
def test_an_outage_is_told_once_and_loses_nothing(
    path: Path,
    uri: str,
    files: Path,
    calls: int,
    undisturbed: dict[str, Any],
    observe: Observe,
    capsys: pytest.CaptureFixture[str],
) -> None:
    outage = Outage(calls)
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=partial(Delivery, open=outage), pause_s=0.001)
    assert recorder.new
    work(recorder, files)
    assert not recorder.flush(300)
    assert not recorder.flush(300), "each waits for an attempt of its own, which fails"
    if calls == 0:
        assert recorder.first_run_id is None
    outage.over.set()
    assert recorder.flush(300)
    assert recorder.first_run_id is not None
    recorder.close()
    assert observe(uri, EXPERIMENT) == undisturbed
    told = capsys.readouterr().err.splitlines()
    kept = f"tracking: the store is away. The work goes on: what it records is kept in {path} and delivered later"
    assert told == [kept, f"tracking: MLflow at {uri} has everything again"]


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every record noted by itself: how many go together depends on how many were there."""
    monkeypatch.setattr("tracking.delivery.RECORDS_AT_ONCE", 1)


@pytest.mark.usefixtures("one_by_one")
def test_what_is_left_at_the_end_is_delivered_by_the_next_command(
    path: Path, uri: str, files: Path, undisturbed: dict[str, Any], observe: Observe, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=partial(Delivery, open=Outage(3)))
    work(recorder, files)
    recorder.close()
    recorder.close()
    left = waiting(path, uri)
    assert capsys.readouterr().err.splitlines()[1:] == [
        f"tracking: {left} records for MLflow at {uri} wait in {path}; the next command that opens the sweep delivers "
        "them, as does: python -m tracking deliver"
    ]
    assert left == 15
    again = JournalRecorder(path, uri, EXPERIMENT)
    assert not again.new
    again.close()
    assert (waiting(path, uri), observe(uri, EXPERIMENT)) == (0, undisturbed)
    assert capsys.readouterr().err == ""


def test_more_and_more_is_told_at_once_until_the_store_fails(path: Path, uri: str, files: Path) -> None:
    """A group ends with files, which take long to bring again; after a failure records go one by one."""
    recorder = JsonlRecorder(path, experiment=EXPERIMENT)
    recorder.start("demo", {}, {})
    for step in range(1, 80):
        recorder.log_metrics("demo", {"val/accuracy": 1 / step}, step)
    recorder.log_directory("demo", files)
    for step in range(80, 90):
        recorder.log_metrics("demo", {"val/accuracy": 1 / step}, step)
    recorder.close()
    outage = Outage(1 + 10)
    delivery = Delivery(path, uri, EXPERIMENT, outage)
    ends = [offset for offset, _ in read_records(path)]

    def noted() -> list[int]:
        """Return how many records each move of a delivery was, in bytes of the file as it has noted them."""
        moves = [ends.index(delivery.offset) + 1 if delivery.offset else 0]

        def moved() -> bool:
            moves.append(ends.index(Delivery(path, uri, EXPERIMENT).offset) + 1)
            return True

        with suppress(UnreachableError):
            delivery.run(path.stat().st_size, moved)
        return [after - before for before, after in pairwise(moves)]

    assert noted() == [1, 2, 4]
    outage.over.set()
    assert noted() == [1, 2, 4, 8, 16, 32, 11, 10]
    assert len(MlflowRecorder(uri, EXPERIMENT).client.search_runs([delivery.experiment_id])) == 1


def test_what_was_told_before_a_contradiction_reaches_the_store(path: Path, uri: str) -> None:
    store = MlflowRecorder(uri, EXPERIMENT)
    store.start("demo", {}, {})
    store.log_metrics("demo", {"val/accuracy": 0.5}, 3)
    recorder = JsonlRecorder(path, experiment=EXPERIMENT)
    recorder.start("demo", {}, {})
    for step, value in enumerate((0.1, 0.2, 0.6, 0.7), start=1):
        recorder.log_metrics("demo", {"val/accuracy": value}, step)
    recorder.close()
    with pytest.raises(ConflictError, match=r"0\.5 at step 3 and was now 0\.6"):
        deliver(path, uri)
    points = store.client.get_metric_history(store.run_id("demo"), "val/accuracy")
    assert sorted((point.step, point.value) for point in points) == [(1, 0.1), (2, 0.2), (3, 0.5)]


def test_no_call_waits_for_a_store_that_hangs(path: Path, uri: str, files: Path, observe: Observe) -> None:
    answered = threading.Event()

    def hanging(tracking_uri: str, experiment: str, *, clock: Callable[[], float]) -> MlflowRecorder:
        recorder = MlflowRecorder(tracking_uri, experiment, clock=clock)
        start = recorder.start

        def late(*arguments: Any, **options: Any) -> None:
            assert answered.wait(60)
            start(*arguments, **options)

        recorder.start = late  # type: ignore[method-assign]
        return recorder

    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=partial(Delivery, open=hanging))
    work(recorder, files)  # would never return if a call waited
    assert not recorder.flush(0.01)
    assert read_journal(path)["demo"].status == Status.FINISHED
    answered.set()
    recorder.close()
    assert observe(uri, EXPERIMENT)["demo/trial-01"]["status"] == Status.FINISHED


def test_times_are_those_of_the_work_not_of_the_delivery(path: Path, uri: str, files: Path) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=partial(Delivery, open=Outage(0)))
    work(recorder, files)
    recorder.close()
    at = {}
    for line in path.read_text().splitlines()[1:]:
        record = json.loads(line)
        at.setdefault((record["run_key"], record["call"]), int(record["at"] * 1000))
    deliver(path, uri)
    store = MlflowRecorder(uri, EXPERIMENT)
    info = store.client.get_run(store.run_id("demo/trial-00")).info
    (first, *_) = store.client.get_metric_history(info.run_id, "val/accuracy")
    key = "demo/trial-00"
    assert (info.start_time, first.timestamp, info.end_time) == tuple(
        at[key, call] for call in ("start", "log_points", "finish")
    )


def test_another_sweep_by_the_name_is_told_before_anything_trains(path: Path, uri: str) -> None:
    store = MlflowRecorder(uri, EXPERIMENT)
    store.start("demo", {"seed": 1}, {})
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    recorder.start("demo", {"seed": 0}, {})
    with pytest.raises(ConflictError, match="'seed' of run 'demo' is recorded as '1' and cannot become '0'"):
        recorder.flush(300)
    recorder.finish("demo", Status.KILLED)  # the books can still be closed
    recorder.close()
    assert read_journal(path)["demo"].status == Status.KILLED
    assert store.client.get_run(store.run_id("demo")).data.params == {"seed": "1"}


def test_a_contradiction_raises_at_the_next_call(path: Path, uri: str) -> None:
    store = MlflowRecorder(uri, EXPERIMENT)
    store.start("demo", {}, {})
    store.log_metrics("demo", {"val/accuracy": 0.5}, 1)
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    recorder.start("demo", {}, {})
    recorder.log_metrics("demo", {"val/accuracy": 0.6}, 1)
    recorder._thread.join(300)
    with pytest.raises(ConflictError, match=r"0\.5 at step 1 and was now 0\.6"):
        recorder.set_tags("demo", {})
    recorder.close()


def test_a_store_that_cannot_be_used_is_refused_at_once(tmp_path: Path, path: Path, uri: str) -> None:
    MlflowRecorder(uri, EXPERIMENT).client.delete_experiment(MlflowRecorder(uri, EXPERIMENT).experiment_id)
    before = set(threading.enumerate())
    for bad, message in ((uri, "mlflow experiments restore"), (str(tmp_path / "mlruns"), "migrate-filestore")):
        with pytest.raises(TrackingError, match=message):
            JournalRecorder(path, bad, EXPERIMENT)
    assert not {thread for thread in set(threading.enumerate()) - before if thread.name == "tracking"}


def test_files_that_are_gone_are_told_once(
    path: Path, uri: str, tmp_path: Path, observe: Observe, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = Outage(0)
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=partial(Delivery, open=outage), pause_s=0.001)
    recorder.start("demo", {}, {})
    (tmp_path / "gone").mkdir()
    recorder.log_directory("demo", tmp_path / "gone", "a")
    recorder.log_directory("demo", tmp_path / "gone", "b")
    (tmp_path / "gone").rmdir()
    recorder.finish("demo", Status.FINISHED)
    outage.over.set()
    recorder.close()
    deliver(path, uri)
    assert observe(uri, EXPERIMENT)["demo"]["status"] == Status.FINISHED
    told = [line for line in capsys.readouterr().err.splitlines() if "is gone" in line]
    assert told == [f"tracking: {tmp_path}/gone is gone, so MLflow does not get these files of demo"]


def test_a_results_folder_can_be_moved(
    path: Path, uri: str, files: Path, tmp_path: Path, undisturbed: dict[str, Any], observe: Observe
) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=partial(Delivery, open=Outage(0)))
    work(recorder, files)
    recorder.close()
    moved = (tmp_path / "sweeps").rename(tmp_path / "elsewhere") / "demo" / "journal.jsonl"
    deliver(moved, uri)
    assert observe(uri, EXPERIMENT) == undisturbed


def test_a_store_that_lost_everything_gets_it_again(
    path: Path, uri: str, database: Path, template: Path, files: Path, undisturbed: dict[str, Any], observe: Observe
) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    work(recorder, files)
    recorder.close()
    other = sqlite_uri(Path(shutil.copy(template, database.with_name("other.db"))))
    JournalRecorder(path, other, EXPERIMENT).close()  # an empty store at another address, or
    replaced = sqlite_uri(database.with_name("other.db"))
    store = MlflowRecorder(replaced, EXPERIMENT)
    for key in undisturbed:
        store.client.delete_run(store.run_id(key))  # at the same address
    JournalRecorder(path, replaced, EXPERIMENT).close()
    assert observe(replaced, EXPERIMENT) == undisturbed
    assert observe(uri, EXPERIMENT) == undisturbed


def test_a_journal_begun_anew_is_delivered_from_its_beginning(
    path: Path, uri: str, files: Path, undisturbed: dict[str, Any], observe: Observe
) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    recorder.start("demo", {"seed": 0}, {"kind": "sweep"}, name="Demo")
    recorder.set_description("demo", "# A longer line than those of the new journal\n" * 3)
    recorder.close()
    path.unlink()  # but not what says how far it was delivered
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    assert recorder.new
    work(recorder, files)
    recorder.close()
    assert observe(uri, EXPERIMENT) == undisturbed


def test_an_artefact_store_that_fails_in_its_own_way_stops_nothing(
    path: Path,
    uri: str,
    files: Path,
    undisturbed: dict[str, Any],
    observe: Observe,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mlflow import MlflowClient

    class ClientError(Exception):
        pass

    stored, failures = MlflowClient.log_artifacts, iter([ClientError("the bucket is closed")])

    def log_artifacts(self: MlflowClient, *arguments: Any) -> None:
        for failure in failures:
            raise failure
        stored(self, *arguments)

    monkeypatch.setattr(MlflowClient, "log_artifacts", log_artifacts)
    recorder = JournalRecorder(path, uri, EXPERIMENT, pause_s=0.001)
    work(recorder, files)
    while not recorder.flush(300):
        pass
    recorder.close()
    assert observe(uri, EXPERIMENT) == undisturbed
    assert "does not answer as it should: the bucket is closed. The work goes on" in capsys.readouterr().err


def test_a_run_deleted_on_the_way_is_made_anew(
    path: Path, uri: str, files: Path, undisturbed: dict[str, Any], observe: Observe, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT, pause_s=0.001)
    recorder.start("demo", {"seed": 0}, {"kind": "sweep"}, name="Demo")
    recorder.start("demo/trial-00", {"lr": 0.0, "heads": "ridge"}, {"kind": "trial"}, parent="demo")
    assert recorder.flush(300)
    store = MlflowRecorder(uri, EXPERIMENT)
    for key in ("demo", "demo/trial-00"):
        store.client.delete_run(store.run_id(key))
    work(recorder, files)
    recorder.close()
    deliver(path, uri)
    assert observe(uri, EXPERIMENT) == undisturbed


# ---------------------------------------------------------------- kill -9

KILLED_SWEEP = """
import os, signal, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import mlflow
from test_journal import EXPERIMENT, work
from tracking import JournalRecorder, MlflowRecorder, sqlite_uri
from tracking.delivery import Delivery
from tracking.journal_file import JournalFile
from tracking.mlflow_run import MlflowRun

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def killing(cls, method, count, before):
    original, calls = getattr(cls, method), []
    def counted(self, *arguments, **options):
        calls.append(method)
        if len(calls) == count:
            before(self, *arguments, **options)
        return original(self, *arguments, **options)
    setattr(cls, method, counted)

def torn(self, **record):
    with self.path.open("ab") as file:
        file.write(b'{"call": "log_po')
    die()

POINTS = {
    "journaled": lambda n: killing(JournalFile, "append", n, die),
    "torn": lambda n: killing(JournalFile, "append", n, torn),
    "unsaved": lambda n: killing(Delivery, "_save", n, die),      # the store has the call, and nobody remembers
    "gathered": lambda n: killing(MlflowRun, "write", n, die),  # the store has some of what is told at once
}
children = []
folders = sorted(Path(sys.argv[2]).iterdir())
MlflowRecorder(sqlite_uri(folders[0] / "m.db"), EXPERIMENT).close()  # loads what every child needs
for folder in folders:
    child = os.fork()
    if child == 0:
        point, n = folder.name.split("-")
        POINTS[point](int(n))
        path = folder / "sweeps" / "demo" / "journal.jsonl"
        recorder = JournalRecorder(path, sqlite_uri(folder / "m.db"), EXPERIMENT)
        work(recorder, Path(sys.argv[3]))
        recorder.close()
        os._exit(3)
    children.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(children)
"""

KILLS = ("journaled-2", "journaled-17", "torn-6", "torn-13", "unsaved-1", "unsaved-4", "gathered-2", "gathered-5")


def test_a_kill_anywhere_loses_and_doubles_nothing(
    template: Path, tmp_path: Path, files: Path, undisturbed: dict[str, Any], observe: Observe
) -> None:
    for kill in KILLS:
        (tmp_path / "kills" / kill).mkdir(parents=True)
        shutil.copy(template, tmp_path / "kills" / kill / "m.db")
    command = [sys.executable, "-c", KILLED_SWEEP, str(Path(__file__).parent), str(tmp_path / "kills"), str(files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == str([-9] * len(KILLS)), done.stderr
    for kill in KILLS:
        path = tmp_path / "kills" / kill / "sweeps" / "demo" / "journal.jsonl"
        uri = sqlite_uri(tmp_path / "kills" / kill / "m.db")
        deliver(path, uri)
        journal, store = read_journal(path), observe(uri, EXPERIMENT)
        assert set(journal) == set(store), kill
        for key, run in journal.items():
            assert (run.metrics, run.params, run.status) == tuple(
                store[key][part] for part in ("metrics", "params", "status")
            ), (kill, key)
        recorder = JournalRecorder(path, uri, EXPERIMENT)
        work(recorder, files)  # the sweep is continued: what the ledger has is written again
        recorder.close()
        assert observe(uri, EXPERIMENT) == undisturbed, kill


# ---------------------------------------------------------------- upkeep without the sweep


def test_reconcile_closes_what_a_dead_process_left(path: Path, uri: str, observe: Observe) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    for key in ("demo", "demo/trial-00", "demo/trial-01"):
        recorder.start(key, {}, {})
    recorder.finish("demo/trial-00", Status.FINISHED)
    with pytest.raises(InUseError):
        reconcile_store(path, uri)
    recorder.close()
    MlflowRecorder(uri, EXPERIMENT).start("demonstration", {}, {})  # begins with the name, but is another sweep
    assert reconcile_store(path, uri) == ["demo", "demo/trial-01"]
    assert reconcile_store(path, uri) == []
    seen = {key: (run["status"], run["tags"]) for key, run in observe(uri, EXPERIMENT).items()}
    reason = {"reason": "the process ended without a word"}
    assert seen == {
        "demo": (Status.KILLED, reason),
        "demo/trial-00": (Status.FINISHED, {}),
        "demo/trial-01": (Status.KILLED, reason),
        "demonstration": ("RUNNING", {}),
    }
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    assert reconcile(recorder) == []
    recorder.close()


def test_reconcile_ends_in_a_restored_store_what_has_ended(path: Path, uri: str, observe: Observe) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    recorder.start("demo", {}, {})
    recorder.finish("demo", Status.FINISHED)
    recorder.close()
    store = MlflowRecorder(uri, EXPERIMENT)
    store.client.update_run(store.run_id("demo"), status="RUNNING")
    assert reconcile_store(path, uri) == ["demo"]
    assert observe(uri, EXPERIMENT)["demo"]["status"] == Status.FINISHED


@pytest.fixture
def results(path: Path, uri: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder with the sweep "demo", of which MLflow has the two first records."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=partial(Delivery, open=Outage(3)))
    work(recorder, files)
    recorder.close()
    return tmp_path


@pytest.mark.usefixtures("one_by_one")
def test_the_commands(
    results: Path,
    uri: str,
    template: Path,
    undisturbed: dict[str, Any],
    observe: Observe,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = ["--results", str(results)]
    running = JsonlRecorder(results / "sweeps" / "running" / "journal.jsonl", experiment=EXPERIMENT)
    running.start("running", {}, {})
    capsys.readouterr()
    assert main(["deliver", *folder]) == 0
    assert observe(uri, EXPERIMENT) == undisturbed
    assert main(["deliver", "demo", *folder]) == 0
    assert main(["reconcile", *folder]) == 0
    other = sqlite_uri(Path(shutil.copy(template, results / "other.db")))
    for _ in range(2):
        assert main(["replay", "demo", "--to", other, *folder]) == 0
    assert observe(other, EXPERIMENT) == undisturbed
    assert capsys.readouterr().out.splitlines() == [
        f"demo: 15 records delivered to MLflow at {uri}",
        "running: is being run, and delivers its 1 records by itself",
        f"demo: no records delivered to MLflow at {uri}",
        "demo: no run was left open",
        "running: is being run",
        *[f"demo: 17 records replayed to MLflow at {other}"] * 2,
    ]
    running.close()
    assert main(["replay", "dema", "--to", other, *folder]) == 2
    assert capsys.readouterr().err == (
        f"error: no sweep called 'dema' has a journal in {results}; known: demo, running. Did you mean 'demo'?\n"
    )


def test_a_line_that_is_being_written_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread delivers up to where the file ended; the system shows it a long line page by page."""
    file = JournalFile(tmp_path / "journal.jsonl", experiment="digits")
    before, seen = file.size(), []

    class InTwo(FileIO):
        def write(self, line: Any) -> int:
            shown = file.path.stat().st_size
            if shown == before:
                return super().write(line[:9]) or 0
            seen.append((file.sync(), shown, list(read_records(file.path, before))))
            return super().write(line) or 0

    monkeypatch.setattr(file._file, "_file", InTwo(file.path, "ab"))
    file.append(call="finish", run_key="demo", status="FINISHED", at=1.0)
    assert seen == [(before, before + 9, [])]
    assert file.size() == file.path.stat().st_size
    assert [record["call"] for _, record in read_records(file.path, before)] == ["finish"]
    monkeypatch.undo()
    file.close()
    assert JournalFile(file.path).size() == file.path.stat().st_size
