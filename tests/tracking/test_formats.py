"""Journals and their delivery files of another format: each is refused in words, by every command, and left alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tracking import JournalRecorder, JsonlRecorder, MemoryRecorder, TrackingError, journal_path, lines, sqlite_uri
from tracking.__main__ import main
from tracking.delivery import Delivery

Change = Callable[[list[dict[str, Any]]], object]


@pytest.fixture
def journal(tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal of the sweep "demo", of which MLflow has nothing."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(database))
    recorder = JsonlRecorder(journal_path(tmp_path, "demo"), experiment="digits")
    recorder.start("demo", {"seed": 0}, {})
    recorder.log_metrics("demo", {"val/accuracy": 0.5}, 1)
    recorder.close()
    return recorder.path


def rewrite(journal: Path, change: Change) -> None:
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        del record["crc"]
    change(records)
    journal.write_bytes(b"".join(lines.encode(record, number) for number, record in enumerate(records, start=1)))


CHANGES: dict[str, tuple[Change, str]] = {
    "older": (lambda records: records[0].update(version=1), "has format version 1, older than the 3 .*; remove it"),
    "newer": (lambda records: records[0].update(version=9), "has format version 9, newer than the 3 .*; use the prog"),
    "no id": (lambda records: records[0].pop("id"), r"line 1 is not a line of a tracking journal \(no id\)"),
    "no time": (lambda records: records[2].pop("at"), r"line 3 is not a line .*no record of this format version"),
    "no run": (lambda records: records[1].pop("run_key"), r"line 2 is not a line .*no record of this format version"),
    "unknown call": (lambda records: records[2].update(call="log_video"), "does not fit together .*'log_video'"),
    "other points": (lambda records: records[2].update(points=[["val/accuracy", 0.5]]), "does not fit together"),
    "no start": (lambda records: records.pop(1), "does not fit together"),
}
COMMANDS = (["deliver"], ["deliver", "demo"], ["reconcile"], ["replay", "demo", "--to", "sqlite:////nowhere/m.db"])


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=list(CHANGES))
def test_a_journal_of_another_format_is_refused_in_words(
    journal: Path, database: Path, change: Change, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(journal, change)
    before = journal.read_bytes()
    for command in COMMANDS:
        assert main([*command, "--results", str(tmp_path)]) == 2, command
        told = capsys.readouterr()
        assert re.search(message, told.err), told.err
        assert told.err.startswith(f"error: {journal}")
        assert told.out == ""
    with pytest.raises(TrackingError, match=message):
        JournalRecorder(journal, sqlite_uri(database), "digits", delivery=partial(Delivery, open=nobody))
    assert journal.read_bytes() == before


def test_a_journal_that_belongs_to_no_experiment_is_refused_in_words(
    journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(journal, lambda records: records[0].pop("experiment"))
    for command in COMMANDS:
        assert main([*command, "--results", str(tmp_path)]) == 2
        assert f"error: {journal} names no MLflow experiment" in capsys.readouterr().err


def test_what_says_how_far_it_was_delivered_is_refused_when_newer_and_done_without_when_damaged(
    journal: Path, database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deliver", "--results", str(tmp_path)]) == 0
    progress = journal.with_name("journal.delivered.json")
    whole = json.loads(progress.read_text())
    progress.write_text(json.dumps({**whole, "version": 7}))
    capsys.readouterr()
    for command in COMMANDS:
        assert main([*command, "--results", str(tmp_path)]) == 2
        assert capsys.readouterr().err == (
            f"error: {progress} has format version 7, this program reads 1; use the program that wrote it, or remove "
            "the file: everything is then delivered again, which changes nothing in MLflow\n"
        )
    for _ in range(2):  # what was refused holds nothing
        with pytest.raises(TrackingError, match="has format version 7"):
            JournalRecorder(journal, sqlite_uri(database), "digits", delivery=partial(Delivery, open=nobody))
    assert json.loads(progress.read_text())["version"] == 7

    progress.write_text("{")
    assert main(["deliver", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("demo: 2 records delivered")
    assert json.loads(progress.read_text()) == whole


def nobody(*_: Any, **__: Any) -> MemoryRecorder:
    raise AssertionError("nothing may be opened")
