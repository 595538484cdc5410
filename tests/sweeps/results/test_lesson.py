"""What trials say about a setting, against SciPy's test."""

from __future__ import annotations

import random

import pytest
from scipy.stats import spearmanr

from sweeps.results.lesson import Effect, surest

COS = [0.0, 2.0, 0.0, 5.0, 1.0, 0.0, 3.0, 4.0]
SCORES = [0.61, 0.80, 0.64, 0.79, 0.70, 0.60, 0.78, 0.81]
NOISE = [0.3, 0.1, 0.2, 0.25, 0.35, 0.15, 0.22, 0.18]


def test_the_surest_effect_is_spearman_s_times_the_number_of_tests() -> None:
    settings = {"cos": COS, "kind": ["a", "b"] * 4, "same": [1.0] * 8}
    expected = spearmanr(COS, SCORES)
    effect = surest(settings, {"accuracy": SCORES, "forgetting": NOISE})  # two tests, both of cos
    chance, correlation = pytest.approx(2 * expected.pvalue, rel=1e-9), pytest.approx(expected.statistic, abs=1e-12)
    assert effect == Effect("cos", "accuracy", chance, correlation)
    falling = surest({"lr": [*range(8)]}, {"accuracy": NOISE, "forgetting": [0.9, 0.8, 0.85, 0.6, 0.5, 0.4, 0.3, 0.3]})
    assert falling is not None
    assert (falling.measure, falling.correlation < 0) == ("forgetting", True)


def test_chance_is_taken_for_an_effect_as_seldom_as_is_said() -> None:
    rng = random.Random(0)
    taken = 0
    for _ in range(400):
        settings = {name: [rng.choice([0.0, rng.random()]) for _ in range(12)] for name in "abcd"}
        taken += surest(settings, {"accuracy": [rng.gauss(0, 1) for _ in range(12)]}) is not None
    assert taken / 400 <= 0.05 + 0.03  # the bound, and three standard errors of 400 draws


@pytest.mark.parametrize("scores", [[0.5] * 8, SCORES[:4], []])
def test_equal_scores_and_few_trials_say_nothing(scores: list[float]) -> None:
    assert surest({"cos": COS[: len(scores)]}, {"accuracy": scores}) is None
