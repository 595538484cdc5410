"""Whether more of a search can pay: what is left to gain against what seeds alone change.

The noise is that of all that further seeds have judged by then: the slow settings of a staged search, and the preset
and RanPAC, finalists of every sweep, which get the first two seeds of their race as soon as the first trials are there.
These two alone may be much alike, and then differ by less from seed to seed than the trials do. What was decided
stands in the ledger, so a continued sweep decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from safe.errors import tell
from sweeps.engine.work import Study
from sweeps.ledger.jobs import Job, Kind, job_id
from sweeps.ledger.ledger import SweepLog
from sweeps.report.words import enough_words
from sweeps.results.racing import interaction_noise
from sweeps.results.selection import point_at
from sweeps.results.slow import by_seeds
from sweeps.search.regret import regret_bound
from sweeps.spec.configs import PRESET
from sweeps.spec.objective import objectives
from sweeps.spec.space import Space
from sweeps.studies.race import at_own_prediction, preset_jobs, preset_trial, race_job
from tracking.recorder import Status

REPEATS = (1, 2)


def noise_rounds(study: Study, space: Space) -> Iterator[list[Job]]:
    """Yield the preset where it is no trial, then the runs that measure the noise of seeds."""
    if lacking := preset_jobs(study, space):
        yield lacking
    if jobs := [race_job(study, id, repeat) for repeat in REPEATS for id in _measured_by(study.log)]:
        yield jobs


def enough(study: Study, trials: int) -> bool:
    """Return whether the search ends after so many trials: its bound is below the noise of seeds.

    It is told in a line with both numbers.
    """
    log = study.log
    if trials not in log.enough:
        bound, noise = regret_bound(log, trials), seed_noise(log)
        if bound is None or noise is None:
            return False
        study.append("enough", trials=trials, bound=bound, noise=noise, enough=bound < noise)
    if log.enough[trials]["enough"]:
        tell(enough_words(log)[-1])
    return bool(log.enough[trials]["enough"])


def seed_noise(log: SweepLog) -> float | None:
    """Return the standard deviation of a difference of two settings from seed to seed; None before it is measured.

    It is that of the preset and RanPAC and of the slow settings that further seeds judged, each by the slow learner
    alone. Their scores in the search count too: no search chose the former, and the latter are the better ones by
    these scores, which makes it rather too small.
    """
    spec = log.sweep_spec
    scores: list[dict[int, float]] = []
    for id in _measured_by(log):
        of = log.jobs[id]
        own = at_own_prediction(log, id, PRESET if id != RANPAC else "ranpac")
        rows = {0: own["score"]}
        for repeat in REPEATS:
            run = log.jobs.get(job_id(Kind.RACE, of.trial, repeat, of.variant))
            if run is not None and run.status == Status.FINISHED:
                point = point_at(run, own["prediction"], spec.objective, spec.split)
                rows |= {} if point is None or point.score is None else {repeat: point.score}
        wish = objectives(spec.objective)[0]
        scores.append({repeat: wish.goodness(value) for repeat, value in rows.items()})
    noise = interaction_noise(scores, [*by_seeds(log).values()] if spec.rules > 3 else [])
    return None if noise is None else math.sqrt(2) * noise


RANPAC = job_id(Kind.BASELINE, variant="ranpac")


def _measured_by(log: SweepLog) -> list[str]:
    """Return the ids of the preset and of RanPAC, as far as they are finished."""
    preset = preset_trial(log) or log.jobs.get(job_id(Kind.BASELINE, variant=PRESET))
    known = [job for job in (preset, log.jobs.get(RANPAC)) if job is not None]
    return [job.id for job in known if job.status == Status.FINISHED]
