"""A disk that fills up: one clear message, nothing lost that was computed, no half file taken, and it goes on later.

On a real small file system where mounting is permitted; what a write cut short does is tried everywhere.
"""

from __future__ import annotations

import errno
import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safe.states.checkpoint import load_state, save_state
from safe.training.trainer import SafeTrainer
from sweeps.ledger.jobs import Job
from sweeps.ledger.ledger import read_ledger
from sweeps.ledger.record import SessionRecord
from sweeps.worker.artifacts import RECORDS, keep_session
from sweeps.worker.stage_store import DiskStages
from tracking import JournalRecorder, lines
from tracking.jsonl import read_journal

from .conftest import tiny
from .sweeping import no_engine, run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is a file system of 12 MiB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True)
    except OSError as error:
        pytest.skip(f"needs the command mount: {error}")
    if mounted.returncode:
        pytest.skip(f"needs the right to mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(folder: Path, leave: int = 0) -> Path:
    """Take what is free in the file system of a folder but for some bytes; return the file to delete again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(folder)
        file.write(b"\0" * (free.f_bavail * free.f_frsize - leave))
    return ballast


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ---------------------------------------------------------------- one line, one file


class Narrow(io.FileIO):
    """A file that takes so many bytes and then finds the disk full."""

    room = 0

    def write(self, content: Any) -> int:
        part = bytes(content)[: min(self.room, 5)]  # a few bytes at a time, as a system call may
        self.room -= len(part)
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(part) or 0


@pytest.mark.parametrize("room", [0, 1, 7, 40])
def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path, first, second = tmp_path / "log", {"a": 1}, {"b": "x" * 50}
    with closing(lines.LineFile(path)) as file:
        file.append(first)
        assert path.read_bytes() == lines.encode(first, 1)
        monkeypatch.setattr(file, "_file", narrow := Narrow(path, "ab"))
        narrow.room = room
        with pytest.raises(OSError, match="No space left"):
            file.append(second)
        assert path.read_bytes() == lines.encode(first, 1)
        assert (file.count, file.size) == (1, len(lines.encode(first, 1)))
        narrow.room = 1000
        file.append(second)
        assert (file.count, file.size) == (2, path.stat().st_size)
    assert [lines.decode(line + b"\n") for line in (tmp_path / "log").read_bytes().splitlines()] == [
        {"a": 1, "line": 1}, {"b": "x" * 50, "line": 2}
    ]  # fmt: skip


def test_a_state_is_written_whole_or_not_at_all(small_disk: Path) -> None:
    save_state({"old": 1}, small_disk / "run.state")
    ballast = fill_up(small_disk, leave=4096)
    with pytest.raises(OSError, match="No space left") as told:
        save_state({"new": "x" * 100_000}, small_disk / "run.state")
    assert told.value.filename == str(small_disk / "run.state")
    assert load_state(small_disk / "run.state") == {"old": 1}
    assert {file.name for file in small_disk.iterdir()} == {"run.state", "ballast"}, "no temporary file stays"
    ballast.unlink()
    save_state({"new": 2}, small_disk / "run.state")
    assert load_state(small_disk / "run.state") == {"new": 2}


def test_a_full_stage_store_costs_nothing_but_the_sharing(pictures: Path, small_disk: Path) -> None:
    def metrics(stages: DiskStages | None) -> list[dict[str, float]]:
        trainer, results = SafeTrainer(tiny(pictures), stages=stages), []
        while not trainer.done:
            results.append({n: v for n, v in trainer.run_session().as_metrics().items() if n.startswith("test/")})
        return results

    fill_up(small_disk, leave=30_000)  # some stages fit, others do not
    with pytest.warns(UserWarning, match=f"stage store {small_disk}.* could not be written") as told:
        full = metrics(DiskStages(small_disk / "stages"))
    assert len([w for w in told if "could not be written" in str(w.message)]) == 1, "told once"
    assert full == metrics(None) == metrics(DiskStages(small_disk / "stages"))
    for path in (small_disk / "stages").rglob("*"):
        assert path.is_dir() or path.suffix == ".stage", "no temporary file and no lock stays"
        assert path.is_dir() or load_state(path)


def test_a_runs_files_are_whole_or_absent(small_disk: Path, trained: SafeTrainer) -> None:
    """The states of a session do not fit: the worker says so and ends, its records stay those of before."""
    job = {
        "id": "trial-00", "kind": "trial", "title": "t", "config": {}, "predictions": [], "states": str(small_disk)
    }  # fmt: skip
    record = SessionRecord(1, 3, "val", {}, row=(1.0,), counts=(1,))
    keep_session(job, trained, record)
    before = files(small_disk)
    fill_up(small_disk)
    with pytest.raises(OSError, match="No space left") as told:
        keep_session(job, trained, replace(record, session=2, metrics={"val/accuracy": 0.5}))
    assert Path(told.value.filename).parent == small_disk / "checkpoints", "the error names the file"
    assert {name: content for name, content in files(small_disk).items() if name != "ballast"} == before
    assert RECORDS in before


def test_a_full_database_of_mlflow_is_told_in_words(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = JournalRecorder(tmp_path / "journal.jsonl", f"sqlite:///{small_disk}/mlflow.db", "digits")
    recorder.start("demo", {}, {})
    assert recorder.drain()
    ballast = fill_up(small_disk)
    recorder.start("demo/trial-00", {"a" * 200: "b" * 400}, {}, parent="demo")
    assert not recorder.drain()
    told = capsys.readouterr().err.splitlines()
    assert any("database or disk is full" in line for line in told)
    assert all(line.startswith("tracking: ") for line in told), told
    ballast.unlink()
    assert recorder.drain()
    recorder.close()


# ---------------------------------------------------------------- a whole sweep


def test_a_sweep_on_a_full_disk_ends_in_a_message_and_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fills up at the second trial, then where the report is to be written, which needs 5 MB."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody there: the journal keeps everything
    results, rooms = small_disk / "results", [0, 700, 200_000]

    def fill_in_the_middle(job: Job) -> None:
        if job.id == "trial-01" or rooms[0] > 100_000:
            fill_up(results, leave=rooms[0])

    done = no_engine(monkeypatch, fill_in_the_middle)
    sweep = results / "sweeps" / "demo"
    for code in (2, 2, 1):
        assert run(results) == code
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if not line.startswith("tracking: ")]
        assert len(errors) == 1, captured.err
        assert errors[0].startswith("error: ")
        assert "No space left on device; what " in errors[0]
        assert "is kept: make room" in errors[0]
        assert len(read_ledger(sweep).jobs["trial-00"].sessions) == 2, "what was done is kept"
        assert f"demo/{'trial-00'}" in read_journal(sweep / "journal.jsonl")
        assert not [file for file in files(small_disk) if file.endswith((".tmp", ".draft"))]
        (results / "ballast").unlink()
        rooms.pop(0)
    again = no_engine(monkeypatch)
    assert run(results) == 0
    assert (done.count("trial-00/1"), done.count("final-01-0/2"), again) == (1, 1, []), "nothing is done twice"

    log, undisturbed = read_ledger(sweep), tmp_path / "undisturbed"
    assert log.finished
    assert run(undisturbed) == 0
    other = read_ledger(undisturbed / "sweeps" / "demo")
    assert log.selected == other.selected
    assert {job.id: (job.status, job.sessions) for job in log.jobs.values()} == {
        job.id: (job.status, job.sessions) for job in other.jobs.values()
    }
    runs, expected = (read_journal(place / "journal.jsonl") for place in (sweep, undisturbed / "sweeps" / "demo"))
    assert {key: (run.status, run.metrics) for key, run in runs.items()} == {
        key: (run.status, run.metrics) for key, run in expected.items()
    }
