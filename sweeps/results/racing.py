"""Finalists over further seeds: who leaves, when it ends, and who is taken of those that tie.

Everything here is a function of scores by repeat, where more is better. Differences are paired by repeat (seed, class
order and held-out images), which takes out what a repeat does to all finalists alike.

A finalist leaves when Student's paired t-test, one-sided, puts it behind the leader, with Holm's correction over all
that are left (Holm, Scand. J. Statist. 1979). The smallest p of Wilcoxon's signed-rank test with n pairs is 2^-n, so
against four finalists it could reject nothing before the seventh repeat; differences of accuracies averaged over
sessions are near enough to normal. The leader is whoever has the highest mean so far. Each look is a test of its own
at 5 %, as in F-Race (Birattari et al., GECCO 2002); looks are not corrected for.

The score of the search is one more repeat where it is given, of every mean and of no test: it chose the finalists. What
is known of a configuration is the mean of all that was seen of it, and the one with the highest mean is taken, whether
a test tells it from the others or not: it is the better bet. Those tie that are behind it by less than SMALL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

SEARCH = 0  # repeat of the search itself
LEVEL = 0.05
LEAST_TIE = 3  # repeats before finalists may be called equal
SMALL = 0.001  # of an objective of 1: differences below that are none


@dataclass(frozen=True)
class Left:
    """Why a finalist is out: after which repeat, behind whom (by index) and at which p; None where a run failed."""

    repeat: int
    behind: int | None
    p: float | None


@dataclass(frozen=True)
class Standing:
    """A race after its repeats so far.

    Attributes:
        alive: finalists that are left, by index, the leader first.
        left: the others.
        repeats: those that every finalist left has run.
        near: of `alive` those that are not worse than the leader by more than one standard error of the difference, or
            by less than SMALL; the search is one more repeat of it where it is given.
        tied: of `near` those that are worse by less than SMALL.
        settled: why it is over: `one is left` or `they tie`; None while it may go on.
    """

    alive: tuple[int, ...]
    left: Mapping[int, Left]
    repeats: tuple[int, ...]
    near: tuple[int, ...]
    tied: tuple[int, ...]
    settled: str | None


def race(scores: Sequence[Mapping[int, float]], repeats: Sequence[int]) -> Standing:
    """Return where a race stands after `repeats`, in their order.

    Args:
        scores: of every finalist, by repeat; one that lacks a repeat, because its run failed, is out from there on.
            SEARCH is the search's own, which all of them have or none.
    """
    alive, left = list(range(len(scores))), dict[int, Left]()
    done: list[int] = []
    for repeat in repeats:
        here = [index for index in alive if repeat in scores[index]]
        if not here:
            break  # nobody has run it
        left |= {index: Left(repeat, None, None) for index in alive if index not in here}
        done.append(repeat)
        leader = _leader(here, scores, done)
        ps = {index: p_behind(_pairs(scores, leader, index, done)) for index in here if index != leader}
        left |= {index: Left(repeat, leader, ps[index]) for index in holm(ps)}
        alive = [index for index in here if index not in left]
        if _settled(alive, scores, done):
            break
    leader = _leader(alive, scores, done)
    order = sorted(alive, key=lambda index: (index != leader, -_mean(scores, index, done), index))
    small = _small(scores, leader, done)
    seen = (SEARCH, *done) if all(SEARCH in scores[index] for index in alive) else done
    pairs = {index: _pairs(scores, leader, index, seen) for index in order}
    near = tuple(index for index in order if _near(pairs[index], small))
    tied = tuple(index for index in near if not pairs[index] or fmean(pairs[index]) <= small)
    return Standing(tuple(order), left, tuple(done), near, tied, _settled(alive, scores, done))


def p_behind(differences: Sequence[float]) -> float:
    """Return the one-sided p of Student's paired t-test that the mean of `differences` (leader minus other) is above 0.

    Fewer than two, or two that are equal, say nothing: 1. Three or more equal ones above 0 give 0.
    """
    n = len(differences)
    if n < 2:
        return 1.0
    mean, spread = fmean(differences), stdev(differences)
    if spread == 0:
        return 0.0 if mean > 0 and n > 2 else 1.0
    from scipy.special import stdtr

    return float(stdtr(n - 1, -mean / (spread / n**0.5)))


def holm(ps: Mapping[int, float], level: float = LEVEL) -> list[int]:
    """Return the keys whose hypotheses are rejected at a family-wise level, by Holm's step-down procedure."""
    rejected: list[int] = []
    for step, key in enumerate(sorted(ps, key=lambda key: ps[key])):
        if ps[key] > level / (len(ps) - step):
            break
        rejected.append(key)
    return rejected


