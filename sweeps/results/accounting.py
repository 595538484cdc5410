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
    search = [job for job in log.jobs.values() if job.kind in SEARCH_KINDS]
    naive = sum(_training(job) * max(1, len(job.predictions)) for job in search)
    counted = {"sessions_naive": naive, "sessions_unshared_trials": sum(map(_training, search))}
    groups = {name: [job for job in log.jobs.values() if job.kind in kinds] for name, kinds in _LATER.items()}
    later = {name: _costs(jobs, log.spec) for name, jobs in groups.items()}
    everything = _costs(log.jobs.values(), log.spec)
    total = {name: value for name, value in everything.items() if not name.startswith("sessions")}
    return {**counted, **_costs(search, log.spec), **later, "total": total}


_LATER = {"final": (Kind.FINAL, Kind.CONTROL), "race": (Kind.BASELINE, Kind.RACE), "audit": (Kind.AUDIT,)}


def flat_account(account: Mapping[str, Any], prefix: str = "work.") -> dict[str, float]:
    """Return an account under dotted names: `work.sessions_naive`, `work.final.seconds`."""
    flat: dict[str, float] = {}
    for name, value in account.items():
        flat |= flat_account(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _training(job: JobLog) -> int:
    """Return how many of a job's sessions have gradient steps, whoever did them."""
    return sum(record.work.training != "none" for record in job.sessions)


def _costs(jobs: Iterable[JobLog], spec: RunsSpec) -> dict[str, Any]:
    costs: dict[str, Any] = dict.fromkeys(("sessions_trained", "sessions_reused", "seconds", "seconds_saved"), 0)
    costs |= {"cpu_hours": 0.0, "gpu_hours": 0.0}
    for record in (record for job in jobs for record in job.sessions):
        costs["sessions_trained"] += record.trained
        costs["sessions_reused"] += record.reused
        costs["seconds"] += record.work.seconds
        costs["seconds_saved"] += record.work.saved_seconds
        # A run that waits for another holds its place.
        held = (record.work.seconds + record.work.waited_seconds) / 3600
        costs["cpu_hours"] += held * spec.threads
        if "memory/total_mib" in record.metrics:  # of a GPU; the memory of a machine is not one run's
            costs["gpu_hours"] += held * (spec.gpus_per_trial if isinstance(spec.gpus_per_trial, float) else 1.0)
    return costs
