"""Delivery by a process of its own: what it says, and what happens when it or the process that began it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tracking import (
    ConflictError,
    DeliveryProcess,
    JournalRecorder,
    MlflowRecorder,
    Status,
    TrackingError,
    waiting,
)
from tracking.delivery import Delivery
from tracking.delivery_server import _portable

Observe = Callable[[str, str], dict[str, Any]]
EXPERIMENT = "sweeps"
LIMIT_S = 300.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def steps(store: MlflowRecorder) -> list[int]:
    """Return the steps of the metric that the tests record, as MLflow has them."""
    return [point.step for point in store.client.get_metric_history(store.run_id("demo"), "val/accuracy")]


def test_the_driver_of_a_sweep_does_not_load_mlflow_to_record(path: Path, uri: str, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tracking import DeliveryProcess, JournalRecorder
with DeliveryProcess() as process:
    recorder = JournalRecorder(Path(sys.argv[1]), sys.argv[2], "sweeps", delivery=process.delivery)
    recorder.start("demo", {}, {})
    assert recorder.flush(300)
    print(recorder.experiment_id, recorder.first_run_id, "mlflow" in sys.modules)
    recorder.close()
"""
    words = [sys.executable, "-c", script, str(path), uri]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
    store = MlflowRecorder(uri, EXPERIMENT)
    assert (done.stdout.split(), done.stderr) == ([store.experiment_id, store.run_id("demo"), "False"], "")


def test_a_process_that_dies_is_replaced_and_nothing_is_lost(
    path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with DeliveryProcess() as process:
        recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery, pause_s=0.01)
        recorder.start("demo", {}, {})
        assert recorder.flush(LIMIT_S)
        for step in (1, 2):
            assert process.process is not None
            first = process.process
            first.kill()
            recorder.log_metrics("demo", {"val/accuracy": step / 10}, step)
            while not recorder.flush(LIMIT_S):
                pass
            assert process.process is not first
        recorder.close()
    told = capsys.readouterr().err.splitlines()
    ended = "tracking: the process that brings records to MLflow has ended (signal 9). The work goes on: "
    assert [line.startswith(ended) for line in told] == [True, False] * 2
    assert set(told[1::2]) == {f"tracking: MLflow at {uri} has everything again"}
    assert steps(MlflowRecorder(uri, EXPERIMENT)) == [1, 2]


def test_what_asks_processes_to_end_is_for_the_driver(
    path: Path, uri: str, process: DeliveryProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery)
    before = process.process
    assert before is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        before.send_signal(number)
    recorder.start("demo", {}, {})
    assert recorder.flush(LIMIT_S)
    recorder.close()
    assert process.process is before
    assert capfd.readouterr().err == ""


def test_what_is_left_when_the_process_cannot_go_on_waits_for_the_next(
    path: Path, uri: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with DeliveryProcess() as process:
        recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery)
        assert process.process is not None
        process.process.kill()
        monkeypatch.setattr(sys, "executable", "/bin/false")
        recorder.start("demo", {}, {})
        recorder.close()
    assert waiting(path, uri) == 1
    told = capsys.readouterr().err.splitlines()
    assert [("has ended" in line, "1 records for MLflow" in line) for line in told] == [(True, False), (False, True)]


def test_errors_come_with_their_kind_and_where_they_were_raised(path: Path, uri: str, process: DeliveryProcess) -> None:
    MlflowRecorder(uri, EXPERIMENT).start("demo", {"seed": 1}, {})
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery)
    recorder.start("demo", {"seed": 0}, {})
    with pytest.raises(ConflictError, match="'seed' of run 'demo' is recorded as '1' and cannot become '0'") as caught:
        recorder.flush(LIMIT_S)
    recorder.close()
    assert "mlflow_recorder.py" in caught.value.__notes__[0]
    with pytest.raises(TrackingError, match="migrate-filestore"):
        JournalRecorder(path, str(path.parent / "mlruns"), EXPERIMENT, delivery=process.delivery)


def test_an_error_that_cannot_be_sent_is_told_with_its_trace() -> None:
    class OfALibraryError(Exception):
        pass

    portable = _portable(OfALibraryError("a bug"))
    assert type(portable) is RuntimeError
    assert "OfALibraryError: a bug" in str(portable)


def test_words_for_the_person_come_from_the_one_process(
    path: Path, uri: str, tmp_path: Path, process: DeliveryProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery)
    assert process.process is not None
    os.kill(process.process.pid, signal.SIGSTOP)  # so that it finds the folder gone
    recorder.start("demo", {}, {})
    (tmp_path / "gone").mkdir()
    recorder.log_directory("demo", tmp_path / "gone", "a")
    (tmp_path / "gone").rmdir()
    os.kill(process.process.pid, signal.SIGCONT)
    assert recorder.flush(LIMIT_S)
    recorder.close()
    assert capfd.readouterr().err == f"tracking: {tmp_path}/gone is gone, so MLflow does not get these files of demo\n"


