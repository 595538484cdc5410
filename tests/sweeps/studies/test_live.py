"""Trials that a user adds and drops: what is taken up, what the search is told, and that a resumed sweep ends alike."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.simulator import KilledError, Rehearsal
from safe.errors import UserError
from sweeps import cli
from sweeps.ledger.jobs import BUDGET, DROPPED, Job, Kind
from sweeps.ledger.ledger import Ledger, SweepLog
from sweeps.ledger.lock import locked
from sweeps.ledger.record import SessionRecord
from sweeps.ledger.requests import Requests
from sweeps.results.importance import finished_scores
from sweeps.results.summary import sweep_summary
from sweeps.search.history import read_history
from sweeps.search.layout import Round
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec
from sweeps.studies.live import added_config, droppable, outside

Runner = Callable[[Job], list[SessionRecord]]
SPACE = {
    "slow.diag_weight": {"zero_or_loguniform": [1e-3, 10.0]},
    "fast.cross_weight": {"zero_or_loguniform": [1e-2, 10.0]},
    "aggregation.temperature": {"grid": [0.1, 1.0]},
}
BEST = {"slow.diag_weight": 0.3, "fast.cross_weight": 4.0}


def asked(**changes: Any) -> SweepSpec:
    more = {"search": "tpe", "space": SPACE, "trials": 10, "seeds": 1, "round_size": 4, "finalists": 0, **changes}
    return build_spec(name="a", dataset="digits", overrides=["runtime.device=cpu", "runtime.threads=1"], **more)


def bowl(config: Mapping[str, Any]) -> float:
    """Best at BEST; the further away the worse."""
    return 0.9 - 0.02 * sum(abs(config[name] - value) for name, value in BEST.items())


class Asking:
    """Runs jobs, and leaves requests when a job of a given number begins; asked once, whatever is killed."""

    def __init__(self, runner: Runner, requests: Requests, at: Mapping[int, Mapping[str, Any]]) -> None:
        self.runner, self.requests, self.at, self.count = runner, requests, dict(at), 0

    def __call__(self, job: Job) -> list[SessionRecord]:
        if (what := self.at.pop(self.count, None)) is not None:
            self.requests.ask(**what)
        self.count += 1
        return self.runner(job)


def carried_out(
    folder: Path, runner: Runner, at: Mapping[int, Mapping[str, Any]], kills: tuple[int, ...] = (), **changes: Any
) -> Rehearsal:
    """Run a sweep with requests, killed after so many jobs of each call and taken up again."""
    requests = Requests(folder)
    folder.mkdir()
    asking = Asking(runner, requests, at)
    rehearsal = Rehearsal(asked(**changes), requests=requests)
    for kill in kills:
        with pytest.raises(KilledError):
            rehearsal.run(asking, kill_after=kill)
        rehearsal = rehearsal.again()
    rehearsal.run(asking)
    assert requests.waiting() == []
    return rehearsal


@pytest.mark.parametrize("search", ["tpe", "staged", "random"])
@pytest.mark.parametrize("at", [0, 5, 7])
def test_a_killed_sweep_with_an_added_trial_ends_as_one_that_ran_through(
    tmp_path: Path, fake: Any, decisions: Any, search: str, at: int
) -> None:
    add = {at: {"add": BEST}}
    whole = carried_out(tmp_path / "whole", fake(bowl), add, search=search)
    assert whole.log.jobs["trial-added-00"].status == "FINISHED"
    for kill in range(at + 2, len(whole.done), 3):
        resumed = carried_out(tmp_path / f"{kill}", fake(bowl), add, kills=(kill,), search=search)
        assert decisions(resumed.log) == decisions(whole.log)
        assert resumed.log.added == whole.log.added
    without = carried_out(tmp_path / "without", fake(bowl), {}, search=search).log.trials()
    first = {number: job.config for number, job in whole.log.trials().items()}
    assert [first[n] == job.config for n, job in without.items()][:4] == [True] * 4
    if search != "random" and at == 5:
        assert first != {n: job.config for n, job in without.items()}, "later rounds are told of it"


def test_an_added_trial_is_a_trial_like_any_other(tmp_path: Path, fake: Any) -> None:
    log = carried_out(tmp_path / "a", fake(bowl), {5: {"add": BEST}}).log
    own = log.jobs["trial-added-00"]
    assert log.added == [{"settings": BEST, "after": 8, "told": True}]
    assert {name: own.config[name] for name in BEST} == BEST
    assert "added 00 by hand" in own.title
    assert log.selected is not None
    assert log.selected["trial"] == own.id
    assert [job.id for job in log.final_jobs()] == ["final-added-00-0"]
    assert log.jobs["audit-added-00"].title == f"audit of {log.jobs['trial-added-00'].title}"
    assert sweep_summary(log)["selected"]["trial"] == own.id
    assert own.config in finished_scores(log)[0]


def test_the_search_is_told_from_the_round_after_the_one_it_was_taken_up_in(tmp_path: Path, fake: Any) -> None:
    log = carried_out(tmp_path / "a", fake(bowl), {5: {"add": BEST}}).log
    spec, space = log.sweep_spec, log.sweep_spec.parsed_space()
    for start, told in ((4, False), (8, True)):
        seen = [one.settings for one in read_history(spec, space, log, Round(Kind.TRIAL, range(start, 10))).trials]
        assert (BEST in seen) is told
        assert len(seen) == start + told
    assert seen[-1] == BEST, "it stands behind the trials that came before it"


def test_what_lies_outside_the_space_is_allowed_can_win_and_teaches_the_search_nothing(
    tmp_path: Path, fake: Any
) -> None:
    strange = {"slow.diag_weight": 30.0, "fast.lr": 0.5}
    told = outside(asked(), asked().parsed_space(), {**strange, "fast.cross_weight": 1.0})
    assert told == [
        "slow.diag_weight=30.0: the space has {'zero_or_loguniform': [0.001, 10.0]}",
        "fast.lr=0.5: the space does not vary it",
    ]

    def runner(config: Mapping[str, Any]) -> float:
        return 0.99 if config["fast.lr"] == 0.5 else bowl(config)

    log = carried_out(tmp_path / "a", fake(runner), {5: {"add": strange}}).log
    plain = carried_out(tmp_path / "b", fake(runner), {}).log
    assert log.selected is not None
    assert log.selected["trial"] == "trial-added-00"
    assert {n: job.config for n, job in log.trials().items()} == {n: job.config for n, job in plain.trials().items()}
    assert len(finished_scores(log)[0]) == 10


def test_a_finished_sweep_goes_on_with_what_was_added_and_chooses_anew(tmp_path: Path, fake: Any) -> None:
    first = carried_out(tmp_path / "a", fake(bowl), {})
    assert first.requests is not None
    first.requests.ask(add=BEST)
    again = first.again()
    log = again.run(fake(bowl))
    assert again.done[0] == "trial-added-00"
    assert log.added[0]["after"] == 10
    assert log.selected is not None
    assert log.selected["trial"] == "trial-added-00"


def test_what_is_asked_for_after_the_search_is_taken_up_at_the_end(tmp_path: Path, fake: Any) -> None:
    rehearsal = carried_out(tmp_path / "a", fake(bowl), {11: {"add": BEST}})
    assert rehearsal.done.index("trial-added-00") > 10
    assert rehearsal.log.selected is not None
    assert rehearsal.log.selected["trial"] == "trial-added-00"
    assert rehearsal.done[-1] == "audit-added-00"


def test_a_dropped_trial_keeps_its_sessions_is_stopped_and_not_chosen(tmp_path: Path, fake: Any) -> None:
    def runner(config: Mapping[str, Any]) -> float:
        return bowl(config) + (config["slow.diag_weight"] == best.config["slow.diag_weight"])

    best = carried_out(tmp_path / "a", fake(bowl), {}).log.jobs["trial-05"]
    log = carried_out(tmp_path / "b", fake(runner), {5: {"drop": "trial-05"}}).log
    dropped = log.jobs["trial-05"]
    assert (dropped.status, dropped.reason, len(dropped.sessions)) == ("STOPPED", DROPPED, 1)
    assert log.selected is not None
    assert log.selected["trial"] != "trial-05"
    assert "audit-05" not in log.jobs
    resumed = carried_out(tmp_path / "c", fake(runner), {5: {"drop": "trial-05"}}, kills=(6,)).log
    assert resumed.jobs["trial-05"].sessions == dropped.sessions
    assert resumed.selected == log.selected


@pytest.mark.parametrize(("status", "reason"), [("KILLED", "interrupted"), ("STOPPED", BUDGET), ("FAILED", "memory")])
def test_a_trial_that_would_go_on_later_is_not_gone_on_with_once_it_is_dropped(
    tmp_path: Path, fake: Any, status: str, reason: str
) -> None:
    first = Rehearsal(asked(), requests=Requests(tmp_path))
    with pytest.raises(KilledError):
        first.run(fake(bowl), kill_after=3)
    first.append("status", job="trial-02", status=status, reason=reason)
    assert first.requests is not None
    first.requests.ask(drop="trial-02")
    again = first.again()
    log = again.run(fake(bowl))
    assert "trial-02" not in again.done
    assert (log.jobs["trial-02"].status, log.jobs["trial-02"].reason) == ("STOPPED", DROPPED)


def test_a_request_that_a_kill_left_behind_is_not_taken_up_twice(tmp_path: Path, fake: Any) -> None:
    rehearsal = carried_out(tmp_path / "a", fake(bowl), {2: {"add": BEST}})
    (id,) = rehearsal.log.requests
    (tmp_path / "a" / "requests" / f"{id}.json").write_text(json.dumps({"version": 1, "add": BEST}))
    again = rehearsal.again()
    again.run(fake(bowl))
    assert (again.done, len(again.log.added)) == ([], 1)
    assert again.requests is not None
    assert again.requests.waiting() == []


def test_what_cannot_be_taken_up_by_then_is_told_and_nothing_else_happens(tmp_path: Path, fake: Any) -> None:
    rehearsal = carried_out(tmp_path / "a", fake(bowl), {2: {"add": BEST}, 4: {"add": BEST}, 6: {"drop": "trial-01"}})
    assert rehearsal.notes == [
        "not taken up: trial-added-00 has this very configuration; add another one",
        "not taken up: trial-01 is finished already; there is nothing to end",
    ]
    assert len(rehearsal.log.added) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"slow.diag_wieght": 1.0}, "slow.diag_weight"),
        ({"slow.epochs": -1}, "slow.epochs"),
        ({"aggregation.temperature": 1.0}, "acts at prediction, so there is nothing to train"),
        ({"seed": 3}, "the same in all trials"),
        ({"runtime.threads": 3}, "the same in all trials"),
        ({"data.init_classes": 10}, "data.init_classes is the same in all trials"),
        ({"data.holdout_seed": 7}, "the same in all trials"),
        ({"data.root": "/elsewhere"}, "the same in all trials"),
    ],
)
def test_an_added_trial_is_checked_as_a_space_is(settings: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        added_config(SweepLog(asked()), settings)


def test_what_a_space_varies_of_the_data_an_added_trial_can_set() -> None:
    spec = asked(space={**SPACE, "data.increment": {"choice": [2, 5]}})
    assert added_config(SweepLog(spec), {"data.increment": 5})["data.increment"] == 5


def test_an_added_trial_that_waits_for_its_turn_is_not_added_again() -> None:
    log = SweepLog(asked())
    log.apply({"type": "added", "request": "1", "settings": BEST, "after": 4, "told": True})
    with pytest.raises(UserError, match="trial-added-00 has this very configuration"):
        added_config(log, BEST)
    assert added_config(log, {**BEST, "slow.diag_weight": 0.2})["slow.diag_weight"] == 0.2


def test_the_same_configuration_is_refused_with_the_name_of_the_trial(tmp_path: Path, fake: Any) -> None:
    log = carried_out(tmp_path / "a", fake(bowl), {}).log
    config = log.jobs["trial-03"].config
    with pytest.raises(UserError, match="trial-03 has this very configuration"):
        added_config(log, {name: config[name] for name in BEST})
    with pytest.raises(UserError, match="begun no trial called 'trial-77'; still to end: none"):
        droppable(log, "trial-77")


@pytest.fixture
def resting(tmp_path: Path) -> Path:
    """A sweep that has begun and does not run; returns the results folder."""
    folder = tmp_path / "sweeps" / "a"
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, asked())
    job = {"kind": "trial", "trial": 0, "title": "trial 00", "config": asked().trial_config({}), "predictions": []}
    ledger.append("job", job="trial-00", **job)
    ledger.append("status", job="trial-00", status="KILLED", reason="interrupted")
    ledger.close()
    return tmp_path


def test_the_commands_leave_requests_and_say_when_they_are_taken_up(
    resting: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--results", str(resting)]
    assert cli.main(["add", "a", "slow.diag_weight=0.3", "fast.lr=0.5", *results]) == 0
    said = capsys.readouterr().out
    assert "fast.lr=0.5: the space does not vary it; it can be chosen, and the search is not told of it" in said
    assert "it does not run here" in said
    assert "resume" in said
    with locked(resting / "sweeps" / "a", "a"):
        assert cli.main(["drop", "trial-00", *results]) == 0
    assert "it runs and takes that up within seconds" in capsys.readouterr().out
    waiting = Requests(resting / "sweeps" / "a").waiting()
    assert [(one.add, one.drop) for one in waiting] == [
        ({"slow.diag_weight": 0.3, "fast.lr": 0.5}, None),
        (None, "trial-00"),
    ]
    folder = resting / "sweeps" / "a" / "requests"
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


@pytest.mark.parametrize("spent", [False, True])
def test_that_nothing_is_left_of_the_budget_for_an_added_trial_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spent: bool
) -> None:
    folder = tmp_path / "sweeps" / "a"
    folder.mkdir(parents=True)
    ledger = Ledger.create(folder, asked(max_hours=1.0))
    ledger.append("clock", seconds=3600.0 if spent else 3599.0)
    ledger.close()
    assert cli.main(["add", "a", "slow.diag_weight=0.3", "--results", str(tmp_path)]) == 0
    assert ("it waits for a larger one (--max-sessions, --max-hours)" in capsys.readouterr().out) is spent


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "a"], "say what the trial sets"),
        (["add", "a", "slow.diag_weight=0.3", "slow.diag_weight=0.3"], "set twice"),
        (["add", "b", "slow.diag_weight=0.3"], "no sweep is called 'b'"),
        (["add", "a", "slow.diag_wieght=0.3"], "slow.diag_weight"),
        (["drop", "a", "trial-1"], "begun no trial called 'trial-1'; still to end: trial-00"),
        (["drop", "a", "trial-00", "trial-01"], "one trial"),
    ],
)
def test_wrong_words_are_refused_in_words(
    resting: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert cli.main([*words, "--results", str(resting)]) == 2
    assert said in capsys.readouterr().err
    assert Requests(resting / "sweeps" / "a").waiting() == []


def test_asked_twice_is_refused(resting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["add", "a", "fast.lr=0.5"], "asked for already"),
        (["drop", "a", "trial-00"], "dropped already"),
    ):
        assert cli.main([*words, "--results", str(resting)]) == 0
        assert cli.main([*words, "--results", str(resting)]) == 2
        assert said in capsys.readouterr().err


def test_a_file_that_is_no_request_is_told_and_goes_and_the_sweep_goes_on(tmp_path: Path, fake: Any) -> None:
    folder = tmp_path / "a" / "requests"
    folder.mkdir(parents=True)
    deep = "[" * 100_000
    for number, text in enumerate(('{"version": 2, "add": {}}', "[]", "x", '{"version": 1, "add": 3}', deep)):
        (folder / f"{number:020d}-a.json").write_text(text)
    (folder / ".draft").write_text("half")
    (folder / "5.json").mkdir()
    os.mkfifo(folder / "6.json")
    rehearsal = Rehearsal(asked(trials=2), requests=Requests(tmp_path / "a"))
    log = rehearsal.run(fake(bowl))
    assert log.selected is not None
    assert rehearsal.notes == [
        "not taken up: 00000000000000000000-a.json has format version 2, newer than 1",
        *(f"not taken up: {n:020d}-a.json is no request of `sweeps add` or `sweeps drop`" for n in (1, 2, 3, 4)),
    ]
    assert sorted(path.name for path in folder.iterdir()) == [".draft", "5.json", "6.json"]
