"""How far a session is, told while it is worked on: a look at the clock for every batch, and no more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from safe.types import Doing, Working

EVERY_S = 1.0


class Watch:
    """Tells about once a second how far the present session is.

    A loss lies on the device that trains: only when it is told is it asked for, since a GPU would wait for every look.

    Attributes:
        tell: whom to tell; None is nobody.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.tell: Callable[[Working], None] | None = None
        self._clock = clock
        self._now = Working(1, 1, "closing", 0, 0, 0, 0)
        self._begun = self._told = clock()
        self._read = 0  # images, before an epoch's first step

    def epoch(self, session: int, sessions: int, epoch: int, epochs: int, images: int) -> None:
        """An epoch of gradient steps begins, the `epoch`-th (from 1) of the session, over so many images."""
        self._begin(Working(session, sessions, "training", epoch, epochs, 0, images))

    def closing(self, session: int, sessions: int, epochs: int) -> None:
        """The session's gradient steps are done; features, heads and judgement follow."""
        self._begin(Working(session, sessions, "closing", epochs, epochs, 0, 0))

    def step(self, images: int, loss: Callable[[], float]) -> None:
        """A gradient step over so many images is done; `loss` gives that of the last ones."""
        self._now = replace(self._now, done=self._now.done + images)
        if self._due():
            speed = self._now.done / max(self._clock() - self._begun, 1e-9)
            self._now = replace(self._now, loss=loss(), images_per_second=speed)
            self._tell()

    def read(self, images: int) -> None:
        """Features of so many images were read: at the end of a session, or before an epoch's first step."""
        if self._now.doing == "closing":
            self._now = replace(self._now, done=self._now.done + images)
        else:
            self._read, self._begun = self._read + images, self._clock()
        if self._due():
            self._tell("reading" if self._read else None)

    def solve(self) -> None:
        """A closed form is solved: one piece of algebra, which takes long where its matrix is large."""
        if self.tell is not None:
            self._tell("solving")

    def wait(self) -> None:
        """Another run is computing what this one needs."""
        if self._due():
            self._tell("waiting")

    def _begin(self, now: Working) -> None:
        self._now, self._begun, self._read = now, self._clock(), 0
        if self.tell is not None:
            self._tell()

    def _due(self) -> bool:
        return self.tell is not None and self._clock() - self._told >= EVERY_S

    def _tell(self, doing: Doing | None = None) -> None:
        self._told, now = self._clock(), self._now
        if doing == "solving":
            now = replace(now, doing=doing)
        elif doing is not None:
            now = replace(now, doing=doing, done=self._read, total=0)
        if self.tell is not None:
            self.tell(now)
