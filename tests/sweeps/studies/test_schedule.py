"""The schedule of a sweep on N workers: laws that hold for every order of runs, and cases by hand."""

from __future__ import annotations

import itertools
import random

import pytest

from sweeps.engine.order import first_free
from sweeps.studies.schedule import Run, Step, schedule


def made_up(seed: int) -> list[list[Run]]:
    """Return rounds of runs that share some of their first sessions."""
    drawn = random.Random(seed)
    seconds = {key: drawn.uniform(1, 9) for key in range(5)}
    rounds: list[list[Run]] = []
    for _ in range(drawn.randint(1, 3)):
        runs: list[Run] = []
        for number in range(drawn.randint(1, 9)):
            key = drawn.randrange(5)
            first = Step(((key, seconds[key]),), drawn.random())
            own = [Step(((("own", len(rounds), number, i), drawn.random()),), drawn.random()) for i in range(3)]
            runs.append([first, *own])
        rounds.append(runs)
    return rounds


@pytest.mark.parametrize("seed", range(20))
def test_laws(seed: int) -> None:
    rounds = made_up(seed)
    unique = {key: seconds for runs in rounds for run in runs for step in run for key, seconds in step.stages}
    work = sum(unique.values()) + sum(step.own for runs in rounds for run in runs for step in run)
    alone = schedule(rounds, 1)
    assert alone.makespan == pytest.approx(work), "one worker computes every stage once and never waits"
    assert alone.idle == pytest.approx(0, abs=1e-9)
    for workers in (2, 3, 8, 50):
        planned = schedule(rounds, workers)
        assert planned.work == pytest.approx(work)
        assert planned.makespan >= planned.bound - 1e-9
        assert planned.makespan <= work + 1e-9
        assert 0 <= planned.idle < 1
    assert schedule(rounds, 50).makespan == pytest.approx(schedule(rounds, 50).critical)


def test_two_runs_of_one_stage_by_hand() -> None:
    run = [Step((("slow", 10.0),), 1.0), Step((), 4.0)]
    planned = schedule([[run, run]], 2)
    assert (planned.makespan, planned.work, planned.critical) == (15.0, 20.0, 15.0)
    assert planned.idle == pytest.approx(1 / 3)
    assert planned.bound == 15.0


def test_a_round_waits_for_the_one_before() -> None:
    assert schedule([[[Step((), 3.0)], [Step((), 1.0)]], [[Step((), 2.0)]]], 2).makespan == 5.0


def test_what_an_earlier_round_computed_is_there() -> None:
    slow = Step((("slow", 10.0),), 1.0)
    assert schedule([[[slow]], [[slow, Step((), 2.0)]]], 1).makespan == 11.0 + 3.0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_grid_of_8x8x8_on_8_workers_is_near_the_bound_in_every_order(order: tuple[int, ...]) -> None:
    runs: list[Run] = []
    for values in itertools.product(range(8), repeat=3):
        slow, fast, head = (values[place] for place in order)
        first = Step(((("slow", slow), 20.0),), 2.0)
        later = [Step(((("fast", slow, fast, session), 15.0),), 2.0 + head / 8) for session in range(9)]
        runs.append([first, *later])
    planned = schedule([runs], 8)
    assert planned.makespan <= 1.15 * planned.bound


def test_the_first_job_that_would_not_wait_is_picked() -> None:
    keys = {"a": "xp", "b": "xp", "c": "xq", "d": "yp"}

    def key(job: str, session: int) -> str:
        return keys[job][:session]

    assert first_free("bcd", [("a", 1)], key) == 2, "b and c need the first session that a is in"
    assert first_free("bcd", [("a", 2)], key) == 1, "b alone needs the second one too"
    assert first_free("bc", [("a", 1)], key) == 0, "all would wait"
    assert first_free("bcd", [], key) == 0
