"""What the search takes from Optuna that Optuna calls experimental, so that a new Optuna's changes show in one place.

Seen with the versions of SEEN_WITH. `optuna.terminator` is announced to end with Optuna 6; the Gaussian process
below it is private. `tests/sweeps/search/test_compat.py` names what another version has changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

SEEN_WITH = ("5.0.0",)


def upper_regret(trials: Sequence[Any], fewest: int) -> float:
    """Return Optuna's bound on what the best trial lacks to the best of the space, in the unit of the values.

    Args:
        trials: finished ones of Optuna's with the same settings, at least `fewest`; more is better.
        fewest: trials that the Gaussian process sees even where the better half is fewer.
    """
    from optuna.study import StudyDirection
    from optuna.terminator import RegretBoundEvaluator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is called experimental
        evaluator = RegretBoundEvaluator(min_n_trials=fewest, seed=0)
        return float(evaluator.evaluate(list(trials), StudyDirection.MAXIMIZE))
