"""The job queue: order, retries, budget, and when a round is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from safe.errors import UserError
from safe.types import Work
from sweeps.engine.budget import Budget
from sweeps.engine.job_queue import MOST_LOST_NODES, AllFailedError, JobQueue
from sweeps.ledger.jobs import BUDGET, DROPPED, Job, Kind
from sweeps.ledger.ledger import Ledger

Make = Callable[..., Any]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A ledger, and jobs that end as they are told."""

    def __init__(self, folder: Path, make_spec: Make, make_session: Make) -> None:
        self.folder = folder
        self.ledger = Ledger.create(folder, make_spec())
        self.make_session = make_session
        self.clock = Clock()

    def job(self, id: str, kind: str = Kind.TRIAL) -> Job:
        return Job(id, kind, id, {}, [], "")

    def rounds(self, work: Iterator[list[Job]], concurrency: int = 1, retries: int = 0, **limits: Any) -> JobQueue:
        budget = Budget(self.ledger.log, clock=self.clock, **limits)
        return JobQueue(work, self.ledger.log, budget, concurrency, retries)

    def end(self, rounds: JobQueue, id: str, status: str = "FINISHED", sessions: int = 2, **more: Any) -> None:
        self.write(id, status, sessions, kind=rounds.running[id].kind, reason=more.pop("reason", None))
        rounds.ended(id, **more)

    def write(self, id: str, status: str, sessions: int = 2, kind: str = Kind.TRIAL, reason: str | None = None) -> None:
        if id not in self.ledger.log.jobs:
            self.ledger.append("job", job=id, kind=kind, title=id, config={}, predictions=[])
        for session in range(len(self.ledger.log.jobs[id].sessions) + 1, sessions + 1):
            self.ledger.append("session", job=id, **self.make_session(session, []).to_json())
        self.ledger.append("status", job=id, status=status, reason=reason)


@pytest.fixture
def bench(tmp_path: Path, make_spec: Make, make_session: Make) -> Bench:
    return Bench(tmp_path, make_spec, make_session)


def ids(*jobs: Job | None) -> list[str | None]:
    return [job.id if job else None for job in jobs]


def test_a_round_runs_at_most_concurrency_at_a_time_and_the_next_waits_for_all_of_it(bench: Bench) -> None:
    seen = []

    def work() -> Iterator[list[Job]]:
        yield [bench.job(name) for name in "abc"]
        seen.append({job.id: job.status for job in bench.ledger.log.jobs.values()})
        yield []
        yield [bench.job("d", Kind.FINAL)]

    rounds = bench.rounds(work(), concurrency=2)
    assert ids(rounds.next(), rounds.next(), rounds.next()) == ["a", "b", None]
    bench.end(rounds, "a", "STOPPED", 1)
    assert ids(rounds.next(), rounds.next()) == ["c", None]
    bench.end(rounds, "c")
    assert ids(rounds.next()) == [None]
    assert not seen
    bench.end(rounds, "b", "FAILED", 0)
    assert ids(rounds.next()) == ["d"]
    assert seen == [{"a": "STOPPED", "c": "FINISHED", "b": "FAILED"}]
    assert not rounds.finished
    bench.end(rounds, "d")
    assert ids(rounds.next()) == [None]
    assert rounds.finished


def test_work_that_is_gone_through_again_runs_only_what_is_not_over(bench: Bench) -> None:
    bench.write("done", "FINISHED")
    bench.write("outranked", "STOPPED", 1, reason="outranked")
    bench.write("short", "STOPPED", 1, reason=BUDGET)
    bench.write("broken", "FAILED", 1, reason="x")
    bench.write("cut", "KILLED", 1, reason="interrupted")
    rounds = bench.rounds(iter([[bench.job(name) for name in bench.ledger.log.jobs]]), concurrency=9)
    assert ids(*(rounds.next() for _ in range(4))) == ["short", "broken", "cut", None]


def test_a_failed_job_is_tried_again_at_once_as_often_as_allowed(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job("a"), bench.job("b")]]), retries=1)
    assert ids(rounds.next()) == ["a"]
    bench.end(rounds, "a", "FAILED", 0)
    assert ids(rounds.next()) == ["a"]
    bench.end(rounds, "a", "FAILED", 0)
    assert ids(rounds.next()) == ["b"]


def test_a_failure_that_does_not_count_leaves_the_retries(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job("a"), bench.job("b")]]), retries=1)
    for counts in (False, True):
        assert ids(rounds.next()) == ["a"]
        bench.end(rounds, "a", "FAILED", 0, counts=counts)
    assert ids(rounds.next()) == ["a"]


def test_jobs_that_memory_was_too_little_for_together_make_it_one_less_and_alone_it_is_their_own(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job(name) for name in "abcd"]]), concurrency=3)
    assert ids(rounds.next(), rounds.next(), rounds.next(), rounds.next()) == ["a", "b", "c", None]
    for name in "ab":
        assert rounds.fewer(name)
        bench.end(rounds, name, "FAILED", 0, counts=False)
        assert rounds.concurrency == 2
    assert ids(rounds.next(), rounds.next()) == ["b", None]
    assert rounds.fewer("b"), "it ran beside c"
    bench.end(rounds, "b", "FAILED", 0, counts=False)
    assert ids(rounds.next()) == [None]
    bench.end(rounds, "c")
    assert ids(rounds.next(), rounds.next()) == ["b", None]
    assert not rounds.fewer("b")
    assert rounds.concurrency == 1


