"""What a sweep cost and what sharing saved, counted from its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import SEARCH_KINDS, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.spec.runs import RunsSpec


def work_account(log: SweepLog) -> dict[str, Any]:
    """Return the account of the search, and apart from it those of the final runs (`final`), of race and baselines
    (`race`) and of the audit (`audit`).

    sessions_naive: training sessions if every combination of trained and prediction-time settings were a run of its
        own; a slow setting judged alone counts by the sessions it trains.
    sessions_unshared_trials: if only the settings of prediction shared a run.
    sessions_trained, sessions_reused: trained by the run itself, and taken from the stage store.
    seconds, seconds_saved: of computing, and what the reused work had cost whoever did it.
    cpu_hours, gpu_hours: cores and GPUs held times hours.
    total: seconds and hours of everything together.
    """
    groups = {name: [job for job in log.jobs.values() if job.kind in kinds] for name, kinds in _GROUPS.items()}
    search = groups["search"]
    training = [sum([record.work.training != "none" for record in job.sessions]) for job in search]
    naive = sum(sessions * max(1, len(job.predictions)) for sessions, job in zip(training, search, strict=True))
    counted = {"sessions_naive": naive, "sessions_unshared_trials": sum(training)}
    costs = {name: _costs(jobs, log.spec) for name, jobs in groups.items()}
    total = {name: sum(cost[name] for cost in costs.values()) for name in costs["search"] if "sessions" not in name}
    return {**counted, **costs.pop("search"), **costs, "total": total}


_GROUPS = {
    "search": SEARCH_KINDS,
    "final": (Kind.FINAL, Kind.CONTROL),
    "race": (Kind.BASELINE, Kind.RACE),
    "audit": (Kind.AUDIT,),
}


def flat_account(account: Mapping[str, Any], prefix: str = "work.") -> dict[str, float]:
    """Return an account under dotted names: `work.sessions_naive`, `work.final.seconds`."""
    flat: dict[str, float] = {}
    for name, value in account.items():
        flat |= flat_account(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _costs(jobs: Iterable[JobLog], spec: RunsSpec) -> dict[str, Any]:
    trained = reused = 0
    seconds = saved = cpu_hours = gpu_hours = 0.0
    gpus = spec.gpus_per_trial if isinstance(spec.gpus_per_trial, float) else 1.0
    for record in (record for job in jobs for record in job.sessions):
        work = record.work
        trained += work.training == "trained"
        reused += work.training == "reused"
        seconds += work.seconds
        saved += work.saved_seconds
        held = (work.seconds + work.waited_seconds) / 3600  # a run that waits for another holds its place
        cpu_hours += held * spec.threads
        if "memory/total_mib" in record.metrics:  # of a GPU; the memory of a machine is not one run's
            gpu_hours += held * gpus
    return {
        "sessions_trained": trained,
        "sessions_reused": reused,
        "seconds": seconds,
        "seconds_saved": saved,
        "cpu_hours": cpu_hours,
        "gpu_hours": gpu_hours,
    }
