"""What comes out of a trainer: events while it works, one `SessionResult` per session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Split = Literal["val", "test"]
Phase = Literal["slow", "fast"]
Training = Literal["trained", "reused", "none"]
Doing = Literal["training", "closing", "solving", "reading", "waiting"]


def with_split(split: str, name: str) -> str:
    """Return the full name of a metric of the evaluation: `val/accuracy`."""
    return f"{split}/{name}"


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
class Working:
    """How far a session is, as it is told while it is worked on.

    Attributes:
        session, sessions: which one of how many, from 1.
        doing: gradient steps (`training`), what ends the session (`closing`, and in it `solving` a closed form),
            `reading` features before the first step, or `waiting` for another run.
        epoch, epochs: of gradient steps, from 1; the last one while it is closing or solving.
        done, total: images of the epoch so far and in all; otherwise images read so far, and 0.
        loss: weighted sum of the loss terms, mean over the last steps; None before the first second is over.
        images_per_second: of the epoch so far.
    """

    session: int
    sessions: int
    doing: Doing
    epoch: int
    epochs: int
    done: int
    total: int
    loss: float | None = None
    images_per_second: float | None = None

    @property
    def share(self) -> float:
        """The part of the session's gradient steps that is done, in [0, 1]; 1 without any."""
        if self.doing in ("closing", "solving") or not self.epochs:
            return 1.0
        return (self.epoch - 1 + (self.done / self.total if self.total else 0.0)) / self.epochs

    def in_words(self) -> str:
        """Return `epoch 3 of 20, loss 2.31, 56 images/s`, or what else is done."""
        if self.doing == "waiting":
            return "waits for another run"
        if self.doing == "solving":
            return f"solving a head, {self.done:,} images read"
        if self.doing != "training":
            read = "" if self.doing == "reading" else " read"
            return f"{self.doing}, {self.done:,} images{read}" if self.done else self.doing
        words = f"epoch {self.epoch} of {self.epochs}"
        words += "" if self.loss is None else f", loss {self.loss:.3g}"
        if (speed := self.images_per_second) is not None:
            words += f", {speed:,.0f} images/s" if speed >= 100 else f", {speed:.3g} images/s"
        return words


@dataclass(frozen=True, slots=True)
class Work:
    """What a session cost, and what finished stages of other runs spared it.

    Attributes:
        training: whether the session's gradient steps were taken here (`trained`), came from a stage store (`reused`),
            or are not asked for (`none`: no epochs). Waiting for another run that trains the same is `reused`.
        seconds: wall time of the session's own computing, without waiting.
        saved_seconds: what the reused stages had cost where they were computed.
        waited_seconds: spent waiting for stages that other runs were computing.
        stages: by kind of stage (`safe.sharing.stages`): how many were `computed` and `reused`, and the `seconds` and
            `saved_seconds` of these. A stage's seconds are without those of the stages it is made of, save that
            gradient steps count the features that new rows are imprinted from.
    """

    training: Training
    seconds: float
    saved_seconds: float = 0.0
    waited_seconds: float = 0.0
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionResult:
    """Everything a session gave.

    Attributes:
        session: index of the session, from 1.
        sessions: how many sessions the stream has.
        split: `val` when judged on held-out training images, else `test`.
        metrics: names without prefix: `accuracy`, `slow/accuracy`, ...; fractions in [0, 1] save for
            `backward_transfer` and the forgettings, which lie in [-1, 1]. Undefined ones are absent.
        losses: per epoch of this session, (epochs done so far in the run, terms).
        ridge: lambda chosen for each learner's head.
        row: accuracy of each session group so far, of the aggregate.
        within: the same where only the classes of the group's own session compete.
        confusion: how many images of each session group (row) are taken for a class of each session (column) by the
            aggregate; empty where sessions are domains of the same classes.
        seconds: wall time by phase: `train`, `features`, `head`, `evaluate`.
        resources: metrics of speed and memory under their full names (`time/images_per_second`, `memory/peak_mib`).
        work: what was computed for it and what was reused.

    Results are equal when their numbers are, whatever they cost.
    """

    session: int
    sessions: int
    split: Split
    classes_seen: int
    metrics: Mapping[str, float]
    losses: tuple[tuple[int, Mapping[str, float]], ...] = ()
    ridge: Mapping[str, float] = field(default_factory=dict)
    row: tuple[float, ...] = ()
    within: tuple[float, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    resources: Mapping[str, float] = field(default_factory=dict, compare=False)
    work: Work = field(default=Work("none", 0.0), compare=False)

    def as_metrics(self) -> dict[str, float]:
        """Return the flat metrics to log at step = session: `<split>/...`, `ridge/...`, `time/...`, `memory/...`."""
        flat = {with_split(self.split, name): value for name, value in self.metrics.items()}
        flat |= {f"ridge/{learner}": value for learner, value in self.ridge.items()}
        flat |= {f"time/{phase}_seconds": value for phase, value in self.seconds.items()}
        return flat | dict(self.resources)


Event = EpochDone | SessionResult
