"""Ending hopeless trials, and the search when more of it cannot pay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import pytest

from benchmarks.simulator import Rehearsal
from safe.errors import Notice, UserError
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.search.early import Below, early_stopping
from sweeps.search.regret import regret_bound
from sweeps.spec.objective import objectives
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec
from sweeps.spec.stopping import Hopeless, stopping
from sweeps.studies.enough import seed_noise

RANGES = {"slow.lr": {"loguniform": [1e-3, 1e-1]}, "fast.lr": {"loguniform": [1e-3, 1e-1]}}


def asked(**changes: Any) -> SweepSpec:
    more = {"search": "tpe", "space": RANGES, "trials": 20, "seeds": 1, "audit": False, "control": False, **changes}
    return build_spec(name="a", dataset="digits", overrides=["runtime.device=cpu", "runtime.threads=1"], **more)


def test_a_rule_is_written_as_a_session_and_a_bound() -> None:
    assert stopping("below:session=2,accuracy=0.4") == Hopeless(2, objectives("accuracy")[0], 0.4)
    rule = stopping("below:forgetting=0.5,session=3")
    assert isinstance(rule, Hopeless)
    assert rule.reason == "forgetting above 0.5 after session 3"
    assert [stopping(kind) for kind in ("none", "asha", "auto")] == ["none", "asha", "auto"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("atuo", "Did you mean 'auto'"),
        ("below", "write a session and one metric"),
        ("below:session=2", "write a session and one metric"),
        ("below:accuracy=0.4", "write a session and one metric"),
        ("below:session=2,accuracy=much", "write a session and one metric"),
        ("below:session=2,accuracy=0.4,forgetting=1", "write a session and one metric"),
        ("below:session=0,accuracy=0.4", "counts from 1"),
        ("below:session=1,accuracy=nan", "finite number"),
        ("below:session=1,acuracy=0.4", "Did you mean 'accuracy'"),
        ("asha:3", "asha"),
    ],
)
def test_what_is_no_rule_is_refused_in_words(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        asked(stop=text)


def test_hopeless_trials_end_after_their_session_and_slow_settings_are_judged_alone(
    make_spec: Callable[..., SweepSpec], make_session: Any, predictions: list[dict[str, Any]]
) -> None:
    log = SweepLog(make_spec(stop="below:session=1,accuracy=0.4"))
    stopper = early_stopping(log)
    assert isinstance(stopper, Below)

    def job(kind: Kind, accuracy: float, sessions: int = 1) -> JobLog:
        rows = [make_session(s, [[accuracy] * s] * 3) for s in range(1, sessions + 1)]
        return JobLog("trial-00", kind, "", {}, predictions, sessions=rows)

    assert stopper.reason(job(Kind.TRIAL, 0.39)) == "accuracy below 0.4 after session 1"
    assert stopper.reason(job(Kind.TRIAL, 0.4)) is None
    assert stopper.reason(job(Kind.TRIAL, 0.1, sessions=2)) is None, "asked once"
    # The slow learner is a tenth below the aggregate here.
    assert stopper.reason(job(Kind.SLOW, 0.49)) == "accuracy below 0.4 after session 1"
    assert stopper.reason(job(Kind.SLOW, 0.51)) is None
    assert early_stopping(SweepLog(make_spec())) is None


def smooth(config: Mapping[str, Any], noise: float) -> float:
    """Return an accuracy that is best at a slow learning rate of 0.01 and changes little elsewhere."""
    own = Random(repr([config["seed"], config["slow.lr"], config["fast.lr"], config["fast.epochs"]]))
    bump = 0.02 * math.exp(-(math.log10(config["slow.lr"] / 0.01) ** 2))
    return 0.8 + bump - 0.02 * (config["fast.epochs"] == 0) + own.gauss(0, noise)


def test_the_bound_falls_as_a_search_goes_on_and_is_an_upper_one(fake: Any) -> None:
    log = Rehearsal(asked(trials=24, finalists=0)).run(fake(lambda config: smooth(config, 0.0)))
    trials = log.of_kind(Kind.TRIAL)

    def after(count: int) -> float | None:
        return regret_bound(log, count)

    assert after(7) is None
    early, late = after(8), after(24)
    assert early is not None
    assert late is not None
    best = max(smooth(job.config, 0.0) for job in trials)
    assert 0.82 - best <= late < early
    assert late == after(24), "the same every time"


def test_the_search_ends_when_the_noise_of_seeds_is_larger_than_what_is_left(fake: Any) -> None:
    loud = Rehearsal(asked(stop="auto"))
    with pytest.warns(Notice, match=r"the search ended after 8 of 20 trials: at most .* from seed to seed"):
        log = loud.run(fake(lambda config: smooth(config, 0.1)))
    assert len(log.of_kind(Kind.TRIAL)) == 8
    decided = log.enough[8]
    assert decided["bound"] < decided["noise"]
    assert decided["noise"] == seed_noise(log)
    quiet = Rehearsal(asked(stop="auto")).run(fake(lambda config: smooth(config, 1e-7)))
    assert len(quiet.of_kind(Kind.TRIAL)) == 20
    assert not any(one["enough"] for one in quiet.enough.values())
    noise = [job.id for job in loud.rounds[1]]
    assert noise == ["race-00-1", "race-ranpac-1", "race-00-2", "race-ranpac-2"], "trial 00 is the preset"


def test_slow_settings_that_seeds_judged_tell_the_noise_where_preset_and_ranpac_are_alike(fake: Any) -> None:
    def slow(config: Mapping[str, Any]) -> float:
        return smooth({**config, "fast.epochs": 1}, 0.1)

    def level(config: Mapping[str, Any]) -> float:
        return smooth({**config, "fast.epochs": 1}, 1e-7)

    spec = asked(stop="auto", search="staged", slow_candidates=12)
    with pytest.warns(Notice, match="the search ended after 12 of 20 trials"):
        log = Rehearsal(spec).run(fake(level, slow))
    assert 0.04 < log.enough[12]["noise"] < 0.2, "root 2 x 0.1 is that of all, and these are the better half"
    old = SweepSpec.model_validate({**spec.model_dump(), "rules": 3})
    before = Rehearsal(old).run(fake(level, slow))
    assert len(before.of_kind(Kind.TRIAL)) == 20
    assert before.enough[12]["noise"] < 1e-6, "by the preset and RanPAC alone, as it began"


def test_a_continued_search_ends_at_the_same_trial(fake: Any) -> None:
    runner = fake(lambda config: smooth(config, 0.1))
    whole = Rehearsal(asked(stop="auto"))
    with pytest.warns(Notice):
        log = whole.run(runner)
    again = whole.again()
    with pytest.warns(Notice, match="the search ended after 8"):
        again.run(runner)
    assert again.done == []
    assert again.log.selected == log.selected


@pytest.mark.parametrize(("changes", "told"), [({"search": "random"}, "staged or tpe"), ({"finalists": 0}, "noise")])
def test_what_cannot_end_by_itself_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        asked(stop="auto", **changes)
