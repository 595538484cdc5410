"""What one training run of a sweep gave so far, as the ledger tells it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweeps.ledger.jobs import ADDED, BUDGET, ENDED_WELL, Kind
from sweeps.ledger.record import SessionRecord
from tracking.recorder import Status


@dataclass
class JobLog:
    """What one training run gave so far.

    Attributes:
        predictions: settings of prediction, by dotted name, that every session is scored at; empty where settled.
        trial, repeat, variant: which one of its kind it is; see `sweeps.ledger.jobs.Job`.
        sessions: one record per finished session, in order.
        checkpoints: folder of the resume checkpoint after a session, by session; empty once it is over.
        recorded: whether the recorder has the run to its end.
        completed: how many sessions the search had when it was complete for the first time; None before.
        scored: what `sweeps.results.selection` reckoned from the sessions; a copy does not take it over.
    """

    id: str
    kind: Kind
    title: str
    config: Mapping[str, Any]
    predictions: list[dict[str, Any]]
    trial: int | None = None
    repeat: int | None = None
    variant: str | None = None
    status: Status = Status.RUNNING
    reason: str | None = None
    sessions: Sequence[SessionRecord] = field(default_factory=list)
    checkpoints: dict[int, str] = field(default_factory=dict)
    recorded: bool = False
    completed: int | None = None
    scored: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    @property
    def order(self) -> tuple[bool, int, int]:
        """Return by what the jobs of a kind are sorted: trial and repeat, those of trials that were added last."""
        return self.variant == ADDED, self.trial or 0, self.repeat or 0

    @property
    def complete(self) -> bool:
        """Whether every session of the stream has a result."""
        return bool(self.sessions) and len(self.sessions) == self.sessions[-1].sessions

    @property
    def over(self) -> bool:
        """Whether no later call goes on with it: it did not fail, and was not stopped for a budget that may grow."""
        return self.status in ENDED_WELL and self.reason != BUDGET

    def resumable(self, distrusted: Container[str] = ()) -> list[str]:
        """Return the resume checkpoints that are still there and not distrusted, newest first."""
        paths = [path for _, path in sorted(self.checkpoints.items(), reverse=True)]
        return [path for path in paths if path not in distrusted and Path(path).exists()]
