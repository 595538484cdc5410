"""Learning from earlier sweeps: what is taken over, what it changes, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks.simulator import Rehearsal
from safe.errors import UserError
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec
from sweeps.studies.learning import lessons

SPACE = {"slow.diag_weight": {"loguniform": [1e-3, 10]}, "fast.cross_weight": {"loguniform": [1e-3, 10]}}
DATA = {"dataset": {"digest": "d" * 16}}


def asked(*settings: str, **changes: Any) -> SweepSpec:
    more = {"search": "tpe", "space": SPACE, "trials": 12, "seeds": 1, "audit": False, "control": False, "finalists": 0}
    overrides = ["runtime.device=cpu", "runtime.threads=1", *settings]
    return build_spec(name="a", dataset="digits", overrides=overrides, **{**more, **changes})


def value(config: Mapping[str, Any]) -> float:
    """Return an accuracy that is best at weights of 3 and 0.01."""
    return 0.9 - abs(config["slow.diag_weight"] - 3) / 100 - abs(config["fast.cross_weight"] - 0.01) / 100


@pytest.fixture
def earlier(fake: Any) -> SweepLog:
    log = Rehearsal(asked(trials=24)).run(fake(value))
    log.data = DATA
    return log


def test_finished_trials_are_taken_over_best_first(earlier: SweepLog) -> None:
    taken = lessons(asked(), earlier, DATA)
    assert len(taken) == 24
    assert [one["goodness"] for one in taken] == sorted((one["goodness"] for one in taken), reverse=True)
    best = taken[0]["settings"]
    assert list(best) == list(SPACE)
    assert taken[0]["goodness"][0] == pytest.approx(value(best) - 0.01)


@pytest.mark.parametrize("search", ["tpe", "staged"])
def test_a_search_that_has_learned_begins_where_the_other_ended(earlier: SweepLog, fake: Any, search: str) -> None:
    taught = Rehearsal(asked(search=search))
    taught.append("learned", trials=lessons(asked(), earlier, DATA))
    log = taught.run(fake(value))
    alone = Rehearsal(asked(search=search)).run(fake(value))
    scores = [sum(value(job.config) for job in one.of_kind(Kind.TRIAL)[1:]) / 11 for one in (log, alone)]
    assert scores[0] > scores[1]
    first = [one.jobs["trial-00"].config for one in (log, alone)]
    assert first[0] == first[1], "trial 0 is the preset all the same"
    again = taught.again()
    assert [job.config for job in again.run(fake(value)).of_kind(Kind.TRIAL)] == [
        job.config for job in log.of_kind(Kind.TRIAL)
    ]
    assert again.done == []
    if search == "staged":
        best = [one["settings"]["slow.diag_weight"] for one in lessons(asked(), earlier, DATA)]
        assert log.jobs["slow-01"].config["slow.diag_weight"] == best[0]


def test_what_was_judged_otherwise_or_on_other_data_is_refused_with_the_reason(earlier: SweepLog) -> None:
    with pytest.raises(UserError, match="its objective is average_accuracy, here it is accuracy"):
        lessons(asked(objective="accuracy"), earlier, DATA)
    with pytest.raises(UserError, match="its selection is holdout, here it is first-k"):
        lessons(asked(selection="first-k", first_k=2), earlier, DATA)
    other = {"dataset": {"digest": "e" * 16}}
    with pytest.raises(UserError, match=r"other data \(digest dddddddddddd, here eeeeeeeeeeee\).*--across-data"):
        lessons(asked(), earlier, other)
    assert len(lessons(asked(across_data=True), earlier, other)) == 24


def test_other_sessions_of_the_same_data_are_refused_and_those_of_other_data_are_not(earlier: SweepLog) -> None:
    ten = "data.increment=1"
    with pytest.raises(UserError, match=r"a: its data\.increment is 2, here it is 1; scores differ by that"):
        lessons(asked(ten), earlier, DATA)
    assert len(lessons(asked(ten, across_data=True), earlier, {"dataset": {"digest": "e" * 16}})) == 24
    varied = asked(space={**SPACE, "data.increment": {"choice": [1, 2]}}).model_copy(update={"base": asked(ten).base})
    assert len(lessons(varied, earlier, DATA)) == 24, "every trial says its own"
