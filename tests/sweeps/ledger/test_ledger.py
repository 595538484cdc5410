"""The ledger: what is appended is what is read, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulator import Rehearsal
from safe.errors import UserError
from sweeps.ledger.jobs import BUDGET, PLACE, Job, Kind, job_id
from sweeps.ledger.ledger import FILE_NAME, Ledger, SweepLog, has_ledger, read_ledger
from sweeps.search.history import read_history
from sweeps.search.layout import Round
from tracking.lines import encode

Make = Callable[..., Any]


def test_what_is_written_is_read_again(finished_sweep: Callable[[], Ledger], make_spec: Make) -> None:
    ledger = finished_sweep()
    log = read_ledger(ledger.path.parent)
    assert log == ledger.log
    assert log.finished
    assert log.spec == make_spec()
    assert [job.id for job in log.of_kind("trial")] == ["trial-00", "trial-01"]
    assert log.jobs["trial-00"].sessions[1].grid[1] == [0.8, 0.6]


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
    assert [record.grid for record in job.sessions] == [[[0.7]]]
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


def test_jobs_share_their_settings_of_prediction_and_those_that_are_over_have_no_checkpoints(
    tmp_path: Path, make_spec: Make, make_session: Make
) -> None:
    ledger = Ledger.create(tmp_path, make_spec())
    for id, predictions in (("trial-00", [{"a": 1}]), ("trial-01", [{"a": 1}]), ("trial-02", [{"a": 2}])):
        ledger.append("job", job=id, kind="trial", title="t", config={}, predictions=predictions)
        for session in (1, 2):
            ledger.append("session", job=id, **make_session(session, [[0.5] * session]).to_json())
        ledger.append("checkpoint", job=id, session=2, path=f"ray/{id}")
    ledger.append("status", job="trial-00", status="FINISHED", reason=None)
    ledger.append("status", job="trial-01", status="STOPPED", reason=BUDGET)
    for log in (ledger.log, read_ledger(tmp_path)):
        first, second, third = log.jobs.values()
        assert first.predictions is second.predictions
        assert third.predictions == [{"a": 2}]
        there = {2: str(tmp_path / "ray" / "trial-01")}
        assert (first.checkpoints, second.checkpoints) == ({}, there), "a larger budget goes on with it"


def test_texts_of_a_ledger_are_one_object_each_and_may_be_no_utf8(finished_sweep: Callable[[], Ledger]) -> None:
    ledger = finished_sweep()
    folder, written = ledger.path.parent, list(ledger.log.jobs.values())
    ledger.append("environment", tags={"folder": "/pictures/\udcff"})
    ledger.close()
    read = read_ledger(folder)
    assert read.environment == {"folder": "/pictures/\udcff"}
    for jobs in (written, list(read.jobs.values())):
        first, last = jobs[0].sessions[0], jobs[-1].sessions[-1]
        assert all(a is b for a, b in zip(first.provenance, last.provenance, strict=True))
        assert {id(name) for name in first.metrics if name in last.metrics} <= {id(name) for name in last.metrics}


WAITING = [
    {"type": "clock", "seconds": 3.5},
    {"type": "job", "job": "trial-90", "kind": "trial", "title": "trial 90", "config": {}, "predictions": []},
    {"type": "status", "job": "trial-90", "status": "RUNNING", "reason": None},
    {"type": "recorded", "job": "trial-00"},
]
AT_ONCE = [
    {"type": "checkpoint", "job": "trial-00", "session": 1, "path": "ray/one"},
    {"type": "status", "job": "trial-90", "status": "FAILED", "reason": "broken"},
    {"type": "dropped", "job": "trial-00", "request": "one"},
    {"type": "finished"},
]


@pytest.mark.parametrize("record", AT_ONCE, ids=lambda record: record["type"])
def test_what_must_not_be_lost_is_on_disk_before_the_next_step_with_all_that_waited_for_it(
    finished_sweep: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch, record: dict[str, Any]
) -> None:
    ledger, synced = finished_sweep(), []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    for waiting in WAITING:
        ledger.append(**waiting)
    assert synced == []
    assert read_ledger(ledger.path.parent).search_seconds == 3.5  # others see it
    ledger.append(**record)
    assert synced == [ledger.path.stat().st_size]


def test_newer_damaged_and_missing_ledgers_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the ledger"):
        read_ledger(tmp_path)
    path = tmp_path / FILE_NAME
    path.write_text('{"type": "sweep", "version": 4, "spec": {}}\n')
    with pytest.raises(UserError, match="format version 4, newer than the 3 that is read here: upgrade to see"):
        read_ledger(tmp_path)
    path.write_text('{"type": "sweep", "ver\n{"type": "finished"}\n')
    with pytest.raises(UserError, match="is damaged"):
        read_ledger(tmp_path)
    path.write_text('{"type": "sweep", "ver')
    assert not has_ledger(tmp_path)


@pytest.mark.parametrize(
    ("id", "kind", "place"),
    [
        ("trial-07", Kind.TRIAL, {"trial": 7}),
        ("trial-123", Kind.TRIAL, {"trial": 123}),
        ("slow-02", Kind.SLOW, {"trial": 2}),
        ("audit-11", Kind.AUDIT, {"trial": 11}),
        ("final-07-1", Kind.FINAL, {"trial": 7, "repeat": 1}),
        ("control-0", Kind.CONTROL, {"repeat": 0}),
        ("no-diag-2", Kind.VARIANT, {"variant": "no-diag", "repeat": 2}),
        ("lambda-10-2", Kind.VARIANT, {"variant": "lambda-10", "repeat": 2}),
    ],
)
def test_a_job_says_which_one_it_is_and_its_id_follows(
    tmp_path: Path, make_spec: Make, id: str, kind: Kind, place: dict[str, Any]
) -> None:
    assert job_id(kind, **place) == id
    made = Job(id, kind, "t", {"seed": 1}, [], states="", **place).record()
    assert made == {"job": id, "kind": kind, **place, "title": "t", "config": {"seed": 1}, "predictions": []}
    earlier = {"type": "job", **{name: value for name, value in made.items() if name not in place}}
    earlier["kind"] = "arm" if kind == Kind.VARIANT else str(kind)
    ledger = Ledger.create(tmp_path, make_spec())
    ledger.append("job", **made)
    log = SweepLog(make_spec(), tmp_path)
    log.apply(earlier)
    assert read_ledger(tmp_path).jobs == ledger.log.jobs == log.jobs, "an earlier record says the same by its id"
    job = log.jobs[id]
    assert {"trial": job.trial, "repeat": job.repeat, "variant": job.variant} == {**dict.fromkeys(PLACE), **place}


def test_a_sweep_whose_ledger_names_its_jobs_by_id_alone_goes_on_as_it_would_have(make_spec: Make, fake: Make) -> None:
    space = {"fast.cross_weight": {"loguniform": [0.01, 10]}, "aggregation.temperature": {"grid": [0.1, 1.0, 10.0]}}
    spec = make_spec(search="tpe", trials=4, round_size=2, space=space)
    runner = fake(lambda config: min(config["fast.cross_weight"], 1.0))
    whole = Rehearsal(spec)
    log = whole.run(runner)
    assert [(job.trial, job.repeat) for job in log.final_jobs()] == [(log.chosen.trial, 0), (log.chosen.trial, 1)]
    earlier = []
    for text in whole.records[: len(whole.records) // 2]:
        record = json.loads(text)
        dropped = PLACE if record["type"] == "job" else ()
        earlier.append(json.dumps({name: value for name, value in record.items() if name not in dropped}))
    assert earlier != whole.records[: len(earlier)]
    resumed = Rehearsal(spec, earlier)
    assert resumed.run(runner) == log
    assert 0 < len(resumed.done) < len(whole.done)


def test_a_trial_of_before_a_setting_has_what_runs_did_then_so_that_it_is_compared_and_a_space_may_grow(
    make_spec: Make,
) -> None:
    spec = make_spec()
    whole = spec.trial_config({})
    told = {name: value for name, value in whole.items() if name not in ("head.ridge_choice", "data.sessions")}
    log = SweepLog(spec)
    job = Job("trial-00", Kind.TRIAL, "trial 00", told, [], states="", trial=0)
    log.apply({"type": "job", **job.record()})
    assert log.jobs["trial-00"].config == {**whole, "head.ridge_choice": "split", "data.sessions": None}
    log.apply({"type": "status", "job": "trial-00", "status": "KILLED", "reason": "interrupted"})
    wider = make_spec(space={**spec.space, "head.ridge_choice": {"choice": ["split", "gcv"]}})
    seen = read_history(wider, wider.parsed_space(), log, Round(Kind.TRIAL, range(1, 2)))
    assert seen.begun[0]["head.ridge_choice"] == "split"


def test_trials_sort_as_people_count(tmp_path: Path, make_spec: Make) -> None:
    ledger = Ledger.create(tmp_path, make_spec())
    for job in ("trial-100", "trial-99", "trial-07"):
        ledger.append("job", job=job, kind="trial", title="t", config={}, predictions=[{}])
    assert [job.id for job in ledger.log.of_kind("trial")] == ["trial-07", "trial-99", "trial-100"]


@pytest.mark.parametrize(
    "content",
    [
        encode({"type": "sweep", "version": 3, "spec": {"kind": "sweep"}}, 1),
        encode({"type": "sweep", "version": 3}, 1),
        b'{"type": "sweep", "version": 3}\n',
        b"\xff\xfe\n",
        b"[1]\n",
    ],
)
def test_any_damage_is_told_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        read_ledger(tmp_path)