def test_a_job_that_loses_its_node_again_and_again_is_no_accident(bench: Bench) -> None:
    rounds = bench.rounds(iter([[]]))
    assert all(rounds.lost("a") for _ in range(MOST_LOST_NODES))
    assert rounds.lost("b")
    assert not rounds.lost("a")


def test_a_checkpoint_is_not_blamed_for_a_failure_that_does_not_count(bench: Bench) -> None:
    bench.write("a", "KILLED", 1)
    (bench.folder / "1").mkdir()
    bench.ledger.append("checkpoint", job="a", session=1, path=str(bench.folder / "1"))
    rounds = bench.rounds(iter([[bench.job("a")]]), retries=1)
    for counts in (False, True):
        job = rounds.next()
        assert job is not None
        assert job.resume_from == [str(bench.folder / "1")]
        bench.end(rounds, "a", "FAILED", 1, counts=counts)
    job = rounds.next()
    assert job is not None
    assert job.resume_from == []


def test_a_job_that_fails_before_its_first_result_goes_back_one_checkpoint(bench: Bench) -> None:
    bench.write("a", "KILLED", 1)
    for session in (0, 1):
        (bench.folder / str(session)).mkdir()
        bench.ledger.append("checkpoint", job="a", session=session, path=str(bench.folder / str(session)))
    rounds, tried = bench.rounds(iter([[bench.job("a"), bench.job("b")]]), retries=3), []
    for _ in range(3):
        job = rounds.next()
        assert job is not None
        tried.append([Path(folder).name for folder in job.resume_from])
        bench.end(rounds, "a", "FAILED", 1)
    assert tried == [["1", "0"], ["0"], []]
    job = rounds.next()
    assert job is not None
    bench.end(rounds, "a", "FAILED", 2)


def test_all_failed_is_an_error_with_the_first_cause(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job("a"), bench.job("b")]]), concurrency=2)
    rounds.next(), rounds.next()
    bench.write("b", "FAILED", 0, reason="ValueError: second")
    rounds.ended("b")
    bench.write("a", "FAILED", 0, reason="ValueError: first")
    rounds.ended("a")
    with pytest.raises(AllFailedError, match="every trial run failed; a: ValueError: first"):
        rounds.next()


@pytest.mark.parametrize(("final", "audit", "raised"), [("FAILED", "FINISHED", True), ("FINISHED", "FAILED", False)])
def test_audits_say_nothing_of_whether_a_round_failed(bench: Bench, final: str, audit: str, raised: bool) -> None:
    jobs = [bench.job("final-0", Kind.FINAL), bench.job("audit-0", Kind.AUDIT)]
    rounds = bench.rounds(iter([jobs]), concurrency=2)
    rounds.next(), rounds.next()
    for id, status in (("final-0", final), ("audit-0", audit)):
        bench.end(rounds, id, status, 2 if status == "FINISHED" else 0)
    with pytest.raises(AllFailedError, match="every final run failed") if raised else nullcontext():
        rounds.next()


def test_bad_input_of_a_job_is_raised_when_all_failed(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job("a")]]))
    rounds.next()
    bench.end(rounds, "a", "FAILED", 0, error=UserError("no such file"))
    with pytest.raises(UserError, match="no such file"):
        rounds.next()


def test_a_round_that_failed_is_no_error_while_others_of_its_kind_did_not(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job("a")], [bench.job("b")], [bench.job("c")]]))
    rounds.next()
    bench.end(rounds, "a")
    rounds.next()
    bench.end(rounds, "b", "FAILED", 0)
    assert ids(rounds.next()) == ["c"]


def test_sessions_end_the_search_but_not_the_final_runs(bench: Bench) -> None:
    told = []

    def work() -> Iterator[list[Job]]:
        for name in "abc":
            yield [bench.job(name)]
            told.append(rounds.budget.left)
            if not rounds.budget.left:
                break
        yield [bench.job("final", Kind.FINAL)]

    rounds = bench.rounds(work(), max_sessions=3)
    for name, kind in [("a", Kind.TRIAL), ("b", Kind.TRIAL), ("final", Kind.FINAL)]:
        job = rounds.next()
        assert job is not None
        assert (job.id, job.kind) == (name, kind)
        bench.end(rounds, name)
    assert told == [True, True, False], "b began below 3 sessions and went to its end; c was held back"
    assert rounds.next() is None
    assert rounds.finished

    again = bench.rounds(work(), max_sessions=3)
    rounds, told[:] = again, []
    assert again.next() is None
    assert told == [True, True, False], "a replay takes the same turns"
    rounds = bench.rounds(work(), max_sessions=5)
    assert ids(rounds.next()) == ["c"], "a larger budget goes on"


