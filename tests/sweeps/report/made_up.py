"""Sweeps made up in memory: every number follows from the settings, so that a test can say what a report must show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from safe.config import load_config
from safe.types import SessionResult, Split, Work
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.spec.specs import SweepSpec

TEMPERATURES = [0.1, 1.0, 10.0]
SPACE = {
    "slow.diag_weight": {"zero_or_loguniform": [1e-3, 10]},
    "fast.cross_weight": {"zero_or_loguniform": [1e-2, 10]},
    "pet.kind": {"choice": ["adapter", "ssf"]},
    "aggregation.temperature": {"grid": TEMPERATURES},
}
PREDICTIONS = [
    {"aggregation.kind": "entropy", "aggregation.temperature": tau, "head.logit_scale": "learned"}
    for tau in TEMPERATURES
]
COUNT = 50  # images of each session's classes


def level(index: int) -> float:
    """Return the accuracy of a trial in session 1, from 0.7 to 0.9, the best one not the first."""
    return 0.8 + 0.1 * math.sin(1.7 * index)


def row(top: float, session: int) -> list[float]:
    """Return accuracies that fall by a point a session since they were learned."""
    return [top - 0.01 * (session - group) for group in range(1, session + 1)]


def within(top: float, session: int) -> list[float]:
    """Return accuracies among the classes of a group's own session: half of what is lost is confusion with others."""
    return [top - 0.005 * (session - group) for group in range(1, session + 1)]


def confusion(session: int) -> tuple[tuple[int, ...], ...]:
    """Return images by predicted session: all but one of every old group are taken for their own session's."""
    last = session - 1
    return tuple(
        tuple(COUNT - (g < last) if g == p else int(g < last and p == last) for p in range(session))
        for g in range(session)
    )


def record(
    session: int,
    sessions: int,
    split: Split,
    top: float,
    grid: Sequence[Sequence[float]] = (),
    work: Work = Work("trained", seconds=2.0),  # noqa: B008 (frozen)
) -> SessionRecord:
    """Return the record of a session in which every group had accuracy `top` when it was new."""
    metrics: dict[str, float] = {}
    for prefix, loss in (("", 0.0), ("slow/", 0.02), ("fast/", 0.03)):
        accuracies = [sum(row(top, s)) / s - loss for s in range(1, session + 1)]
        metrics[f"{prefix}accuracy"] = accuracies[-1]
        metrics[f"{prefix}average_accuracy"] = sum(accuracies) / session
        if session > 1:
            forgotten = sum(0.01 * (session - g) for g in range(1, session)) / (session - 1)
            metrics[f"{prefix}forgetting"] = metrics[f"{prefix}forgetting_nonneg"] = forgotten
            metrics[f"{prefix}forgetting_within"] = metrics[f"{prefix}forgetting_confusion"] = forgotten / 2
        metrics[f"{prefix}accuracy_within_session"] = sum(within(top, session)) / session - loss
    result = SessionResult(
        session,
        sessions,
        split,
        session,
        metrics,
        row=tuple(row(top, session)),
        within=tuple(within(top, session)),
        confusion=confusion(session),
        work=work,
    )
    provenance = {"data_digest": "d" * 16, "weights_digest": "w" * 16, "class_order": "0,1"}
    return SessionRecord.of(result, provenance, [COUNT] * session, grid)


def make_log(
    trials: int = 12,
    sessions: int = 4,
    seeds: int = 3,
    *,
    control: bool = True,
    audit: bool = False,
    slow: int = 0,
    level: Callable[[int], float] = level,
    records: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> SweepLog:
    """Return a finished sweep. At temperature 1 a trial is as good as its level, at the others 2 points worse.

    `records` takes what its ledger would hold after the first line.
    """
    fields: dict[str, Any] = {
        "name": "made-up", "dataset": "digits", "trials": trials, "seeds": seeds, "holdout_share": 0.2, "space": SPACE,
        "base": load_config("digits").flat(), "threads": 1, "concurrency": 2, "search": "random",
    }  # fmt: skip
    spec = SweepSpec(**{**fields, **changes})
    log = SweepLog(spec)

    def tell(record: dict[str, Any]) -> None:
        log.apply(record)
        if records is not None:
            records.append(record)

    def add(id: str, kind: str, config: dict[str, Any], top: float, split: Split, grid: bool) -> None:
        predictions = PREDICTIONS if grid else []
        tell({"type": "job", "job": id, "kind": kind, "title": id, "config": config, "predictions": predictions})
        for session in range(1, sessions + 1):
            rows = [row(top - (0.0 if tau == 1.0 else 0.02), session) for tau in TEMPERATURES] if grid else []
            # Half of the trials take the slow learner of session 1 from the store.
            reused = kind == "trial" and session == 1 and int(id.rpartition("-")[2]) % 2 == 1
            stages = {"slow": {"computed": int(not reused), "reused": int(reused), "seconds": 1.0, "saved_seconds": 0}}
            work = Work("reused" if reused else "trained", 2.0, saved_seconds=3.0 * reused, stages=stages)
            made = record(session, sessions, split, top, rows, work)
            tell({"type": "session", "job": id, **made.to_json()})
        tell({"type": "status", "job": id, "status": "FINISHED", "reason": None})

    for index in range(slow):
        config = spec.trial_config({"slow.diag_weight": 10.0 ** (index - 3)})
        add(f"slow-{index:02d}", "slow", config, level(index), spec.split, False)
    configs = {}
    for index in range(trials):
        settings = {
            "slow.diag_weight": 0.0 if index % 5 == 4 else 10.0 ** (index % 4 - 3),
            "fast.cross_weight": 10.0 ** (index % 3 - 1),
            "pet.kind": ("adapter", "ssf")[index % 2],
        }
        configs[index] = spec.trial_config(settings)
        add(f"trial-{index:02d}", "trial", configs[index], level(index), spec.split, True)
    best = max(range(trials), key=level)
    score = sum(sum(row(level(best), s)) / s for s in range(1, sessions + 1)) / sessions
    tell({"type": "selected", "trial": f"trial-{best:02d}", "prediction": PREDICTIONS[1], "score": score})
    if audit:
        for index in range(trials):
            add(f"audit-{index:02d}", "audit", configs[index], level(index) - 0.03 * (index == best), "test", True)
    for repeat in range(seeds):
        config = {**configs[best], "seed": repeat, "class_order_seed": 1993 + repeat}
        add(f"final-{best:02d}-{repeat}", "final", config, level(best) + 0.01 * repeat, "test", False)
        if control:
            add(f"control-{repeat}", "control", config, 0.8 + 0.02 * repeat, "test", False)
    tell({"type": "finished"})
    return log
