"""How much of the score's variance over the trials each setting explains: functional ANOVA (Hutter et al., ICML 2014).

A forest is fitted on the trials; the variance of a setting's marginal prediction over its range, relative to the
others', is its importance. Settings of prediction take no part: every trial is scored at all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sweeps.report.axes import axis

FEWEST = 8
TREES, DEPTH = 32, 8  # of the forest: within 0.01 of 64 unlimited trees, which take 16 s on 1000 trials


def importances(settings: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> dict[str, float]:
    """Return the share of each setting that varies, in [0, 1] and 1 together, largest first; the same every time.

    Args:
        settings: of every trial, under the same names.
        scores: of every trial; not all equal.

    Raises:
        ValueError: in words for people, when the trials cannot tell.
    """
    varied = [name for name in settings[0] if len({str(row[name]) for row in settings}) > 1] if settings else []
    if len(scores) < FEWEST:
        raise ValueError(f"needs at least {FEWEST} finished trials, there are {len(scores)}")
    if not varied:
        raise ValueError("every trial has the same settings")
    if max(scores) == min(scores):
        raise ValueError("every finished trial has the same score")
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    axes = [axis(name, [row[name] for row in settings]) for name in varied]
    distributions: dict[str, BaseDistribution] = {
        a.name: CategoricalDistribution([p for p, _ in a.ticks]) if a.categories else FloatDistribution(0.0, 1.0)
        for a in axes
    }
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={a.name: a.positions[index] for a in axes}, distributions=distributions, value=score
            )
            for index, score in enumerate(scores)
        ]
    )
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in sorted(shares.items(), key=lambda item: (-item[1], item[0]))}
