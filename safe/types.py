"""What comes out of a trainer: events while it works, one `SessionResult` per session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["val", "test"]
Phase = Literal["slow", "fast"]
LEARNERS = ("slow", "fast")


@dataclass(frozen=True)
class EpochDone:
    """One epoch of gradient steps is over.

    `losses` maps `train/<phase>/<term>` to the term's mean over the epoch's images; `total_epochs` counts the
    run's epochs so far, the step under which the terms are logged.
    """

    session: int
    sessions: int
    phase: Phase
    epoch: int
    epochs: int
    total_epochs: int
    losses: Mapping[str, float]


@dataclass(frozen=True)
class SessionResult:
    """Everything a session gave.

    Attributes:
        session: index of the session, from 1.
        sessions: how many sessions the stream has.
        split: `val` when judged on held-out training images, else `test`.
        metrics: names without prefix: `accuracy`, `slow/accuracy`, ...; fractions in [0, 1] save for
            `backward_transfer` and `forgetting`, which lie in [-1, 1]. Undefined ones are absent.
        losses: per epoch of this session, (epochs done so far in the run, terms).
        ridge: lambda chosen for each learner's head.
        seconds: wall time by phase: `train`, `features`, `head`, `evaluate`.
    """

    session: int
    sessions: int
    split: Split
    classes_seen: int
    metrics: Mapping[str, float]
    losses: tuple[tuple[int, Mapping[str, float]], ...] = ()
    ridge: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    def as_metrics(self) -> dict[str, float]:
        """Return the flat metrics to log at step = session: `<split>/...`, `ridge/...` and `time/...`."""
        flat = {f"{self.split}/{name}": value for name, value in self.metrics.items()}
        flat |= {f"ridge/{learner}": value for learner, value in self.ridge.items()}
        flat |= {f"time/{phase}_seconds": value for phase, value in self.seconds.items()}
        return flat


Event = EpochDone | SessionResult
