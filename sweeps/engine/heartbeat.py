"""Signs of life: every run writes into a file how far it is, and the driver looks at it and finds runs that hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from safe.types import Working
from sweeps.worker.signs import last_told

POLL_SECONDS = 1.0


class Heartbeat:
    """Tells which runs have given no sign for too long.

    Only changes of the files count, measured by this process's own clock: it does not matter what time it is
    elsewhere, or whether a clock jumps.

    Args:
        timeout: seconds without a sign; None waits for ever.
    """

    def __init__(self, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout = timeout
        self._clock = clock
        self._seen: dict[str, tuple[Path, int, float]] = {}
        self._polled = clock()

    def started(self, job_id: str, heartbeat: Path) -> None:
        """Watch a run from now on."""
        self._seen[job_id] = (heartbeat, _changed(heartbeat), self._clock())

    def sign(self, job_id: str) -> None:
        """Take another sign of life: a result has arrived."""
        if job_id in self._seen:
            self._seen[job_id] = (*self._seen[job_id][:2], self._clock())

    def ended(self, job_id: str) -> None:
        """Watch a run no longer."""
        self._seen.pop(job_id, None)

    def look(self) -> dict[str, Working]:
        """Return what runs have told since the last look; looks at the files once a second at most."""
        now = self._clock()
        if now - self._polled < POLL_SECONDS:
            return {}
        self._polled, told = now, {}
        for job_id, (heartbeat, changed, _) in self._seen.items():
            if (newest := _changed(heartbeat)) != changed:
                self._seen[job_id] = (heartbeat, newest, now)
                if (working := last_told(heartbeat)) is not None:
                    told[job_id] = working
        return told

    def silent(self) -> list[str]:
        """Return the runs that gave no sign for longer than the timeout."""
        now = self._clock()
        return [job_id for job_id, (*_, heard) in self._seen.items() if self.timeout and now - heard > self.timeout]


def _changed(heartbeat: Path) -> int:
    try:
        return heartbeat.stat().st_mtime_ns
    except OSError:  # not touched yet
        return 0
