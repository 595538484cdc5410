"""How long a plan takes on N workers, by a probe of this machine or by what a GPU is published to do."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from safe.config import Config, validate
from safe.config.described import acting
from safe.config.marks import Acts
from safe.sharing.stages import sharing_key
from sweeps.ledger.jobs import Kind
from sweeps.search import layout
from sweeps.spec.combinations import heads
from sweeps.spec.devices import Device
from sweeps.studies.plan import Plan, race_budget
from sweeps.studies.schedule import Run, Schedule, Step, schedule

MOST_WORKERS = 64
COSTLY = ("data", "backbone", "pet", "slow", "fast", "head")  # sections whose settings may change what a session costs
WORTH = 0.25  # of its time that a sweep must save for twice as many workers to be worth having


class SessionSeconds(NamedTuple):
    """Seconds of a session's gradient steps, and of closing it for either learner."""

    train: float
    slow: float
    fast: float


class Pace(Protocol):
    """How fast a machine is."""

    def session_seconds(self, config: Config) -> Sequence[SessionSeconds]:
        """Return the seconds of each session of a run."""
        ...


@dataclass(frozen=True)
class Reckoned:
    """A `Pace` from counted operations and a stated share of a GPU's peak; nothing is measured."""

    device: Device

    def session_seconds(self, config: Config) -> Sequence[SessionSeconds]:
        """Return the seconds of each session of a run."""
        from safe.training.cost import session_costs

        return [
            SessionSeconds(
                self.device.seconds(cost.step_flops, 0.0), *(self.device.seconds(*part) for part in cost.closing)
            )
            for cost in session_costs(config)
        ]


@dataclass(frozen=True)
class Forecast:
    """The search, its race, and the final runs on some workers."""

    search: Schedule
    final: Schedule

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return self.search.makespan + self.final.makespan

    @property
    def idle(self) -> float:
        """Share of all workers' time in which they do nothing."""
        return 1 - (self.search.work + self.final.work) / (self.seconds * self.search.workers) if self.seconds else 0.0


class Rounds:
    """The rounds of a plan with the seconds of each session.

    Trials of a search that learns from results are assumed to differ in all that they train after session 1, and to
    take the carried slow settings in turn.
    """

    def __init__(self, plan: Plan, pace: Pace) -> None:
        self._plan, self._pace = plan, pace
        self._kept: dict[str, Sequence[SessionSeconds]] = {}
        self.search = list(self._search())
        if plan.spec.raced:
            self.search.append(self._race())
        self.final = [[*self._final(), *(self._audits() if plan.spec.audit else [])]]

    def on(self, workers: int) -> Forecast:
        """Return what they come to on `workers` workers."""
        return Forecast(schedule(self.search, workers), schedule(self.final, workers))

    def worth(self) -> int:
        """Return the most workers worth having: twice as many would save less than `WORTH` of the time."""
        workers, now = 1, self.on(1)
        while workers < MOST_WORKERS and (more := self.on(2 * workers)).seconds <= (1 - WORTH) * now.seconds:
            workers, now = 2 * workers, more
        return workers

    def _search(self) -> Iterator[list[Run]]:
        spec, trained = self._plan.spec, set[Hashable]()
        limit = spec.max_sessions or float("inf")
        for runs in self._exact() if self._plan.exact else self._bound():
            within = []
            for run in runs:
                if len(trained) >= limit:
                    break
                trained |= {key for step in run for key, seconds in step.stages[:1] if seconds}
                within.append(run)
            yield within

    def _exact(self) -> Iterator[list[Run]]:
        runs = []
        for config in self._plan.configs:
            flat, first = config.flat(), sharing_key(config, 1)
            heads = repr([flat[name] for name in acting(Acts.HEADS)])
            keys = [sharing_key(config, session) for session in range(1, self._plan.sessions + 1)]
            runs.append(self._run(config, keys, (first, heads)))
        yield runs

    def _bound(self) -> Iterator[list[Run]]:
        plan = self._plan
        base = validate(plan.spec.base)
        alone = [validate({**base.flat(), "fast.epochs": 0, **head}) for head in heads(plan.spec.parsed_space())]
        carried = plan.spec.carried_count if plan.slow else plan.spec.trials
        for now in layout(plan.spec):
            if now.kind == Kind.SLOW:
                # Heads of one slow setting are closed apart, after one training.
                trained = plan.slow_trained
                yield [self._run(alone[i // trained], self._keys(("slow", i % trained), ()), i) for i in now.indices]
            else:
                yield [self._run(base, self._keys(("slow", i % carried), i), i % carried) for i in now.indices]

    def _final(self) -> list[Run]:
        return [
            self._run(
                config, [("final", index, session) for session, _ in enumerate(self._of(config))], ("final", index)
            )
            for index, config in enumerate(self._plan.refits)
        ]

    def _race(self) -> list[Run]:
        """Return as many runs as the race's budget pays for, taken to share nothing."""
        plan, base = self._plan, validate(self._plan.spec.base)
        runs = math.ceil(race_budget(plan.spec, plan.search.trained) / plan.sessions)
        keys = [[("race", index, session) for session in range(plan.sessions)] for index in range(runs)]
        return [self._run(base, own, ("race", index)) for index, own in enumerate(keys)]

    def _audits(self) -> list[Run]:
        sessions = self._of(validate(self._plan.spec.base))[: self._plan.sessions]
        closing = [Step((), each.slow + each.fast) for each in sessions]
        return [closing] * self._plan.spec.trials

    def _keys(self, first: Hashable, own: Hashable) -> list[Hashable]:
        return [first, *(("trial", own, session) for session in range(2, self._plan.sessions + 1))]

    def _run(self, config: Config, keys: Sequence[Hashable], slow: Hashable) -> Run:
        """Return a run by the keys of its gradient steps; `slow` tells the slow learner's closing apart."""
        return [
            Step(((key, each.train), (("closing", slow, session), each.slow)), each.fast)
            for session, (key, each) in enumerate(zip(keys, self._of(config), strict=False), 1)
        ]

    def _of(self, config: Config) -> Sequence[SessionSeconds]:
        """Return the seconds of a configuration's sessions; grids ask for many that differ in what costs nothing."""
        flat = config.flat()
        costly = repr([flat[name] for name in flat if name.split(".")[0] in COSTLY])
        if costly not in self._kept:
            self._kept[costly] = self._pace.session_seconds(config)
        return self._kept[costly]
