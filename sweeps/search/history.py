"""What a search may look at when it proposes a round: results of earlier rounds, in trial order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import ADDED, ENDED_WELL, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.selection import score_trial
from sweeps.results.slow import lucks, slow_ranking
from sweeps.search.layout import Round
from sweeps.spec.space import Space
from sweeps.spec.specs import SweepSpec
from tracking.recorder import Status


@dataclass(frozen=True)
class Observation:
    """A trial as a search sees it.

    Attributes:
        settings: value of every varied setting.
        goodness: its objectives, more is better, the first without the known luck of its slow learner; of a trial that
            was stopped, after its last session.
        session: the last session it has seen.
        stopped: whether others go on beyond it.
    """

    settings: Mapping[str, Any]
    goodness: tuple[float, ...]
    session: int = 1
    stopped: bool = False


@dataclass(frozen=True)
class History:
    """What is known before a round.

    Attributes:
        trials: those of earlier rounds that gave a result, in trial order, and what a user added before this one.
        learned: those of earlier sweeps, which stand first among `trials` too.
        slow: settings of the slow candidates judged so far, best first.
        begun: settings of every trial that has a configuration in the ledger, of this round too, by index; those that a
            user added before it have indices below 0.
    """

    trials: list[Observation] = field(default_factory=list)
    learned: list[Observation] = field(default_factory=list)
    slow: list[Mapping[str, Any]] = field(default_factory=list)
    begun: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


def read_history(spec: SweepSpec, space: Space, log: SweepLog, now: Round) -> History:
    """Return what the ledger knows before a round."""
    trials, added, ranked = log.trials(), _added(log, now), list[JobLog]()
    earlier: list[JobLog] = []
    if now.kind == Kind.TRIAL:
        before = [(number, job) for number, job in trials.items() if number < now.indices.start]
        before += [(log.added[number]["after"], job) for number, job in added.items() if log.added[number]["told"]]
        # An added trial stands before the one that came next.
        ordered = sorted(before, key=lambda one: (one[0], one[1].variant is None, one[1].order))
        earlier = [job for _, job in ordered if job.status in ENDED_WELL]
        ranked = slow_ranking(log)
    luck = lucks(log, earlier)
    lessons = [
        Observation({name: one["settings"][name] for name in space.domains}, tuple(one["goodness"]))
        for one in log.learned or ()
    ]
    return History(
        learned=lessons,
        trials=[*lessons, *(_observation(spec, space, job, luck[job.id]) for job in earlier if job.sessions)],
        slow=[_settings(space, job) for job in ranked],
        begun={number: _settings(space, job) for number, job in trials.items()}
        | {-1 - number: _settings(space, job) for number, job in added.items()},
    )


def _added(log: SweepLog, now: Round) -> dict[int, JobLog]:
    """Return the trials that were added before a round was proposed, by their own numbers."""
    jobs = {job.trial or 0: job for job in log.of_kind(Kind.TRIAL) if job.variant == ADDED}
    return {number: job for number, job in jobs.items() if log.added[number]["after"] <= now.indices.start}


def _observation(spec: SweepSpec, space: Space, job: JobLog, luck: float) -> Observation:
    first, *others = score_trial(job, spec.objective, spec.split).goodness
    goodness = (first - luck, *others)
    return Observation(_settings(space, job), goodness, len(job.sessions), stopped=job.status == Status.STOPPED)


def _settings(space: Space, job: JobLog) -> dict[str, Any]:
    """Return the varied settings of a job as the space writes them; a job's own paths are absolute."""
    settings = {name: job.config[name] for name in space.domains}
    for name, domain in space.domains.items():
        if isinstance(settings[name], str) and settings[name] not in domain:
            texts = [value for value in domain.values if isinstance(value, str)]
            settings[name] = next(
                (text for text in texts if str(Path(text).absolute()) == settings[name]), settings[name]
            )
    return settings
