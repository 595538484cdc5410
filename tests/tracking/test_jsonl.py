"""The journal file: one line a call, crashes, versions."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tracking import ConflictError, InUseError, JsonlRecorder, Point, Status, TrackingError
from tracking.journal_file import JournalFile, read_records
from tracking.jsonl import read_journal
from tracking.packed import PackedPoints

from .conftest import Modelled


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    recorder = JsonlRecorder(tmp_path / "runs" / "journal.jsonl")
    recorder.start("demo", {"seed": 0}, {})
    recorder.log_metrics("demo", {"val/accuracy": 0.5, "val/loss": 1.5}, step=1)
    recorder.log_metrics("demo", {"val/accuracy": 0.5}, step=1)
    recorder.log_points("demo", [])
    recorder.finish("demo", Status.FINISHED)
    recorder.finish("demo", Status.FINISHED)
    recorder.close()
    recorder.close()
    return recorder.path


def test_one_line_a_call_and_none_for_nothing_new(journal: Path) -> None:
    lines = journal.read_bytes().splitlines()
    records = [json.loads(line) for line in lines]
    for line, record in zip(lines, records, strict=True):
        crc = record.pop("crc")
        assert int(crc, 16) == zlib.crc32(line.replace(f', "crc": "{crc}"'.encode(), b""))
    assert [record.pop("line") for record in records] == [1, 2, 3, 4]
    times = [record.pop("at") for record in records[1:]]
    assert sorted(times) == times
    assert abs(times[-1] - time.time()) < 60
    assert len(records[0].pop("id")) == 16
    assert records == [
        {"format": "tracking-journal", "version": 3},
        {"call": "start", "run_key": "demo", "params": {"seed": "0"}, "tags": {}, "name": None, "parent": None},
        {"call": "log_points", "run_key": "demo", "points": [["val/accuracy", 0.5, 1], ["val/loss", 1.5, 1]]},
        {"call": "finish", "run_key": "demo", "status": "FINISHED"},
    ]


def test_points_of_a_run_that_has_ended_are_packed_and_known_and_others_may_come(journal: Path) -> None:
    awkward = {"val/accuracy": {1: 0.1 + 0.2, 2: 5e-324}, "train/ce": {7: 1 / 3, 70: -0.0}}
    recorder = JsonlRecorder(journal)
    recorder.start("demo/a", {}, {}, parent="demo")
    points = [Point(key, value, step) for key, steps in awkward.items() for step, value in steps.items()]
    recorder.log_points("demo/a", points)
    recorder.finish("demo/a", Status.FINISHED)
    run = recorder.runs["demo/a"]
    for known in (run, read_journal(journal)["demo/a"]):
        assert isinstance(known.metrics, PackedPoints)
        assert {key: dict(steps) for key, steps in known.metrics.items()} == awkward
        assert known.metrics == awkward
    size = journal.stat().st_size
    recorder.log_points("demo/a", points)
    assert journal.stat().st_size == size, "nothing is new"
    with pytest.raises(ConflictError, match=r"recorded as 0\.3"):
        recorder.log_metrics("demo/a", {"val/accuracy": 0.5}, step=1)
    assert isinstance(run.metrics, PackedPoints)
    recorder.log_metrics("demo/a", {"val/accuracy": 0.75}, step=3)
    assert run.metrics == {**awkward, "val/accuracy": {**awkward["val/accuracy"], 3: 0.75}}
    recorder.close()


def test_models_of_a_run_are_one_line_and_one_a_line_in_older_journals(journal: Path, modelled: Modelled) -> None:
    recorder = JsonlRecorder(journal)
    for call in modelled.calls(recorder):
        call()
    told = {name: run.models for name, run in recorder.runs.items()}
    recorder.close()
    records = [record for _, record in read_records(journal)]
    assert [len(record["models"]) for record in records if record["call"] == "log_models"] == [1, 2]

    older = JournalFile(journal.with_name("older.jsonl"))
    for record in records:
        for model in record.pop("models", [None]):
            older.append(**(record if model is None else {**record, "call": "log_model", "model": model}))
    older.close()
    assert {name: run.models for name, run in read_journal(older.path).items()} == told
    assert len(told["demo/trial-00"]) == 3


@pytest.mark.parametrize("line", range(4))
def test_a_crash_within_any_line_loses_that_line_only(
    journal: Path, line: int, caplog: pytest.LogCaptureFixture
) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    whole = b"".join(lines[:line])
    journal.write_bytes(whole + lines[line][:-1])  # all but the end of line: the shortest cut there is
    with caplog.at_level(logging.WARNING):
        recorder = JsonlRecorder(journal)
    assert "cut off" in caplog.text
    recorder.start("demo", {"seed": 0}, {})
    recorder.log_points("demo", [Point("val/accuracy", 0.5, 1), Point("val/loss", 1.5, 1)])
    recorder.close()
    assert journal.read_bytes().startswith(whole)
    assert read_journal(journal)["demo"].metrics == {"val/accuracy": {1: 0.5}, "val/loss": {1: 1.5}}


def test_damage_before_the_last_line_is_refused(journal: Path) -> None:
    damaged = journal.read_bytes().replace(b'"run_key"', b'"run', 1)
    journal.write_bytes(damaged)
    with pytest.raises(TrackingError, match=r"journal\.jsonl, line 2 is not a line"):
        JsonlRecorder(journal)
    assert journal.read_bytes() == damaged


def test_a_changed_digit_is_noticed(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'["val/loss", 1.5', b'["val/loss", 1.6', 1))
    with pytest.raises(TrackingError, match=r"journal\.jsonl, line 3 is not a line .*wrong checksum"):
        read_journal(journal)


DISORDER: dict[str, Callable[[list[bytes]], object]] = {
    "line 3 is missing": lambda lines: lines.pop(2),
    "lines 2 to 3 are missing": lambda lines: lines.__delitem__(slice(1, 3)),
    "line 2 is missing": lambda lines: lines.insert(1, lines.pop(2)),
    "line 2 stands a second time, as line 3": lambda lines: lines.insert(1, lines[1]),
}


@pytest.mark.parametrize(("told", "disturb"), DISORDER.items(), ids=["lost", "two lost", "swapped", "doubled"])
def test_a_line_that_is_lost_moved_or_doubled_is_named(
    journal: Path, told: str, disturb: Callable[[list[bytes]], object]
) -> None:
    """That all fit together does not help: metrics of a session that are gone would go unnoticed."""
    lines = journal.read_bytes().splitlines(keepends=True)
    disturb(lines)
    journal.write_bytes(b"".join(lines))
    for read in (read_journal, JsonlRecorder):
        with pytest.raises(TrackingError, match=rf"journal\.jsonl, line \d is not .* \({told}\); restore the file"):
            read(journal)


def test_a_lost_line_is_named_also_from_the_middle_of_a_file(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    start = len(lines[0])
    assert [record["call"] for _, record in read_records(journal, start)] == ["start", "log_points", "finish"]
    journal.write_bytes(b"".join([lines[0], lines[1], lines[3]]))
    with pytest.raises(TrackingError, match="line 3 is missing"):
        list(read_records(journal, start))


def test_one_process_at_a_time(journal: Path) -> None:
    first = JsonlRecorder(journal)
    with pytest.raises(InUseError, match="is being written by another process"):
        JsonlRecorder(journal)
    first.close()
    JsonlRecorder(journal).close()


@pytest.mark.parametrize("content", ["[]\n", '{"format": "other", "version": 1}\n', "hello\n"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(content)
    with pytest.raises(TrackingError, match="line 1 is not a line of a tracking journal"):
        JsonlRecorder(path)
    assert path.read_text() == content


def test_another_version_is_refused(journal: Path) -> None:
    for version, age in ((4, "newer"), (2, "older")):
        journal.write_text(f'{{"format": "tracking-journal", "version": {version}}}\n')
        with pytest.raises(TrackingError, match=f"format version {version}, {age} than the 3"):
            JsonlRecorder(journal)


def test_artefacts_below_its_folder_are_named_as_seen_from_there(journal: Path, tmp_path: Path) -> None:
    recorder = JsonlRecorder(journal)
    recorder.start("demo/trial-00", {}, {})
    for folder in (journal.parent / "runs" / "files", tmp_path / "files"):
        folder.mkdir(parents=True)
        recorder.log_directory("demo/trial-00", folder, "results")
    named = [record["directory"] for _, record in read_records(journal) if record["call"] == "log_directory"]
    assert named == ["runs/files", str(tmp_path / "files")]