def test_the_end_does_not_wait_for_a_process_that_hangs(
    path: Path, uri: str, process: DeliveryProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with DeliveryProcess() as process:
        recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery)
        assert process.process is not None
        os.kill(process.process.pid, signal.SIGSTOP)
        recorder.start("demo", {}, {})
        monkeypatch.setattr("tracking.journal.DRAIN_S", 0.0)
        recorder.close()
    assert "1 records for MLflow" in capsys.readouterr().err
    recorder._thread.join(LIMIT_S)
    assert not recorder._thread.is_alive(), "it has learnt that the process is gone"


def test_one_that_was_asked_for_nothing_keeps_nobody_waiting() -> None:
    with DeliveryProcess() as process:
        begun = process.process
    assert begun is not None
    assert begun.returncode == -signal.SIGKILL


DRIVER = """
import sys, time
from pathlib import Path
from tracking import DeliveryProcess, JournalRecorder
process = DeliveryProcess()
recorder = JournalRecorder(Path(sys.argv[1]), sys.argv[2], "sweeps", delivery=process.delivery)
recorder.start("demo", {}, {})
assert recorder.flush(300)
print(process.process.pid, flush=True)
for step in range(1, 10_000):
    recorder.log_metrics("demo", {"val/accuracy": 1 / step}, step)
    time.sleep(0.001)
"""


def test_it_ends_with_the_process_that_began_it(path: Path, uri: str, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(path), uri],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert driver.stdout is not None
    assert driver.stderr is not None
    pid = int(driver.stdout.readline())
    time.sleep(0.2)  # it is in the midst of its work
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + LIMIT_S
    while _is_there(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert list(temporary.iterdir()) == []
    assert driver.stderr.read() == "", "nor does it complain that nobody hears it"
    with DeliveryProcess() as process:
        again = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery)
        again.finish("demo", Status.KILLED)
        again.close()
    last = len(again.runs["demo"].metrics["val/accuracy"])
    assert last > 10
    assert steps(MlflowRecorder(uri, EXPERIMENT)) == [*range(1, last + 1)], "all that was recorded, once"


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_functions_are_called_where_mlflow_is_loaded(
    path: Path, uri: str, tmp_path: Path, process: DeliveryProcess
) -> None:
    process.begin(os.mkdir, tmp_path / "begun")
    process.begin(os.mkdir, tmp_path / "begun")  # that it fails is not told
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery)
    assert (tmp_path / "begun").is_dir(), "before what was asked for later"
    assert process.process is not None
    assert recorder.call(os.getpid) == process.process.pid
    with pytest.raises(FileNotFoundError, match="nowhere"):
        recorder.call(os.listdir, tmp_path / "nowhere")
    recorder.close()
    assert JournalRecorder(path, uri, EXPERIMENT).call(os.getpid) == os.getpid()


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_its_temporary_files_go_with_it(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with DeliveryProcess() as process:
        process.begin(tempfile.mkdtemp)
        process.begin(os.mkdir, tmp_path / "made")
        while not (tmp_path / "made").exists():
            time.sleep(0.01)
        (folder,) = (entry for entry in tmp_path.iterdir() if entry.name != "made")
        assert len(list(folder.iterdir())) == 1
        if how == "killed":
            assert process.process is not None
            process.process.kill()
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_an_answer_that_nobody_waited_for_is_not_taken_for_another(
    path: Path, uri: str, process: DeliveryProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT, delivery=process.delivery)
    assert recorder.flush(LIMIT_S)
    delegated = recorder._delivery
    with monkeypatch.context() as patch:
        patch.setattr(delegated, "_received", lambda line: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recorder.call(os.getcwd)
    assert recorder.call(os.path.basename, "a/b") == "b"
    recorder.start("demo", {}, {})
    assert recorder.flush(LIMIT_S)
    recorder.close()
    assert waiting(path, uri) == 0


def test_one_process_serves_journals_in_turn(tmp_path: Path, uri: str, process: DeliveryProcess) -> None:
    one, two = (
        JournalRecorder(tmp_path / f"{name}.jsonl", uri, EXPERIMENT, delivery=process.delivery)
        for name in ("one", "two")
    )
    for recorder, name in ((one, "one"), (two, "two"), (one, "three"), (two, "four")):
        recorder.start(name, {}, {})
        assert recorder.flush(LIMIT_S)
    assert one.first_run_id != two.first_run_id
    for recorder in (one, two):
        recorder.close()
    store = MlflowRecorder(uri, EXPERIMENT)
    assert [store.run_id(name) for name in ("one", "two")] == [one.first_run_id, two.first_run_id]
    assert store.run_id("three")
    assert store.run_id("four")


def test_it_runs_no_code_of_the_folder_that_a_person_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "tracking", "json", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    with DeliveryProcess() as process:
        process.send(process.line(), 1, "load")
        assert process.line().recv()[0] == "failed", "since nothing is open; MLflow is loaded"
    assert not (tmp_path / "run").exists()


def test_a_delivery_in_this_process_has_the_ids_too(path: Path, uri: str) -> None:
    recorder = JournalRecorder(path, uri, EXPERIMENT)
    recorder.start("demo", {}, {})
    assert recorder.flush(LIMIT_S)
    here = Delivery(path, uri, EXPERIMENT)
    assert (here.experiment_id, here.first_run_id) == (None, None)
    here.connect()
    assert (here.experiment_id, here.first_run_id) == (recorder.experiment_id, recorder.first_run_id)
    recorder.close()
