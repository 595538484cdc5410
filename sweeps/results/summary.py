"""What a sweep gave, as one object for programs; from the ledger alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

from safe.evaluation.metrics import LEARNERS, MAIN, METRICS
from safe.types import with_split
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.jobs import UNPLANNED, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.results.accounting import flat_account, work_account
from sweeps.results.finalists import race_summary
from sweeps.results.importance import importance, range_edges
from sweeps.results.selection import Scored, measured, pareto, point_at, score_points, score_trial
from sweeps.results.statistics import paired_difference, summarise
from sweeps.spec.objective import objectives
from tracking.recorder import Status

MOST_METRICS = 39  # of the parent run at its end, which has another one from the search
_WORK = tuple(
    f"work.{name}"
    for name in (
        "sessions_naive", "sessions_trained", "sessions_reused", "seconds", "seconds_saved", "total.cpu_hours",
        "total.gpu_hours",
    )
)  # fmt: skip


def sweep_summary(log: SweepLog) -> dict[str, Any]:
    """Return the sweep as one object, in the names of the configuration and of MLflow; fractions in [0, 1].

    What an unfinished sweep does not have yet is None.
    """
    spec = log.sweep_spec
    wishes = objectives(spec.objective)
    return {
        "name": spec.name,
        "dataset": spec.dataset,
        "evaluate_on": spec.evaluate_on or spec.dataset,
        "search": spec.search,
        "selection": spec.selection,
        "honest": spec.selection != "test",
        "objective": with_split(spec.split, wishes[0].name),
        "objectives": [
            {"metric": with_split(spec.split, wish.name), "direction": "max" if wish.maximise else "min"}
            for wish in wishes
        ],
        "slow": [_slow(job, log) for job in log.of_kind(Kind.SLOW)],
        "trials": [_trial(job, log) for job in log.of_kind(Kind.TRIAL)],
        "enough": list(log.enough.values()),
        "baselines": [_trial(job, log) for job in log.of_kind(Kind.BASELINE)],
        "race": race_summary(log),
        "selected": selected(log),
        "importance": [asdict(entry) for entry in importance(log)],
        "edges": [asdict(entry) for entry in range_edges(log)],
        "pareto": [_point(point, log) for point in front(log)] if len(wishes) > 1 else None,
        "final": final_summary(log),
        "control": control_summary(log),
        "difference": difference(log),
        "optimism_gap": optimism_gap(log),
        "work": work_account(log),
        "mlflow": log.tracking,
    }


def status_of(log: SweepLog) -> str:
    """Return in a word or two how far the sweep is."""
    if log.finished:
        return "finished"
    done = sum(job.status == Status.FINISHED for job in log.jobs.values() if job.kind not in UNPLANNED)
    return f"{done} of {log.spec.runs} runs done"


def final_runs(log: SweepLog) -> list[JobLog]:
    """Return the finished final runs of the chosen trial, in seed order."""
    return [job for job in log.final_jobs() if job.status == Status.FINISHED]


def control_runs(log: SweepLog) -> list[JobLog]:
    """Return the finished runs of the control, in seed order."""
    return [job for job in log.of_kind(Kind.CONTROL) if job.status == Status.FINISHED]


def final_summary(log: SweepLog) -> dict[str, Any] | None:
    """Return `seeds` (how many) and mean, std and values of every test metric, or None before the first run."""
    return _summary(final_runs(log))


def control_summary(log: SweepLog) -> dict[str, Any] | None:
    """Return the same of the control: the preset over the same seeds."""
    return _summary(control_runs(log))


def difference(log: SweepLog) -> dict[str, dict[str, Any]] | None:
    """Return final minus control, paired by seed, for the compared metrics and the objectives.

    Each has `mean`, `half_width` of the 95 % interval and `verdict`: `within noise` where the interval covers 0, else
    `better` or `worse`. None with fewer than two seeds that both have.
    """
    final, control = ({job.repeat: _tests(job) for job in runs} for runs in (final_runs(log), control_runs(log)))
    seeds = [repeat for repeat in final if repeat in control]
    if len(seeds) < 2:
        return None
    maximise = {name: not METRICS[name].small for name in MAIN}
    maximise |= {wish.name: wish.maximise for wish in objectives(log.sweep_spec.objective)}
    differences: dict[str, dict[str, Any]] = {}
    for name, more_is_better in maximise.items():
        key = with_split("test", name)
        if all(key in runs[seed] for runs in (final, control) for seed in seeds):
            pair = paired_difference([final[s][key] for s in seeds], [control[s][key] for s in seeds])
            differences[key] = {**pair, "verdict": verdict(pair, more_is_better), "seeds": len(seeds)}
    return differences


def verdict(pair: Mapping[str, float], more_is_better: bool) -> str:
    """Return in words what a paired difference says; an interval that touches 0 says nothing."""
    if abs(pair["mean"]) <= pair["half_width"]:
        return "within noise"
    return "better" if (pair["mean"] > 0) is more_is_better else "worse"


def optimism_gap(log: SweepLog) -> dict[str, Any] | None:
    """Return what selecting on the test images would have claimed beside what the honest choice scores there.

    Both are the first objective of the trials' own states, trained without the held-out images, on the test images:
    `claimed` is the best of all trials and settings of prediction, `honest` that of the chosen trial and prediction,
    `gap` the difference as an improvement, never below 0. None before the audit of the chosen trial.
    """
    spec = log.sweep_spec
    audits = {(job.trial, job.variant): job for job in log.of_kind(Kind.AUDIT) if job.status == Status.FINISHED}
    if log.selected is None or not audits:
        return None
    points = {
        job.id: score_points(audits[job.trial, job.variant], spec.objective, "test")
        for job in log.candidates()
        if (job.trial, job.variant) in audits
    }
    if log.selected["trial"] not in points:
        return None
    claimant = max(points, key=lambda trial: points[trial][0].goodness[0])
    best = points[claimant][0]
    own = next(p for p in points[log.selected["trial"]] if p.prediction == log.selected["prediction"])
    if best.score is None or own.score is None:
        return None
    return {
        "metric": with_split("test", objectives(spec.objective)[0].name),
        "claimed": best.score,
        "claimed_by": {"trial": claimant, "prediction": best.prediction},
        "honest": own.score,
        "gap": best.goodness[0] - own.goodness[0],
        "trials": len(points),
    }


def front(log: SweepLog) -> list[Scored]:
    """Return the Pareto front of the search: (trial, prediction) that nothing dominates."""
    return pareto(log.of_kind(Kind.TRIAL), log.sweep_spec.objective, log.sweep_spec.split)


def selected(log: SweepLog) -> dict[str, Any] | None:
    """Return the chosen trial, its configuration and its metrics after the last session, or None before the choice."""
    if log.selected is None:
        return None
    trial = _trial(log.jobs[log.selected["trial"]], log, log.selected["prediction"])
    return {"trial": trial["id"], "config": trial["config"], **trial["sessions"][-1]}


def summary_metrics(log: SweepLog) -> dict[str, float]:
    """Return the outcome as metrics of the parent run, what people look for first, at most MOST_METRICS.

    Final runs, their learners and the control on the test images, differences, race, optimism, work. Everything else
    stands in the runs themselves, in the report and in the ledger. What chose the trial is a metric of that trial
    alone, so that tables which are sorted by it have trials in front.
    """
    final, control = final_summary(log) or {}, control_summary(log) or {}
    tests = [with_split("test", name) for name in MAIN]
    of_learners = [with_split("test", f"{learner}/{name}") for learner in LEARNERS for name in MAIN]
    metrics = _means(final, tests) | {name: final[name]["mean"] for name in of_learners if name in final}
    metrics |= {f"control/{name}": value for name, value in _means(control, tests).items()}
    for name, pair in (difference(log) or {}).items():
        metrics |= {f"difference/{name}": pair["mean"], f"difference/{name}_half_width": pair["half_width"]}
    if (raced := race_summary(log)) is not None:
        metrics |= {"race/optimism": raced["optimism"], "race/repeats": raced["repeats"]}
        for images in ("holdout", "test"):
            if (raced["against"] or {}).get(images) is not None:
                metrics[f"race/safe_minus_baseline_{images}"] = raced["against"][images]["mean"]
    gap = optimism_gap(log)
    metrics |= {f"optimism_gap/{gap['metric']}": gap["gap"]} if gap else {}
    work = flat_account(work_account(log))
    return dict(islice((metrics | {name: work[name] for name in _WORK}).items(), MOST_METRICS))


def _means(summary: Mapping[str, Any], names: Iterable[str]) -> dict[str, float]:
    """Return the means of metrics of a summary, and their standard deviations where there are any."""
    flat: dict[str, float] = {}
    for name in names:
        stats = summary.get(name)
        if stats is not None:
            flat |= {name: stats["mean"]} | ({} if stats["std"] is None else {f"{name}_std": stats["std"]})
    return flat


def _tests(job: JobLog) -> dict[str, float]:
    """Return the last session's metrics on the test images, under their full names."""
    last = job.sessions[-1]
    return {with_split("test", name): value for name, value in last.judged().items() if last.split == "test"}


