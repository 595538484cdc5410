"""Which waiting job begins next: one that no running job would keep waiting for a stage, if there is one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from safe.config import Config, validate
from sweeps.ledger.jobs import Job

MOST_CONFIGS = 256  # kept of the newest jobs; a key is much smaller, and asked for again and again

T = TypeVar("T")


class JobKeys:
    """Gives what tells the gradient steps of a job's session apart; see `safe.sharing.stages.sharing_key`."""

    def __init__(self) -> None:
        self._configs: dict[str, Config] = {}
        self._keys: dict[tuple[str, int], str] = {}

    def __call__(self, job: Job, session: int) -> str:
        """Return the key of a session, from 1."""
        from safe.sharing.stages import sharing_key  # brings torch

        if (job.id, session) not in self._keys:
            if job.id not in self._configs:
                self._configs[job.id] = validate(job.config)
                if len(self._configs) > MOST_CONFIGS:
                    del self._configs[next(iter(self._configs))]
            self._keys[job.id, session] = sharing_key(self._configs[job.id], session)
        return self._keys[job.id, session]


def first_free(waiting: Sequence[T], running: Iterable[tuple[T, int]], key: Callable[[T, int], Hashable]) -> int:
    """Return the place of the first job that would not wait for what a running one computes now; 0 if all would.

    A job needs the same stage as a running one where both have the same key in the session that the running one is in:
    a key stands for everything up to its session, so what came before is finished.

    Args:
        waiting: at least one job, in the order in which they begin otherwise.
        running: jobs and the sessions, from 1, that they are in.
        key: what tells the gradient steps of a job's session apart.
    """
    computed = {(session, key(job, session)) for job, session in running}
    sessions = {session for session, _ in computed}
    for place, job in enumerate(waiting):
        if not any((session, key(job, session)) in computed for session in sessions):
            return place
    return 0