def taken(tied: Sequence[int], costs: Sequence[float], preset: int | None) -> int:
    """Return which of those that tie, best first, is taken: the preset, else the cheapest, of equals the better."""
    if preset is not None and preset in tied:
        return preset
    return min(tied, key=lambda index: (costs[index], tied.index(index)))


def interaction_noise(*layouts: Sequence[Mapping[int, float]]) -> float | None:
    """Return the standard deviation of a score that is neither the configuration's nor the repeat's.

    It is the root of the residual mean square of two-way layouts, configurations x repeats, pooled over these: what
    makes the order of two configurations depend on the seed. None where no layout has two rows with two repeats in
    common.
    """
    squares, freedom = 0.0, 0
    for scores in layouts:
        shared = sorted(set.intersection(*map(set, scores))) if scores else []
        if len(scores) < 2 or len(shared) < 2:
            continue
        rows = [[row[repeat] for repeat in shared] for row in scores]
        total = fmean(map(fmean, rows))
        columns = [fmean(column) for column in zip(*rows, strict=True)]
        squares += sum(
            (value - fmean(row) - column + total) ** 2
            for row in rows
            for value, column in zip(row, columns, strict=True)
        )
        freedom += (len(rows) - 1) * (len(shared) - 1)
    return float((squares / freedom) ** 0.5) if freedom else None


def _leader(alive: Sequence[int], scores: Sequence[Mapping[int, float]], repeats: Sequence[int]) -> int:
    return max(alive, key=lambda index: (_mean(scores, index, repeats), -index))


def _mean(scores: Sequence[Mapping[int, float]], index: int, repeats: Sequence[int]) -> float:
    known = [scores[index][repeat] for repeat in (SEARCH, *repeats) if repeat in scores[index]]
    return fmean(known) if known else 0.0


def _pairs(scores: Sequence[Mapping[int, float]], leader: int, index: int, repeats: Sequence[int]) -> list[float]:
    return [scores[leader][repeat] - scores[index][repeat] for repeat in repeats]


def _small(scores: Sequence[Mapping[int, float]], leader: int, repeats: Sequence[int]) -> float:
    """Return the difference to the leader below which there is none."""
    return SMALL * max(1.0, abs(_mean(scores, leader, repeats)))


def _near(differences: Sequence[float], small: float) -> bool:
    """Whether the other is not behind by more than one standard error of the difference; one pair tells of none."""
    if len(differences) < 2:
        return True
    return fmean(differences) <= max(small, stdev(differences) / len(differences) ** 0.5)


def _settled(alive: Sequence[int], scores: Sequence[Mapping[int, float]], repeats: Sequence[int]) -> str | None:
    if len(alive) == 1:
        return "one is left"
    if len(repeats) < LEAST_TIE:
        return None
    from scipy.special import stdtrit

    leader = _leader(alive, scores, repeats)
    small = _small(scores, leader, repeats)
    for index in alive:
        pairs = _pairs(scores, leader, index, repeats)
        if fmean(pairs) + float(stdtrit(len(pairs) - 1, 1 - LEVEL)) * stdev(pairs) / len(pairs) ** 0.5 > small:
            return None
    return "they tie"
