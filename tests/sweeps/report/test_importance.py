"""How much each setting matters, as the report tells it."""

from __future__ import annotations

import random

import pytest

from sweeps.report.importance import importances


def uniform(trials: int, seed: int = 0) -> list[dict[str, float | str]]:
    draw = random.Random(seed)
    return [{"a": draw.random(), "b": draw.random(), "c": draw.choice(["x", "y"])} for _ in range(trials)]


def test_shares_are_those_of_the_variance() -> None:
    # Var(a + b / 2) for independent uniform a, b: 1/12 from a and 1/48 from b, so shares of 0.8 and 0.2.
    settings = uniform(200)
    found = importances(settings, [row["a"] + row["b"] / 2 for row in settings])  # type: ignore[operator]
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == pytest.approx(0.8, abs=0.06)
    assert found["b"] == pytest.approx(0.2, abs=0.06)
    assert found["c"] == pytest.approx(0.0, abs=0.02)
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_choice_and_a_wide_range_with_zero_can_matter_most() -> None:
    settings = [
        {"kind": kind, "weight": weight} for kind in ("x", "y", "z") for weight in (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    ]
    by_kind = importances(settings, [float(row["kind"] == "y") for row in settings])
    assert by_kind["kind"] > 0.95
    by_zero = importances(settings, [float(row["weight"] == 0.0) for row in settings])
    assert by_zero["weight"] > 0.95


def test_the_same_trials_give_the_same_shares() -> None:
    settings = uniform(12)
    scores = [float(row["a"]) for row in settings]
    assert importances(settings, scores) == importances(settings, scores)


@pytest.mark.parametrize(
    ("settings", "scores", "why"),
    [
        (uniform(7), [float(i) for i in range(7)], "at least 8 finished trials, there are 7"),
        ([], [], "at least 8 finished trials, there are 0"),
        ([{"a": 1}] * 9, [float(i) for i in range(9)], "same settings"),
        (uniform(9), [0.5] * 9, "same score"),
    ],
)
def test_too_little_to_tell_is_said(settings: list[dict[str, object]], scores: list[float], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        importances(settings, scores)
