"""What the search takes from Optuna's experiments is still as it was; else the failure says what has changed."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec
from random import Random

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from sweeps.search.compat import SEEN_WITH, upper_regret

CHANGED = f"optuna {optuna.__version__} is not as {', '.join(SEEN_WITH)}: see sweeps/search/compat.py"
KNOWN = {name: FloatDistribution(0.0, 1.0) for name in "xy"}


def trials(scale: float = 1.0, shift: float = 0.0, noise: float = 0.0) -> list[FrozenTrial]:
    """Trials of a smooth hill of height 1 at (0.3, 0.7)."""
    random, made = Random(0), []
    for _ in range(20):
        at = {name: random.random() for name in KNOWN}
        value = 1 - (at["x"] - 0.3) ** 2 - (at["y"] - 0.7) ** 2 + noise * random.gauss()
        made.append(create_trial(params=at, distributions=KNOWN, values=[scale * value + shift]))
    return made


def test_the_evaluator_is_there_and_is_called_in_the_same_way() -> None:
    assert find_spec("optuna.terminator") is not None, CHANGED
    evaluator = import_module("optuna.terminator").RegretBoundEvaluator
    assert list(inspect.signature(evaluator.__init__).parameters)[1:] == ["top_trials_ratio", "min_n_trials", "seed"], (
        CHANGED
    )
    assert list(inspect.signature(evaluator.evaluate).parameters)[1:] == ["trials", "study_direction"], CHANGED


def test_the_bound_is_above_what_is_lacking_and_has_the_unit_of_the_values() -> None:
    bound = upper_regret(trials(), 8)
    best = max(trial.values[0] for trial in trials())
    assert 1 - best <= bound < 1, CHANGED
    assert bound == upper_regret(trials(), 8), "the same every time"
    assert upper_regret(trials(scale=0.01, shift=0.5), 8) == pytest.approx(0.01 * bound, rel=0.05), CHANGED
    assert upper_regret(trials(noise=0.3), 8) > bound, "noise leaves more to hope for"
