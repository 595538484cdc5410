"""The ledger: what is appended is what is read, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safe.errors import UserError
from sweeps.ledger.ledger import FILE_NAME, Ledger, has_ledger, read_ledger

Make = Callable[..., Any]


def test_what_is_written_is_read_again(finished_sweep: Callable[[], Ledger], make_spec: Make) -> None:
    ledger = finished_sweep()
    log = read_ledger(ledger.path.parent)
    assert log == ledger.log
    assert log.finished
    assert log.spec == make_spec()
    assert [job.id for job in log.of_kind("trial")] == ["trial-00", "trial-01"]
    assert log.jobs["trial-00"].sessions[1].grid[1] == (0.8, 0.6)


def test_a_last_line_cut_short_is_ignored_and_removed(tmp_path: Path, make_spec: Make) -> None:
    ledger = Ledger.create(tmp_path, make_spec())
    ledger.append("job", job="trial-00", kind="trial", title="t", config={}, predictions=[{}])
    ledger.close()
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"type": "status", "job": "trial-00", "stat')
    assert read_ledger(tmp_path).jobs["trial-00"].status == "RUNNING"
    again = Ledger.open(tmp_path)
    again.append("status", job="trial-00", status="KILLED", reason="x")
    again.close()
    assert read_ledger(tmp_path).jobs["trial-00"].status == "KILLED"
    assert all(json.loads(line) for line in (tmp_path / FILE_NAME).read_text().splitlines())


def test_a_session_done_again_replaces_the_old_record_and_what_followed(
    tmp_path: Path, make_spec: Make, make_session: Make
) -> None:
    ledger = Ledger.create(tmp_path, make_spec())
    ledger.append("job", job="trial-00", kind="trial", title="t", config={}, predictions=[{}])
    for session, grid in [(1, [[0.5]]), (2, [[0.5, 0.6]]), (1, [[0.7]])]:
        ledger.append("session", job="trial-00", **make_session(session, grid).to_json())
    job = read_ledger(tmp_path).jobs["trial-00"]
    assert [record.grid for record in job.sessions] == [((0.7,),)]
    assert not job.complete


def test_the_checkpoints_that_exist_are_resumed_newest_first(tmp_path: Path, make_spec: Make) -> None:
    ledger = Ledger.create(tmp_path, make_spec())
    ledger.append("job", job="trial-00", kind="trial", title="t", config={}, predictions=[{}])
    for session in (1, 2):
        ledger.append("checkpoint", job="trial-00", session=session, path=str(tmp_path / str(session)))
    job = ledger.log.jobs["trial-00"]
    assert job.resumable() == []
    (tmp_path / "1").mkdir()
    assert job.resumable() == [str(tmp_path / "1")]
    (tmp_path / "2").mkdir()
    assert job.resumable() == [str(tmp_path / "2"), str(tmp_path / "1")]
    assert job.resumable({str(tmp_path / "2")}) == [str(tmp_path / "1")]


def test_newer_damaged_and_missing_ledgers_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the ledger"):
        read_ledger(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_text('{"type": "sweep", "version": 4, "spec": {}}\n')
    with pytest.raises(UserError, match="format version 4; this installation reads up to 3: upgrade"):
        read_ledger(tmp_path)
    path.write_text('{"type": "sweep", "ver\n{"type": "finished"}\n')
    with pytest.raises(UserError, match="is damaged"):
        read_ledger(tmp_path)
    path.write_text('{"type": "sweep", "ver')
    assert not has_ledger(tmp_path)


def test_trials_sort_as_people_count(tmp_path: Path, make_spec: Make) -> None:
    ledger = Ledger.create(tmp_path, make_spec())
    for job in ("trial-100", "trial-99", "trial-07"):
        ledger.append("job", job=job, kind="trial", title="t", config={}, predictions=[{}])
    assert [job.id for job in ledger.log.of_kind("trial")] == ["trial-07", "trial-99", "trial-100"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"type": "sweep", "version": 1, "spec": {"kind": "sweep"}}\n',
        b'{"type": "sweep", "version": 1}\n',
        b"\xff\xfe\n",
        b"[1]\n",
    ],
)
def test_any_damage_is_told_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        read_ledger(tmp_path)