def _summary(runs: list[JobLog]) -> dict[str, Any] | None:
    return {"seeds": len(runs), **summarise([_tests(job) for job in runs])} if runs else None


def _slow(job: JobLog, log: SweepLog) -> dict[str, Any]:
    spec = log.sweep_spec
    name = "slow/average_accuracy"
    value = measured(job, name, spec.split) if job.sessions else None
    return {
        "id": job.id,
        "status": job.status,
        "reason": job.reason,
        "config": {setting: job.config[setting] for setting in spec.space},
        with_split(spec.split, name): value,
    }


def _trial(job: JobLog, log: SweepLog, prediction: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a trial at its best settings of prediction, or at given ones."""
    config, sessions = dict(job.config), []
    if job.sessions:
        spec = log.sweep_spec
        best = score_trial(job, spec.objective, spec.split)
        if prediction is not None:
            best = point_at(job, prediction, spec.objective, spec.split) or best
        config |= best.prediction
        for record, metrics in zip(job.sessions, best.sessions, strict=True):
            judged = with_split(spec.split, "")
            chosen = {judged + name: value for name, value in metrics.items()}
            settled = {name: value for name, value in record.settled().items() if name.startswith(judged)}
            sessions.append(chosen | settled)
    return {"id": job.id, "status": job.status, "reason": job.reason, "config": config, "sessions": sessions}


def _point(point: Scored, log: SweepLog) -> dict[str, Any]:
    names = [with_split(log.sweep_spec.split, wish.name) for wish in objectives(log.sweep_spec.objective)]
    return {"trial": point.trial, "prediction": point.prediction, **dict(zip(names, point.values, strict=True))}