def test_reused_and_final_sessions_are_not_counted(bench: Bench) -> None:
    bench.write("a", "FINISHED")
    bench.write("f", "FINISHED", kind=Kind.FINAL)
    bench.ledger.append("job", job="b", kind=Kind.TRIAL, title="b", config={}, predictions=[])
    reused = bench.make_session(1, [], work=Work("reused", 0.0))
    bench.ledger.append("session", job="b", **reused.to_json())
    log = bench.ledger.log
    assert (log.sessions_trained, log.sessions_reused) == (2, 1)
    bench.ledger.append("session", job="a", **bench.make_session(1, []).to_json())  # done again after a kill
    assert (log.sessions_trained, log.sessions_reused) == (1, 1)


def test_hours_count_while_the_search_runs_over_all_calls(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job("a")], [bench.job("f", Kind.FINAL)], [bench.job("b")]]), max_hours=1)
    bench.clock.now += 1000  # before it begins
    rounds.next()
    bench.clock.now += 3000
    assert not rounds.budget.out_of_time()
    bench.end(rounds, "a")
    rounds.next()
    bench.clock.now += 5000  # a final run
    bench.end(rounds, "f")
    assert rounds.budget.seconds == 3000
    rounds.next()
    bench.clock.now += 600
    assert rounds.budget.out_of_time()
    bench.end(rounds, "b", "STOPPED", 1, reason=BUDGET)
    assert not rounds.budget.left
    bench.ledger.append("clock", seconds=rounds.budget.seconds)
    later = bench.rounds(iter([[bench.job("b")]]), max_hours=1)
    assert later.next() is None
    assert not later.budget.left


def test_draining_hands_out_nothing_more_and_tries_nothing_again(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job("a"), bench.job("b")], [bench.job("c")]]), retries=5)
    rounds.next()
    rounds.drain()
    assert not rounds.finished
    bench.end(rounds, "a", "FAILED", 0)
    assert rounds.next() is None
    assert rounds.finished


def test_nothing_to_do_is_known_before_anything_starts(bench: Bench) -> None:
    bench.write("a", "FINISHED")
    assert not bench.rounds(iter([[bench.job("a")]])).prepare()
    rounds = bench.rounds(iter([[bench.job("a"), bench.job("b")]]))
    assert rounds.prepare()
    assert rounds.prepare()
    assert ids(rounds.next()) == ["b"]


def test_a_job_that_would_wait_for_a_running_ones_stage_lets_others_go_first(bench: Bench) -> None:
    jobs = [bench.job(id) for id in ("x1", "x2", "y1")]
    log = bench.ledger.log
    queue = JobQueue(iter([jobs]), log, Budget(log, clock=bench.clock), 2, stage_key=lambda job, session: job.id[0])
    first, second = queue.next(), queue.next()
    assert first is not None
    assert second is not None
    assert (first.id, second.id) == ("x1", "y1")
    bench.end(queue, "y1")
    third = queue.next()
    assert third is not None
    assert third.id == "x2", "what would wait begins when nothing else is left"
    in_order = JobQueue(iter([jobs]), bench.ledger.log, Budget(log, clock=bench.clock), 2)
    assert [job.id for job in (in_order.next(), in_order.next()) if job] == ["x1", "x2"]


def test_what_was_asked_for_meanwhile_begins_next_and_belongs_to_the_round(bench: Bench) -> None:
    asked: list[Job] = []

    def work() -> Iterator[list[Job]]:
        yield [bench.job(name) for name in "abc"]
        yield [bench.job("d")]

    budget = Budget(bench.ledger.log, clock=bench.clock)
    rounds = JobQueue(work(), bench.ledger.log, budget, 1, incoming=lambda: [asked.pop()] if asked else [])
    assert ids(rounds.next()) == ["a"]
    asked.append(bench.job("own"))
    rounds.listen()
    bench.end(rounds, "a")
    assert ids(rounds.next()) == ["own"]
    rounds.listen()
    for now, then in (("own", "b"), ("b", "c")):
        bench.end(rounds, now)
        assert ids(rounds.next()) == [then]
    asked.append(bench.job("late"))
    rounds.listen()
    bench.end(rounds, "c")
    assert ids(rounds.next()) == ["late"], "the round waits for it"
    bench.end(rounds, "late")
    assert ids(rounds.next()) == ["d"]
    rounds.drain()
    asked.append(bench.job("never"))
    rounds.listen()
    assert asked, "who is stopping takes nothing up"


def test_what_is_dropped_is_not_tried_again_and_does_not_begin(bench: Bench) -> None:
    rounds = bench.rounds(iter([[bench.job(name) for name in "abc"]]), retries=3)
    assert ids(rounds.next()) == ["a"]
    bench.ledger.append("dropped", request="1", job="a")
    bench.end(rounds, "a", "FAILED", 0)
    assert ids(rounds.next()) == ["b"]
    bench.end(rounds, "b", "FAILED", 0)
    bench.write("b", "STOPPED", 0, reason=DROPPED)  # while it waits to be tried again
    rounds.listen()
    assert ids(rounds.next()) == ["c"]
