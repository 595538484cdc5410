"""Ranges in steps and priors of a search space."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import Any

import pytest

from safe.errors import UserError
from sweeps.search import random_, tpe
from sweeps.search.history import Observation
from sweeps.spec.combinations import combinations
from sweeps.spec.domains import Domain, domain_of
from sweeps.spec.space import Space


def shares(domain: Domain, count: int = 6000) -> dict[Any, float]:
    drawn = Counter(domain.at((i + 0.5) / count) for i in range(count))
    return {value: number / count for value, number in sorted(drawn.items())}


def test_every_whole_number_of_a_range_is_equally_likely_and_both_ends_are_in() -> None:
    assert shares(Domain("int", (1, 4))) == pytest.approx({1: 0.25, 2: 0.25, 3: 0.25, 4: 0.25}, abs=1e-3)
    assert Domain("int", (1, 4)).at(1.0) == 4


def test_whole_numbers_by_their_logarithm_have_the_share_of_their_ratio() -> None:
    wanted = {n: math.log((n + 1) / n) / math.log(9 / 2) for n in range(2, 9)}
    assert shares(Domain("log_int", (2, 8))) == pytest.approx(wanted, abs=1e-3)
    assert Domain("log_int", (2, 8)).at(1.0) == 8


@pytest.mark.parametrize("kind", ["int", "log_int"])
def test_whole_bounds_may_be_written_as_powers_of_ten(kind: str) -> None:
    domain = domain_of({kind: [1.0, 1e2]}, whole=True)
    assert domain == domain_of({kind: [1, 100]}, whole=True)
    assert [domain.at(0.0), domain.at(1.0)] == [1, 100]
    assert type(domain.at(1.0)) is int


def test_a_quantised_range_holds_its_steps_as_they_are_written() -> None:
    domain = domain_of({"quantised": [0, 0.9, 0.1]}, whole=False)
    assert list(domain.every() or ()) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert set(shares(domain).values()) == {0.1}
    assert 0.3 in domain
    assert 0.35 not in domain
    assert list(domain_of({"quantised": [4, 17, 4]}, whole=True).every() or ()) == [4, 8, 12, 16]


@pytest.mark.parametrize(
    "domain", [Domain("int", (3, 9)), Domain("log_int", (1, 50)), Domain("quantised", (0, 1, 0.25))]
)
def test_a_value_lies_where_it_is_drawn_from(domain: Domain) -> None:
    for value in domain.every() or ():
        assert domain.at(domain.position(value)) == value
        assert value in domain


def test_a_range_in_steps_can_grow_and_is_a_grid() -> None:
    assert Domain("int", (1, 8)).covers(Domain("int", (2, 4)))
    assert not Domain("int", (1, 8)).covers(Domain("int", (2, 9)))
    assert Domain("quantised", (0, 1, 0.25)).covers(Domain("quantised", (0, 1, 0.5)))
    assert not Domain("quantised", (0, 1, 0.5)).covers(Domain("quantised", (0, 1, 0.25)))
    assert not Domain("quantised", (0, 1, 0.5)).covers(Domain("uniform", (0, 1)))
    assert Domain("uniform", (0, 1)).covers(Domain("quantised", (0, 1, 0.5)))
    space = Space.of({"slow.epochs": {"int": [1, 3]}, "fast.momentum": {"quantised": [0, 0.5, 0.5]}})
    assert len(combinations(space)) == 6


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"quantised": [0, 1]}, r"\[low, high, step\], three finite numbers"),
        ({"quantised": [0, 1, 0]}, "step above 0"),
        ({"quantised": [0, 1, 2]}, "step above 0 and at most high - low"),
        ({"int": [0.5, 3]}, "int needs whole numbers"),
        ({"log_int": [0, 3]}, "bounds above 0"),
        ({"int": [0, 10**6]}, "more than 20000 values"),
        ({"uniform": [0, 1], "prior": 3}, "prior needs {median: number, spread: number}"),
        ({"uniform": [0, 1], "prior": {"median": 2, "spread": 1}}, "median 2 lies outside"),
        ({"uniform": [0, 1], "prior": {"median": 0.5, "spread": 0}}, "spread must be above 0"),
        ({"loguniform": [0.1, 1], "prior": {"median": 0.5, "spread": 1}}, "spread must be above 1"),
        ({"choice": [1, 2], "prior": {"median": 1, "spread": 2}}, "belongs to a range"),
        ({"prior": {"median": 1, "spread": 2}}, "needs exactly one of"),
    ],
)
def test_what_is_malformed_is_refused_in_words(entry: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Space.of({"slow.lr": entry})


PRIOR = {"slow.lr": {"loguniform": [1e-4, 1], "prior": {"median": 0.01, "spread": 2}}}


def test_half_of_the_draws_come_from_the_prior() -> None:
    space, plain = Space.of(PRIOR), Space.of({"slow.lr": {"loguniform": [1e-4, 1]}})
    near = [math.log(random_.draw(space, 0, index)["slow.lr"] / 0.01, 2) for index in range(1, 2001)]
    within = sum(abs(x) < 1 for x in near) / 2000
    # 68 % of the half from the prior lie within one factor of 2, and of the others 2 ln 2 / ln 10^4.
    assert within == pytest.approx(0.5 * 0.6827 + 0.5 * 2 * math.log(2) / math.log(1e4), abs=0.03)
    uniform = [random_.draw(plain, 0, index)["slow.lr"] for index in range(1, 2001)]
    assert statistics.median(uniform) == pytest.approx(0.01, rel=0.25)
    same = [a == random_.draw(plain, 0, i)["slow.lr"] for i, a in enumerate(uniform, start=1)]
    assert all(same), "what has no prior is drawn as before"


def test_the_weight_of_a_prior_fades_as_trials_are_told() -> None:
    """The trials say that the best lies far from the prior."""
    space = Space.of(PRIOR)

    def near(told: int) -> float:
        values = [10 ** (-4 + 4 * (i + 0.5) / told) for i in range(told)]
        seen = [Observation({"slow.lr": value}, (value,)) for value in values]
        drawn = [tpe.suggest(space, f"{seed}", seen, set(), 1, lambda _: True)[0] for seed in range(60)]
        return sum(0.0025 < one["slow.lr"] < 0.04 for one in drawn) / 60

    assert near(4) > near(160)
    assert near(160) < 0.2
