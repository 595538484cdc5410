"""The share of the class order in a spread."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sweeps.results.components import order_share


def test_deviations_and_share_have_the_intervals_of_chi_squared_and_f() -> None:
    rng = np.random.default_rng(0)
    orders, seeds = rng.normal(0, 3, 6), rng.normal(0, 1, 5)
    told = order_share(list(orders), list(seeds))
    assert told is not None
    for values, part in ((orders, told["orders"]), (seeds, told["seeds"])):
        n, var = len(values), values.var(ddof=1)
        assert part["value"] == pytest.approx(var**0.5)
        assert part["low"] == pytest.approx(((n - 1) * var / stats.chi2.ppf(0.975, n - 1)) ** 0.5)
        assert part["high"] == pytest.approx(((n - 1) * var / stats.chi2.ppf(0.025, n - 1)) ** 0.5)
    ratio = orders.var(ddof=1) / seeds.var(ddof=1)
    low, high = ratio / stats.f.ppf(0.975, 5, 4), ratio / stats.f.ppf(0.025, 5, 4)
    assert told["share"]["value"] == pytest.approx(ratio / (1 + ratio))
    assert told["share"]["low"] == pytest.approx(low / (1 + low))
    assert told["share"]["high"] == pytest.approx(high / (1 + high))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        told = order_share(list(rng.normal(0, 2, 5)), list(rng.normal(0, 1, 5)))
        assert told is not None
        held += told["share"]["low"] <= 0.8 <= told["share"]["high"]
    assert held / 400 == pytest.approx(0.95, abs=0.03)


def test_what_does_not_vary_or_is_alone_tells_nothing() -> None:
    assert order_share([1.0], [1.0, 2.0]) is None
    assert order_share([1.0, 1.0], [2.0, 2.0]) is None
    assert order_share([1.0, 2.0], [1.0, 1.0]) is None, "0 % (0 to 0) would claim to know"
    assert order_share([1.0, 1.0], [1.0, 2.0]) is None
