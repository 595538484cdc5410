"""How much a search may train: sessions and hours, over all calls together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sweeps.ledger.ledger import SweepLog


@dataclass(eq=False)
class Budget:
    """What is left of `max_sessions` and `max_hours`; None is no limit.

    Sessions count when they were really trained, hours while a run of the search is under way. What the log tells of
    earlier calls counts too.

    Attributes:
        left: False once a job of the search was held back or stopped for the budget.
    """

    log: SweepLog
    max_sessions: int | None = None
    max_hours: float | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.left = True
        self._since: float | None = None
        self._seconds = self.log.search_seconds

    @property
    def sessions(self) -> int:
        """Return the sessions that the search trained."""
        return self.log.sessions_trained

    @property
    def seconds(self) -> float:
        """Return the wall time that the search took, over all calls."""
        return self._seconds + (self.clock() - self._since if self._since is not None else 0.0)

    def searching(self, under_way: bool) -> None:
        """Start or stop the clock."""
        if under_way and self._since is None:
            self._since = self.clock()
        elif not under_way and self._since is not None:
            self._seconds, self._since = self.seconds, None

    def out_of_time(self) -> bool:
        """Return whether `max_hours` are over, which also ends runs that are under way."""
        return self.max_hours is not None and self.seconds >= 3600 * self.max_hours

    def spent(self) -> bool:
        """Return whether no further job of the search may begin."""
        return self.out_of_time() or (self.max_sessions is not None and self.sessions >= self.max_sessions)
