"""The journal file: one line a call, crashes, versions."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tracking import FINISHED, JsonlRecorder, Point, TrackingError


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
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    assert records == [
        {"format": "tracking-journal", "version": 1},
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
    assert JsonlRecorder(journal).runs["demo"].metrics == {"val/accuracy": {1: 0.5}, "val/loss": {1: 1.5}}


def test_damage_before_the_last_line_is_refused(journal: Path) -> None:
    damaged = journal.read_bytes().replace(b'"run_key"', b'"run', 1)
    journal.write_bytes(damaged)
    with pytest.raises(TrackingError, match=r"journal\.jsonl, line 2 is not a line"):
        JsonlRecorder(journal)
    assert journal.read_bytes() == damaged


@pytest.mark.parametrize("content", ["[]\n", '{"format": "other", "version": 1}\n', "hello\n"])
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(content)
    with pytest.raises(TrackingError, match="line 1 is not a line of a tracking journal"):
        JsonlRecorder(path)
    assert path.read_text() == content


def test_a_newer_version_is_refused(journal: Path) -> None:
    journal.write_text(journal.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(TrackingError, match="format version 2, newer than the 1"):
        JsonlRecorder(journal)


def test_artefacts_lie_beside_the_file(journal: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_text("a")
    recorder = JsonlRecorder(journal)
    recorder.start("demo/trial-00", {}, {})
    recorder.log_directory("demo/trial-00", tmp_path / "files", "results")
    assert (journal.parent / "journal.artifacts" / "demo%2Ftrial-00" / "results" / "a").read_text() == "a"
