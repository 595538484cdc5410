"""What the trials of a sweep say about one setting, where that is more than chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.selection import Scored, leaderboard
from sweeps.spec.domains import is_number
from sweeps.spec.objective import objectives

CHANCE = 0.05  # for all tests together
FEWEST = 5  # trials of a trend


@dataclass(frozen=True)
class Effect:
    """The effect of a setting on a measure of trials.

    Attributes:
        p: chance of so large a correlation where there is none, times the number of tests that were made.
        correlation: Spearman's, of the setting with the measure.
    """

    setting: str
    measure: str
    p: float
    correlation: float


@dataclass(frozen=True)
class Group:
    """Trials that have something in common: how many, and their mean objective and forgetting (None in session 1)."""

    trials: int
    score: float
    forgetting: float | None


@dataclass(frozen=True)
class Lesson:
    """The surest effect, and the trials by it: those at exactly 0 and the others (`switch`), else the lower half by the
    setting's value and the upper."""

    effect: Effect
    switch: bool
    groups: tuple[Group, Group]


def surest(settings: Mapping[str, Sequence[Any]], measures: Mapping[str, Sequence[float]]) -> Effect | None:
    """Return the effect that is least likely chance, None where nothing is told from it.

    The rank correlation of every numerical setting that varies with every measure is tested by its t approximation. By
    Bonferroni all tests together find something in pure noise in at most one sweep of twenty.

    Args:
        settings: values of every setting, one a trial.
        measures: of the same trials.
    """
    effects: list[Effect] = []
    for name, values in settings.items():
        if len(values) < FEWEST or len(set(map(str, values))) < 2 or not all(map(is_number, values)):
            continue
        for measure, reached in measures.items():
            correlation, freedom = _spearman(values, reached), len(values) - 2
            t = correlation * math.sqrt(freedom / max(1 - correlation**2, 1e-12))
            effects.append(Effect(name, measure, _two_sided(t, freedom), correlation))
    best = min(effects, key=lambda effect: effect.p, default=None)
    if best is None or best.p * len(effects) > CHANCE:
        return None
    return replace(best, p=best.p * len(effects))


def lesson(log: SweepLog) -> Lesson | None:
    """Return what the finished trials of a sweep say with the first objective and forgetting; see `surest`."""
    spec = log.sweep_spec
    board = [e for e in leaderboard(log.within(), spec.objective, spec.split) if e.score is not None]
    settings = {name: [log.jobs[entry.trial].config[name] for entry in board] for name in spec.parsed_space().domains}
    name = objectives(spec.objective)[0].name
    measures = {name: [entry.score for entry in board if entry.score is not None]}
    measures["forgetting"] = [lost for entry in board if (lost := _forgetting(entry)) is not None]
    effect = surest(settings, {name: values for name, values in measures.items() if len(values) == len(board)})
    if effect is None:
        return None
    values = settings[effect.setting]
    middle = 0 if 0 in values else median(values)
    lower = [value <= middle for value in values]
    groups = ([entry for entry, low in zip(board, lower, strict=True) if low is which] for which in (True, False))
    first, second = map(_group, groups)
    return Lesson(effect, 0 in values, (first, second))


def _forgetting(entry: Scored) -> float | None:
    return entry.last.get("forgetting")


def _group(entries: Sequence[Scored]) -> Group:
    lost = [value for entry in entries if (value := _forgetting(entry)) is not None]
    scores = [entry.score for entry in entries if entry.score is not None]
    return Group(len(entries), fmean(scores), fmean(lost) if lost else None)


def _spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation, equals at their mean rank; 0 where one of them is constant."""
    a, b = _ranks(first), _ranks(second)
    mean = (len(a) - 1) / 2
    spread = math.sqrt(sum((x - mean) ** 2 for x in a) * sum((y - mean) ** 2 for y in b))
    return sum((x - mean) * (y - mean) for x, y in zip(a, b, strict=True)) / spread if spread else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    ordered, equals = sorted(values), Counter(values)
    first = {value: rank for rank, value in reversed(list(enumerate(ordered)))}
    return [first[value] + (equals[value] - 1) / 2 for value in values]


def _two_sided(t: float, freedom: int) -> float:
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(t)))


def equals_of_the_chosen(log: SweepLog) -> int:
    """Return how many finished trials score exactly as the chosen trial does, it included; there was no race."""
    assert log.selected is not None
    spec, chosen = log.sweep_spec, log.selected["trial"]
    goodness = {e.trial: e.goodness for e in leaderboard(log.of_kind(Kind.TRIAL), spec.objective, spec.split)}
    return sum(value == goodness[chosen] for value in goodness.values())
