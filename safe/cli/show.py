"""How a training run is shown while it goes on: to programs, or to people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from safe.io.progress import SILENCE_S, Ticking, duration
from safe.types import EpochDone, Event, SessionResult, Working

if TYPE_CHECKING:
    from safe.training.trainer import SafeTrainer


READ = 1 / 3  # what an image costs whose features are read, beside one that a gradient step sees


class Pace:
    """How far a run is, in images that its gradient steps see, and how long the rest will take.

    Args:
        clock: gives seconds.
    """

    def __init__(self, trainer: SafeTrainer, clock: Callable[[], float] = time.monotonic) -> None:
        slow, fast = trainer.config.slow.epochs, trainer.config.fast.epochs
        self._steps, self._reads, judged = list[float](), list[float](), 0
        for session in trainer.stream.sessions:
            judged += len(session.evaluation)
            both = session.index > 1 and fast > 0
            self._steps.append(len(session.train) * (slow if session.index == 1 else fast))
            # The slow learner reads what is new, the fast one its images and all that judge it.
            new = len(session.train) + len(session.evaluation)
            self._reads.append(READ * (new + (len(session.train) + judged if both else 0)))
        self.total = sum(self._steps) + sum(self._reads)
        self._clock, self._begun = clock, clock()
        self._before: float | None = None
        self.done = 0.0

    def take(self, working: Working) -> None:
        """Take over how far the run is; what was done before the first time says nothing about its pace."""
        place = working.session - 1
        done = self._over(place) + working.share * self._steps[place]
        if working.doing in ("closing", "solving"):
            done += min(READ * working.done, self._reads[place])
        self.done = max(self.done, done)
        if self._before is None:
            self._before, self._begun = self.done, self._clock()

    def finished(self, session: int) -> None:
        """A session (from 1) is over."""
        self.done = self._over(session)

    def _over(self, sessions: int) -> float:
        return sum(self._steps[:sessions]) + sum(self._reads[:sessions])

    @property
    def left(self) -> float | None:
        """Seconds that the rest will take at the pace so far; None while nothing is done."""
        fresh = self.done - (self.done if self._before is None else self._before)
        return (self._clock() - self._begun) / fresh * (self.total - self.done) if fresh > 0 else None


class Voice:
    """Says how far a run is where nothing else was said for ten seconds.

    Args:
        say: takes a line.
    """

    def __init__(
        self, trainer: SafeTrainer, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pace = Pace(trainer, clock)
        self._say, self._clock, self._said = say, clock, clock()
        self._working: Working | None = None

    def take(self, working: Working) -> None:
        """Take over how far the run is."""
        self._working = working
        self.pace.take(working)

    def spoken(self) -> None:
        """Something else was said."""
        self._said = self._clock()

    def look(self) -> None:
        """Say how far the run is if it is time."""
        working, now = self._working, self._clock()
        if working is None or now - self._said < SILENCE_S:
            return
        self._said = now
        self._say(self.in_words(working))

    def in_words(self, working: Working) -> str:
        """Return how far the run is."""
        rest = "" if (left := self.pace.left) is None else f", {duration(left)} left"
        return f"session {working.session} of {working.sessions}: {working.in_words()}{rest}"


class JsonLines:
    """One JSON object a session on standard output, for programs; how far it is meanwhile on standard error."""

    def __init__(self, trainer: SafeTrainer) -> None:
        self._voice = Voice(trainer, lambda line: print(line, file=sys.stderr, flush=True))
        trainer.watch.tell = self._voice.take
        self._ticking = Ticking(self._voice.look)

    def __call__(self, event: Event) -> None:
        if isinstance(event, SessionResult):
            line = {"session": event.session, "sessions": event.sessions, **event.as_metrics()}
            print(json.dumps(line), flush=True)
            self._voice.pace.finished(event.session)

    def close(self) -> None:
        """Say nothing more."""
        self._ticking.close()


class Table:
    """One line a session for people: on a terminal with a bar, elsewhere with a line every ten seconds between them."""

    def __init__(self, trainer: SafeTrainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        config = trainer.config
        self._console = Console(markup=False, emoji=False)  # a data set may be called anything
        self._progress = Progress(
            BarColumn(bar_width=10),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._voice = Voice(trainer, self._print)
        self._task = self._progress.add_task("starting", total=self._voice.pace.total)
        self._console.print(
            f"{config.dataset}: {trainer.sessions} sessions, seed {config.seed}, {config.pet.kind} on "
            f"{config.backbone.name}, {trainer.device}",
            soft_wrap=True,
        )
        self._console.print(trainer.inputs.network, highlight=False, soft_wrap=True)
        self._console.print("session  classes  accuracy  average  forgetting    slow    fast  (%)  seconds")
        trainer.watch.tell = self._take
        self._progress.start()
        self._ticking = None if self._console.is_terminal else Ticking(self._voice.look)

    def __call__(self, event: Event) -> None:
        if not isinstance(event, EpochDone):
            self._voice.pace.finished(event.session)
            self._row(event)
            self._voice.spoken()

    def _take(self, working: Working) -> None:
        self._voice.take(working)
        self._progress.update(self._task, completed=self._voice.pace.done, description=self._voice.in_words(working))

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _row(self, result: SessionResult) -> None:
        m = result.metrics
        forgetting = f"{100 * m['forgetting']:10.2f}" if "forgetting" in m else f"{'-':>10}"
        self._console.print(
            f"{result.session:4d}/{result.sessions:<2d}  {result.classes_seen:7d}  {100 * m['accuracy']:8.2f}  "
            f"{100 * m['average_accuracy']:7.2f}  {forgetting}  {100 * m['slow/accuracy']:6.2f}  "
            f"{100 * m['fast/accuracy']:6.2f}       {sum(result.seconds.values()):7.1f}",
            highlight=False,
        )

    def close(self) -> None:
        """Take the bar away."""
        if self._ticking is not None:
            self._ticking.close()
        self._progress.stop()
