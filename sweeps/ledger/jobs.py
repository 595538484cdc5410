"""Jobs: one training run each, what it is called, and the words for what it is for and why it ended early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tracking.recorder import Status


class Kind(StrEnum):
    """What a run is for."""

    TRIAL = "trial"  # a configuration of the search
    SLOW = "slow"  # a slow setting of the search, judged alone by the slow learner
    BASELINE = "baseline"  # the preset, RanPAC or the frozen head beside the trials, on the same images
    RACE = "race"  # a finalist with another seed, class order and holdout
    FINAL = "final"  # the chosen configuration on all training images
    CONTROL = "control"  # the preset's own settings, refit beside the chosen ones
    AUDIT = "audit"  # a trial judged on the test images once the choice is final; it steers nothing
    VARIANT = "variant"  # one variant of an ablation

    @classmethod
    def _missing_(cls, value: object) -> Kind | None:
        return cls.VARIANT if value == "arm" else None  # as it was called in older ledgers


SEARCH_KINDS = (Kind.TRIAL, Kind.SLOW)
UNPLANNED = (Kind.BASELINE, Kind.RACE)  # how many there will be is not known beforehand
PLACE = ("trial", "repeat", "variant")  # fields that say which one of its kind a job is

ENDED_WELL = (Status.FINISHED, Status.STOPPED)

# Reasons of a job that did not fail and yet has not seen its whole stream.
BUDGET = "budget"
OUTRANKED = "outranked by other trials at the same session"
INTERRUPTED = "interrupted"
DROPPED = "dropped by hand"

ADDED = "added"  # variant of a trial that a user added


@dataclass(frozen=True)
class Job:
    """One training run: what it is called, its flat configuration, what is scored, and where its files go.

    Attributes:
        predictions: settings to score after every session; empty for a run whose prediction is settled.
        states: folder of the run's files.
        trial: number of the trial (or slow setting) that it is, or of the trial that it refits or judges again.
        repeat: which one of several seeds, from 0.
        variant: name of the variant of an ablation, or of the baseline; ADDED for a trial of the user's own.
        resume_from: checkpoint folders to continue from, newest first: the first that can be read is taken.
        stages: folder of the stage store; None shares nothing.
        stage_limit: its size limit in bytes; None is the store's default.
        checkpoints: which inference states are kept; see `sweeps.worker.artifacts`.
        system_metrics: whether every session records how busy the machine was.
        objective: metric by which a trial's settings of prediction are chosen.
        heartbeat: file into which the run writes how far it is, about once a second.
        stop: file whose existence asks the run to pause after the present epoch.
        gpus: share of GPUs that the run needs.
        until: session after which the run is complete; None is the last of the stream.
        data: digest of the data that the sweep stands for; the run refuses others. None takes what there is.
        imports: modules of a user's own that the run needs.
    """

    id: str
    kind: Kind
    title: str
    config: Mapping[str, Any]
    predictions: list[dict[str, Any]]
    states: str
    trial: int | None = None
    repeat: int | None = None
    variant: str | None = None
    resume_from: Sequence[str] = ()
    stages: str | None = None
    stage_limit: int | None = None
    checkpoints: str = "all"
    system_metrics: bool = False
    objective: str = "average_accuracy"
    heartbeat: str | None = None
    stop: str | None = None
    gpus: float = 0.0
    until: int | None = None
    data: str | None = None
    imports: Sequence[str] = ()

    def record(self) -> dict[str, Any]:
        """Return the fields of its record in a ledger: trial, repeat and variant only where they are set."""
        place = {name: value for name in PLACE if (value := getattr(self, name)) is not None}
        told = {"title": self.title, "config": dict(self.config), "predictions": self.predictions}
        return {"job": self.id, "kind": self.kind, **place, **told}


def job_id(kind: Kind, trial: int | None = None, repeat: int | None = None, variant: str | None = None) -> str:
    """Return how a job is called: `trial-07`, `final-07-0`, `control-0`, `race-ranpac-1`, `trial-added-00`."""
    parts = [
        None if kind == Kind.VARIANT else kind,
        variant,
        None if trial is None else f"{trial:02d}",
        None if repeat is None else f"{repeat}",
    ]
    return "-".join(part for part in parts if part is not None)


def place_of(id: str, kind: Kind) -> dict[str, Any]:
    """Return what `job_id` made an id from, for ledgers whose records of jobs do not say it."""
    if kind == Kind.VARIANT:
        variant, _, repeat = id.rpartition("-")
        return {"variant": variant, "repeat": int(repeat)}
    names = ("repeat",) if kind == Kind.CONTROL else ("trial", "repeat")
    return dict(zip(names, (int(part) for part in id.split("-") if part.isdigit()), strict=False))
