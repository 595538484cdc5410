"""Slow settings judged alone: by one seed, the better half by another, the better half of these by one more.

That is sequential halving (Karnin et al., ICML 2013) over seeds, each with a class order and held-out images of its
own. A further seed costs the training of session 1 alone, and a trial's luck is mostly that of the slow learner that it
was made of: with the luck of this one known, it is taken out of the trial's score.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import Kind, job_id
from sweeps.ledger.ledger import SweepLog
from sweeps.results.selection import measured, slow_objective
from sweeps.spec.depth import acts_in_session_1
from sweeps.spec.objective import objectives
from tracking.recorder import Status

AGAIN = "slow"  # variant of a race's job that judges a slow setting again
LEAST = 2  # slow settings are not told apart by further seeds when they are fewer


def slow_ranking(log: SweepLog, before: int | None = None) -> list[JobLog]:
    """Return the finished slow settings, best first, by the slow learner's own value of the first objective.

    Those that more seeds have judged come first, and among them those with the best mean over these. An objective that
    is not a learner's own (a time, say) is replaced by the slow learner's average accuracy.

    Args:
        before: looks at the repeats before this one only.
    """
    scores = _scores(log, before)
    return [
        log.jobs[id]
        for id in sorted(scores, key=lambda id: (len(scores[id]), fmean(scores[id].values())), reverse=True)
    ]


def with_best_head(log: SweepLog, before: int | None = None) -> list[JobLog]:
    """Return of every slow setting that is judged the job of its best head, best first; see `slow_ranking`."""
    best: dict[tuple[str, ...], JobLog] = {}
    for job in slow_ranking(log, before):
        best.setdefault(_settings(log, job), job)
    return list(best.values())


def judged_again(log: SweepLog, repeat: int) -> list[str]:
    """Return the ids of the slow settings that a repeat judges, each with its best head; none where the last ones are.

    Repeat r has the best of n settings up to place n / 2^r, rounded up, and at least `LEAST`.
    """
    best = with_best_head(log, before=repeat)
    number, so_far = (max(LEAST, -(-len(best) // 2**r)) for r in (repeat, repeat - 1))
    return [job.id for job in best[:number]] if number < so_far else []


def over_seeds(log: SweepLog) -> dict[str, list[float]]:
    """Return the slow learner's goodness of each slow setting, with the search's seed and then with the repeats'."""
    return {id: list(scores.values()) for id, scores in _scores(log).items()}


def by_seeds(log: SweepLog) -> dict[str, dict[int, float]]:
    """Return the goodness by repeat of the slow settings that further seeds judged; 0 is the search's.

    Nothing where the objective is not a learner's own.
    """
    return {id: of for id, of in _scores(log).items() if len(of) > 1} if _judged(log)[1] else {}


def lucks(log: SweepLog, trials: Iterable[JobLog]) -> dict[str, float]:
    """Return by how much a trial's slow learner did better with the search's seed than it does on average, by trial.

    It is a difference to the settings that every repeat has judged, which takes out what a seed does to all of them.
    0 where no further seed judged the trial's slow setting, and where the objective is not a learner's own.
    """
    if not (scores := by_seeds(log)):
        return {trial.id: 0.0 for trial in trials}
    most = max(map(len, scores.values()))
    others = [of for of in scores.values() if len(of) == most]
    known: dict[tuple[str, ...], float] = {}
    for id, of in scores.items():
        apart = [value - fmean(other[repeat] for other in others) for repeat, value in of.items()]
        known[_settings(log, log.jobs[id])] = apart[0] - fmean(apart)
    return {trial.id: known.get(_settings(log, trial), 0.0) for trial in trials}


def _settings(log: SweepLog, job: JobLog) -> tuple[str, ...]:
    """Return what makes a slow setting another one."""
    return tuple(str(job.config[name]) for name in log.sweep_spec.space if acts_in_session_1(name))


def _judged(log: SweepLog) -> tuple[dict[str, float], bool]:
    """Return the slow learner's goodness by finished job, and whether it is that of the sweep's own objective."""
    spec = log.sweep_spec
    again = [job for job in log.of_kind(Kind.RACE) if job.variant == AGAIN]
    finished = [job for job in (*log.of_kind(Kind.SLOW), *again) if job.status == Status.FINISHED]
    wish = slow_objective(finished, spec.objective, spec.split)
    own = wish.name.rpartition("/")[2] == objectives(spec.objective)[0].name.rpartition("/")[2]
    return {job.id: wish.goodness(measured(job, wish.name, spec.split)) for job in finished}, own


def _scores(log: SweepLog, before: int | None = None) -> dict[str, dict[int, float]]:
    """Return the goodness of each finished slow setting by repeat, up to the first that lacks; 0 is the search's."""
    judged, scores = _judged(log)[0], dict[str, dict[int, float]]()
    for job in log.of_kind(Kind.SLOW):
        id, repeat = job.id, 0
        while id in judged and (before is None or repeat < before):
            scores.setdefault(job.id, {})[repeat] = judged[id]
            repeat += 1
            id = job_id(Kind.RACE, job.trial, repeat, AGAIN)
    return scores
