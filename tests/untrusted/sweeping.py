"""Sweeps from the command line with made-up results in the place of Ray and training: everything else is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safe.config import load_config
from safe.types import SessionResult, Split
from sweeps.cli import main
from sweeps.engine import joining
from sweeps.engine import study as module
from sweeps.engine.bookkeeper import Bookkeeper
from sweeps.engine.job_queue import JobQueue
from sweeps.ledger.jobs import INTERRUPTED, Job
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.spec.specs import SweepSpec

SPACE = """
fast.cross_weight: {choice: [0.0, 1.0]}
aggregation.temperature: {grid: [0.1, 1]}
"""


def small_spec(**changes: Any) -> SweepSpec:
    """Return the specification of a sweep of two trials."""
    fields = {
        "name": "demo", "dataset": "digits", "trials": 2, "seeds": 1, "search": "random", "threads": 1,
        "space": {"fast.cross_weight": {"choice": [0.0, 1.0]}, "aggregation.temperature": {"grid": [0.1, 1]}},
        "base": load_config("digits").flat(), "concurrency": 1, "holdout_share": 0.2,
    }  # fmt: skip
    return SweepSpec(**{**fields, **changes})


def small_log(name: str) -> SweepLog:
    """Return a finished sweep whose data set, experiment, settings, reasons and facts are all called `name`."""
    spec = small_spec(dataset=f"/data/{name}", base={**load_config("digits").flat(), "dataset": f"/data/{name}"})
    log = SweepLog(spec)
    log.apply({"type": "environment", "tags": {name: name}})
    log.apply({"type": "tracking", "tracking_uri": name, "experiment": name, "parent_run_id": name})
    for number, (id, kind) in enumerate([("trial-00", "trial"), ("trial-01", "trial"), ("final-01-0", "final")]):
        config = {**spec.base, "fast.cross_weight": float(number > 0), "backbone.name": name}
        predictions = [] if kind == "final" else spec.parsed_space().predictions
        log.apply(
            {"type": "job", "job": id, "kind": kind, "title": name, "config": config, "predictions": [*predictions]}
        )
        for record in fake_sessions(0.5 + 0.1 * number, "test" if kind == "final" else "val", len(predictions)):
            fed = dict.fromkeys(record.provenance, name) | {name: name}
            log.apply({"type": "session", "job": id, **replace(record, provenance=fed).to_json()})
        log.apply({"type": "status", "job": id, "status": "FINISHED", "reason": name})
    prediction = spec.parsed_space().predictions[0]
    log.apply({"type": "selected", "trial": "trial-01", "prediction": prediction, "score": 0.6})
    log.apply({"type": "finished"})
    return log


EPOCHS = 150  # of a session: its record takes some kB, more than the last block of a file has left


METRICS = ("accuracy", "average_accuracy")


def fake_sessions(accuracy: float, split: Split = "val", predictions: int = 1, epochs: int = 1) -> list[SessionRecord]:
    """Return the records of a run of two sessions."""
    metrics = {f"{prefix}{name}": accuracy for prefix in ("", "slow/", "fast/") for name in METRICS}
    made = []
    for session in (1, 2):
        losses = tuple((epochs * session + epoch, {"train/slow/ce": 1 / (epoch + 1)}) for epoch in range(epochs))
        result = SessionResult(session, 2, split, session, metrics, losses, row=(accuracy,) * session)
        grid = [[accuracy] * session] * predictions
        made.append(
            SessionRecord.of(
                result, {"data_digest": "d", "weights_digest": "w", "class_order": "0,1"}, [10] * session, grid
            )
        )
    return made


def accuracy_of(job: Job) -> float:
    """Return what a run's accuracy is made up from: its settings."""
    return 0.5 + 0.1 * float(job.config["fast.cross_weight"])


def no_engine(monkeypatch: pytest.MonkeyPatch, before_session: Callable[[Job], None] = lambda job: None) -> list[str]:
    """Put made-up results in the place of Ray; return a list that fills with the sessions `job/number` as they run."""
    done: list[str] = []

    @contextmanager
    def no_ray(cpus: int, meanwhile: Callable[[], object]) -> Iterator[None]:
        yield

    def run_work(rounds: JobQueue, books: Bookkeeper, **_: Any) -> None:
        try:
            while (job := rounds.next()) is not None:
                books.started(job)
                split = "test" if job.config["data.evaluate_on"] == "test" else "val"
                known = len(books.ledger.log.jobs[job.id].sessions)
                for record in fake_sessions(accuracy_of(job), split, len(job.predictions), EPOCHS)[known:]:
                    before_session(job)
                    books.session(job.id, record)
                    done.append(f"{job.id}/{record.session}")
                books.ended(job.id, "FINISHED")
                rounds.ended(job.id)
        finally:
            books.close_open("KILLED", INTERRUPTED)

    monkeypatch.setattr(joining, "local_ray", no_ray)
    monkeypatch.setattr(module, "run_work", run_work)
    return done


def run(results: Path, *more: str, name: str = "demo") -> int:
    """Run `python -m sweeps run` on digits; return its exit code."""
    space = results.parent / "space.yaml"
    space.write_text(SPACE)
    words = [
        "run",
        "--dataset",
        "digits",
        "--name",
        name,
        "--results",
        str(results),
        "--space",
        str(space),
        "--search",
        "grid",
    ]
    return main([*words, "--seeds", "1", "--concurrency", "1", "--no-control", "--no-audit", "--finalists", "0", *more])
