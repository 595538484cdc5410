"""The journal file: one line a call, crashes, versions."""

from __future__ import annotations

import json
import logging
import time
import zlib
from pathlib import Path

import pytest

from tracking import FINISHED, InUseError, JsonlRecorder, Point, TrackingError
from tracking.jsonl import read_journal


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    recorder = JsonlRecorder(tmp_path / "runs" / "journal.jsonl")
    recorder.start("demo", {"seed": 0}, {})
    recorder.log_metrics("demo", {"val/accuracy": 0.5, "val/loss": 1.5}, step=1)
    recorder.log_metrics("demo", {"val/accuracy": 0.5}, step=1)
    recorder.log_points("demo", [])
    recorder.finish("demo", FINISHED)
    recorder.finish("demo", FINISHED)
    recorder.close()
    recorder.close()
    return recorder.path


def test_one_line_a_call_and_none_for_nothing_new(journal: Path) -> None:
    lines = journal.read_bytes().splitlines()
    records = [json.loads(line) for line in lines]
    for line, record in zip(lines, records, strict=True):
        crc = record.pop("crc")
        assert int(crc, 16) == zlib.crc32(line.replace(f', "crc": "{crc}"'.encode(), b""))
    times = [record.pop("at") for record in records[1:]]
    assert sorted(times) == times
    assert abs(times[-1] - time.time()) < 60
    assert len(records[0].pop("id")) == 16
    assert records == [
        {"format": "tracking-journal", "version": 2},
        {"call": "start", "run_key": "demo", "params": {"seed": "0"}, "tags": {}, "name": None, "parent": None},
        {"call": "log_points", "run_key": "demo", "points": [["val/accuracy", 0.5, 1], ["val/loss", 1.5, 1]]},
        {"call": "finish", "run_key": "demo", "status": "FINISHED"},
    ]


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


def test_a_lost_line_is_noticed(journal: Path) -> None:
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], *lines[2:]]))
    with pytest.raises(TrackingError, match="does not fit together"):
        read_journal(journal)


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
    for version, age in ((3, "newer"), (1, "older")):
        journal.write_text(f'{{"format": "tracking-journal", "version": {version}}}\n')
        with pytest.raises(TrackingError, match=f"format version {version}, {age} than the 2"):
            JsonlRecorder(journal)


def test_artefacts_lie_beside_the_file(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_text("a")
    recorder = JsonlRecorder(journal)
    recorder.start("demo/trial-00", {}, {})
    recorder.log_directory("demo/trial-00", tmp_path / "files", "results")
    assert (journal.parent / "journal.artifacts" / "demo%2Ftrial-00" / "results" / "a").read_text() == "a"
