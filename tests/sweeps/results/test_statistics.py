"""Means over seeds and paired differences, and the configurations of the runs after the choice."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sweeps.results.statistics import paired_difference, summarise, summary


def test_mean_and_spread_agree_with_numpy() -> None:
    values = [0.71, 0.73, 0.705, 0.74]
    stats = summary(values)
    assert stats["mean"] == pytest.approx(np.mean(values))
    assert stats["std"] == pytest.approx(np.std(values, ddof=1))
    assert stats["values"] == values
    assert summary([0.5]) == {"mean": 0.5, "std": None, "values": [0.5]}


def test_only_metrics_of_every_run_are_summarised() -> None:
    assert set(summarise([{"a": 1.0, "b": 2.0}, {"a": 3.0}])) == {"a"}
    assert summarise([]) == {}


def test_the_paired_interval_agrees_with_the_paired_t_test() -> None:
    random = np.random.default_rng(0)
    for n in (2, 3, 5, 20):
        ours, theirs = random.normal(0.7, 0.01, n), random.normal(0.69, 0.02, n)
        pair = paired_difference(list(ours), list(theirs))
        low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
        assert pair["mean"] - pair["half_width"] == pytest.approx(low)
        assert pair["mean"] + pair["half_width"] == pytest.approx(high)


@pytest.mark.parametrize(("ours", "theirs"), [([0.1], [0.2]), ([0.1, 0.2], [0.3]), ([], [])])
def test_what_cannot_be_paired_is_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="two lists of equal length"):
        paired_difference(ours, theirs)
