"""When the runs of a sweep would end on N workers: its rounds played through, with stages shared as a sweep does."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from sweeps.engine.order import first_free


@dataclass(frozen=True)
class Step:
    """One session of a run.

    Attributes:
        stages: what it shares, in order: keys and the seconds that each takes, once for all runs that need it. By the
            first one sessions are told apart when the next run is picked.
        own: seconds of the rest, which every run takes.
    """

    stages: tuple[tuple[Hashable, float], ...]
    own: float = 0.0


Run = Sequence[Step]
"""One job: its sessions in their order."""


@dataclass(frozen=True)
class Schedule:
    """How long the rounds take.

    Attributes:
        workers: runs at a time.
        makespan: seconds from the first run's start to the last one's end.
        work: seconds that workers compute, every stage once.
        critical: seconds on as many workers as there are runs: of every round the run that ends last.
    """

    workers: int
    makespan: float
    work: float
    critical: float

    @property
    def idle(self) -> float:
        """Share of the workers' time in which they wait or have nothing to do."""
        return max(0.0, 1 - self.work / (self.makespan * self.workers)) if self.makespan else 0.0

    @property
    def bound(self) -> float:
        """Seconds that no order of runs on these workers can go below."""
        return max(self.critical, self.work / self.workers)


def schedule(rounds: Sequence[Sequence[Run]], workers: int) -> Schedule:
    """Play rounds through on `workers` workers, at least 1; a round begins when the one before has ended."""
    finished = set[Hashable]()
    spans, work, critical = 0.0, 0.0, 0.0
    for runs in rounds:
        before = set(finished)
        critical += _Round(runs, max(1, len(runs)), set(before)).span()
        round_ = _Round(runs, workers, finished)
        spans += round_.span()
        work += round_.work
    return Schedule(workers, spans, work, critical)


@dataclass
class _Round:
    """Runs that begin together.

    Attributes:
        finished: keys of stages that are there; those of this round are added.
    """

    runs: Sequence[Run]
    workers: int
    finished: set[Hashable]
    work: float = 0.0
    _running: dict[int, tuple[int, int]] = field(default_factory=dict)  # run -> its session and stage, from 0
    _computing: set[Hashable] = field(default_factory=set)
    _held_up: dict[Hashable, list[int]] = field(default_factory=dict)  # stage -> runs that wait for it
    _events: list[tuple[float, int, int]] = field(default_factory=list)  # time, order, run whose computation ends then
    _order: Iterator[int] = field(default_factory=itertools.count)

    def span(self) -> float:
        """Return the seconds that the round takes."""
        waiting, now = list(range(len(self.runs))), 0.0
        while waiting or self._events:
            while waiting and len(self._running) < self.workers:
                running = [(run, session + 1) for run, (session, _) in self._running.items()]
                run = waiting.pop(first_free(waiting, running, self._key))
                self._running[run] = (0, 0)
                self._go_on(run, now)
            now, _, run = heapq.heappop(self._events)
            self._ended(run, now)
        return now

    def _key(self, run: int, session: int) -> Hashable:
        steps = self.runs[run]
        stages = steps[session - 1].stages if session <= len(steps) else ()
        return stages[0][0] if stages else (run, session)

    def _go_on(self, run: int, now: float) -> None:
        """Compute the next stage of a run, wait for it, or pass it by where it is there; then the rest."""
        session, stage = self._running[run]
        step = self.runs[run][session]
        while stage < len(step.stages):
            key, seconds = step.stages[stage]
            self._running[run] = (session, stage)
            if key in self._computing:
                self._held_up.setdefault(key, []).append(run)
                return
            if key not in self.finished:
                self._computing.add(key)
                self._compute(run, now, seconds)
                return
            stage += 1
        self._running[run] = (session, stage)
        self._compute(run, now, step.own)

    def _ended(self, run: int, now: float) -> None:
        session, stage = self._running[run]
        step = self.runs[run][session]
        if stage < len(step.stages):
            key, _ = step.stages[stage]
            self._computing.discard(key)
            self.finished.add(key)
            for other in [run, *self._held_up.pop(key, [])]:
                self._go_on(other, now)
        elif session + 1 < len(self.runs[run]):
            self._running[run] = (session + 1, 0)
            self._go_on(run, now)
        else:
            del self._running[run]

    def _compute(self, run: int, now: float, seconds: float) -> None:
        self.work += seconds
        heapq.heappush(self._events, (now + seconds, next(self._order), run))
