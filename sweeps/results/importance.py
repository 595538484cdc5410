"""How much each setting matters, and which ranges should be wider.

PED-ANOVA (Watanabe et al., IJCAI 2023), Optuna's: how far the values of the best trials are from those of all trials,
setting by setting, as the Pearson divergence of two densities. A bootstrap over the trials says how sure that is.
Settings of prediction take no part: every trial is scored at all of them.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from safe.config import validate
from safe.errors import UserError
from sweeps.ledger.ledger import SweepLog
from sweeps.results.optuna_trials import distributions, place, places, trial
from sweeps.results.selection import leaderboard, score_points, score_trial, varied
from sweeps.spec.domains import STEPPED, Domain, is_number
from sweeps.spec.space import PREDICTION_SETTINGS, Space, parse_domain
from sweeps.spec.titles import short_value
from tracking.recorder import Status

FEWEST = 6
BEST, MOST_OF_ALL = 5, 0.5  # of the trials count as the best ones: a tenth, at least so many, at most that share
DRAWS = 50  # of the bootstrap
END = 0.05  # of a range: where a winner lies at its end
OUTER, MANY = 0.25, 0.7  # of a range and of the best trials: so many of them there are a trend


@dataclass(frozen=True)
class Importance:
    """The share of a setting in all divergences, in [0, 1], and the 5 % and 95 % quantiles of the bootstrap."""

    setting: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Edge:
    """A range whose best values lie at its end.

    Attributes:
        value: the winner's, or the outermost of the best trials.
        upper: whether it is the upper end.
        by: `winner`, or `trend` where the best trials lie there and the winner does not.
    """

    setting: str
    value: Any
    upper: bool
    by: str


def importances(space: Space, settings: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> list[Importance]:
    """Return the importance of each setting that varies, largest first; the same every time.

    Args:
        settings: of every trial, under the same names.
        scores: of every trial, more is better; not all equal.

    Raises:
        ValueError: in words for people, when the trials cannot tell.
    """
    if len(scores) < FEWEST:
        raise ValueError(f"needs at least {FEWEST} finished trials, there are {len(scores)}")
    names = varied(space.domains, settings)
    if not names:
        raise ValueError("every trial has the same settings")
    if max(scores) == min(scores):
        raise ValueError("every finished trial has the same score")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, known = optuna.create_study(direction="maximize"), distributions(space)
    study.add_trials([trial(known, places(space, row), [score]) for row, score in zip(settings, scores, strict=True)])
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=_best_share(len(scores)))
    trials, rng = study.get_trials(deepcopy=False), random.Random(0)

    def shares(drawn: list[Any]) -> dict[str, float] | None:
        study.get_trials = lambda *_, **__: drawn  # these, and not those of its storage
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            divergences = evaluator.evaluate(study, params=names)
        total = sum(divergences.values())
        return {name: value / total for name, value in divergences.items()} if total > 0 else None

    whole = shares(trials)
    if whole is None:
        raise ValueError("the best trials are not told from the others")
    draws = [drawn for _ in range(DRAWS) if (drawn := shares(rng.choices(trials, k=len(trials)))) is not None]
    return sorted(
        (Importance(name, share, *_quantiles([drawn[name] for drawn in draws])) for name, share in whole.items()),
        key=lambda importance: (-importance.share, importance.setting),
    )


def edges(
    space: Space,
    settings: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    predictions: Sequence[tuple[Mapping[str, Any], float]] = (),
) -> list[Edge]:
    """Return the settings whose best values lie at an end of their range that could be moved.

    The winner lies at an end within the last twentieth of a range, or at the first or last of three or more listed
    numbers or steps; the best trials, at least three, tend there where seven of ten lie in the outer quarter.

    Args:
        settings: of every trial.
        scores: of every trial, more is better.
        predictions: settings of prediction of the winner, and how good it is at each.
    """
    if not scores or max(scores) == min(scores):
        return []
    ranked = sorted(range(len(scores)), key=lambda index: -scores[index])
    best = [settings[index] for index in ranked[: max(1, round(_best_share(len(scores)) * len(scores)))]]
    reached = []
    for name, domain in space.domains.items():
        lie = [_position(domain, row[name]) for row in best if name in places(space, row)]
        known = [where for where in lie if where is not None]
        if not known:
            continue
        upper = fmean(known) > 0.5
        outside = sum((where if upper else 1 - where) >= 1 - OUTER for where in known)
        first = None if lie[0] is None else _end(lie[0])
        if first is not None and _can_move(space, name, domain, first):
            reached.append(Edge(name, best[0][name], first, "winner"))
        elif len(lie) > 2 and outside >= MANY * len(lie) and _can_move(space, name, domain, upper):
            reached.append(
                Edge(name, max(row[name] for row in best) if upper else min(row[name] for row in best), upper, "trend")
            )
    return reached + _of_prediction(space, predictions)


def importance(log: SweepLog) -> list[Importance]:
    """Return how much each setting matters to the first objective; nothing where the finished trials cannot tell."""
    settings, scores = finished_scores(log)
    if log.importance is not None and log.importance["trials"] == len(scores):
        return [Importance(**entry) for entry in log.importance["shares"]]
    try:
        return importances(log.sweep_spec.parsed_space(), settings, scores)
    except ValueError:
        return []


def importance_record(log: SweepLog) -> dict[str, Any]:
    """Return what the ledger keeps of it: optuna takes seconds to load and to reckon, `show` should not."""
    return {"trials": len(finished_scores(log)[1]), "shares": [asdict(entry) for entry in importance(log)]}


def range_edges(log: SweepLog) -> list[Edge]:
    """Return the settings whose best values lie at an end of their range."""
    spec = log.sweep_spec
    settings, scores = finished_scores(log)
    if not scores:
        return []
    winner = leaderboard(log.within(), spec.objective, spec.split)[0].trial
    points = score_points(log.jobs[winner], spec.objective, spec.split)
    return edges(spec.parsed_space(), settings, scores, [(point.prediction, point.goodness[0]) for point in points])


def edge_words(entry: Edge) -> str:
    """Return in a sentence what a range should become."""
    name, end = entry.setting, "upper" if entry.upper else "lower"
    what = "the best trials lie near" if entry.by == "trend" else "its best value lies at"
    return f"{name}: {what} the {end} end of its range ({short_value(entry.value)}); widen it"


def finished_scores(log: SweepLog) -> tuple[list[Mapping[str, Any]], list[float]]:
    """Return configuration and first objective, more is better, of the finished trials of the space that have one."""
    spec = log.sweep_spec
    finished = [job for job in log.within() if job.status == Status.FINISHED]  # in the search's order already
    scored = [score_trial(job, spec.objective, spec.split) for job in finished]
    known = [entry for entry in scored if entry.score is not None]
    return [log.jobs[entry.trial].config for entry in known], [entry.goodness[0] for entry in known]


def _of_prediction(space: Space, predictions: Sequence[tuple[Mapping[str, Any], float]]) -> list[Edge]:
    """Return the listed numbers of prediction that are best at an end, and better there than anywhere else."""
    reached = []
    for name in (name for name in PREDICTION_SETTINGS if name in space.raw):
        domain = parse_domain(name, space.raw[name])
        best: dict[Any, float] = {}
        for point, goodness in predictions:
            best[point[name]] = max(goodness, best.get(point[name], goodness))
        if not best or max(best.values()) == min(best.values()):
            continue
        top = [value for value, goodness in best.items() if goodness == max(best.values())]
        where = _position(domain, top[0]) if len(top) == 1 else None
        if where is not None and (end := _end(where)) is not None and _can_move(space, name, domain, end):
            reached.append(Edge(name, top[0], end, "winner"))
    return reached


def _position(domain: Domain, value: Any) -> float | None:
    """Return where a number lies between the ends of its range; None of what has none, and of a 0 beside a range."""
    if domain.kind in STEPPED:  # the first and the last step are the ends
        first, last = (place(domain, end) for end in domain.extremes())
        return (place(domain, value) - first) / (last - first) if len(domain.every() or ()) > 2 else None
    if not domain.listed:
        return None if domain.kind == "zero_or_loguniform" and value == 0 else place(domain, value)
    numbers = sorted(v for v in domain.values if is_number(v))
    if len(numbers) < max(3, len(domain.values)):
        return None
    return numbers.index(value) / (len(numbers) - 1)


def _end(where: float) -> bool | None:
    """Return whether a position is at the upper end, False at the lower one, None within."""
    return where > 0.5 if min(where, 1 - where) < END else None


def _can_move(space: Space, name: str, domain: Domain, upper: bool) -> bool:
    """Whether the setting takes values beyond that end; a range with 0 has nothing below it."""
    numbers = sorted(domain.values if domain.listed else domain.values[:2])
    low, high = numbers[0], numbers[-1]
    if not upper and (domain.kind == "zero_or_loguniform" or low == 0):
        return False
    beyond = (high + (high - low) if upper else low / 2) if low > 0 else (2 * high - low if upper else 2 * low - high)
    try:
        validate({**space.base, name: round(beyond) if domain.whole else beyond})
    except UserError:
        return False
    return True


def _best_share(trials: int) -> float:
    return max(0.1, min(MOST_OF_ALL, BEST / trials))


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    ranked = sorted(values)
    return ranked[round(0.05 * (len(ranked) - 1))], ranked[round(0.95 * (len(ranked) - 1))]
