"""Finding runs that hang: every run touches a file when it gets on, and the driver watches for it to change."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

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
        """Heartbeat a run from now on."""
        self._seen[job_id] = (heartbeat, _changed(heartbeat), self._clock())

    def sign(self, job_id: str) -> None:
        """Take another sign of life: a result has arrived."""
        if job_id in self._seen:
            self._seen[job_id] = (*self._seen[job_id][:2], self._clock())

    def ended(self, job_id: str) -> None:
        """Heartbeat a run no longer."""
        self._seen.pop(job_id, None)

    def silent(self) -> list[str]:
        """Return the runs that gave no sign for longer than the timeout; looks at the files once a second at most."""
        now = self._clock()
        if self.timeout is None or now - self._polled < POLL_SECONDS:
            return []
        self._polled = now
        for job_id, (heartbeat, changed, _) in self._seen.items():
            if (newest := _changed(heartbeat)) != changed:
                self._seen[job_id] = (heartbeat, newest, now)
        return [job_id for job_id, (*_, heard) in self._seen.items() if now - heard > self.timeout]


def _changed(heartbeat: Path) -> int:
    try:
        return heartbeat.stat().st_mtime_ns
    except OSError:  # not touched yet
        return 0
