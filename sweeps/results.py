"""What a sweep gave: one object for programs, tables for people; both from the ledger alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sweeps.bookkeeper import FINAL, TRIAL, live_metrics
from sweeps.ledger import JobLog, SweepLog
from sweeps.replicate import summarise
from sweeps.selection import leaderboard, score_trial

ON_TEST = "selected on test: these numbers are optimistic and only serve to reproduce papers"
LEARNER_ROWS = (("SAFE", ""), ("slow learner", "slow/"), ("fast learner", "fast/"))
SHOWN = (("accuracy", "final accuracy"), ("average_accuracy", "average accuracy"), ("forgetting", "forgetting"))


def outcome(log: SweepLog) -> dict[str, Any]:
    """Return the sweep as one object, in the names of the configuration and of MLflow; fractions in [0, 1].

    What an unfinished sweep does not have yet is None.
    """
    return {
        "name": log.spec.name,
        "dataset": log.spec.dataset,
        "selection": log.spec.selection,
        "objective": f"{log.sweep_spec.split}/{log.sweep_spec.objective}",
        "trials": [_trial(job, log) for job in log.of_kind(TRIAL)],
        "selected": _selected(log),
        "final": final_summary(log),
        "mlflow": log.tracking,
    }


def final_runs(log: SweepLog) -> list[JobLog]:
    """Return the finished final runs of the chosen trial, in seed order."""
    if log.selected is None:
        return []
    prefix = f"final-{log.selected['trial'].removeprefix('trial-')}-"
    return [job for job in log.of_kind(FINAL) if job.id.startswith(prefix) and job.status == "FINISHED"]


def final_summary(log: SweepLog) -> dict[str, Any] | None:
    """Return `seeds` (how many) and mean, std and values of every test metric, or None before the first run."""
    runs = final_runs(log)
    if not runs:
        return None
    tests = [{k: v for k, v in job.sessions[-1]["metrics"].items() if k.startswith("test/")} for job in runs]
    return {"seeds": len(runs), **summarise(tests)}


def status_of(log: SweepLog) -> str:
    """Return in a word or two how far the sweep is."""
    if log.finished:
        return "finished"
    done = sum(job.status == "FINISHED" for job in log.jobs.values())
    return f"{done} of {log.spec.runs} runs done"


def _trial(job: JobLog, log: SweepLog) -> dict[str, Any]:
    config, sessions = dict(job.config), []
    if job.sessions:
        spec = log.sweep_spec
        best = score_trial(job, spec.objective, spec.split)
        config |= best.prediction
        split = f"{spec.split}/"
        for record, metrics in zip(job.sessions, best.sessions, strict=True):
            learners = {name: value for name, value in live_metrics(job, record).items() if name.startswith(split)}
            sessions.append({f"{split}{name}": value for name, value in metrics.items()} | learners)
    return {"id": job.id, "status": job.status, "reason": job.reason, "config": config, "sessions": sessions}


def _selected(log: SweepLog) -> dict[str, Any] | None:
    if log.selected is None:
        return None
    trial = _trial(log.jobs[log.selected["trial"]], log)
    return {"trial": trial["id"], "config": trial["config"], **trial["sessions"][-1]}


def show(log: SweepLog, folder: Path, console: Console) -> None:
    """Print the sweep for people: leaderboard, chosen configuration, test result, where everything lies."""
    spec = log.sweep_spec
    console.print(f"\n[bold]{spec.name}[/] · {spec.dataset} · {spec.search} search · {status_of(log)}")
    if spec.selection == "test":
        console.print(ON_TEST, style="bold yellow")
    if log.jobs:
        console.print(_leaderboard(log))
    for job in log.jobs.values():
        if job.reason and job.status != "FINISHED":
            console.print(f"{job.id} {job.status}: {job.reason}", markup=False, soft_wrap=True)
    chosen, summary = _selected(log), final_summary(log)
    if chosen is not None:
        settings = ", ".join(f"{name}={_text(chosen['config'][name])}" for name in spec.space)
        console.print(f"chosen: {chosen['trial']}  {settings}", highlight=False)
    if summary is not None:
        console.print(_test_table(summary, spec.selection))
    console.print(f"results: {folder}", soft_wrap=True, highlight=False)
    if log.tracking is not None:
        print_mlflow(log.tracking, folder, console)


def print_mlflow(tracking: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print where MLflow has it, and the one command that opens it from here."""
    results = folder.absolute().parents[1]
    where = "" if results == Path("results").absolute() else f" RESULTS={shlex.quote(str(results))}"
    console.print(f"MLflow:  {tracking['tracking_uri']}", soft_wrap=True, highlight=False)
    console.print(f"open it with: make ui{where}", soft_wrap=True, highlight=False)


def describe(log: SweepLog) -> str:
    """Return the sweep in a few lines of markdown, for the description of its parent run."""
    spec = log.sweep_spec
    lines = [f"**{spec.name}**: {spec.trials} trials ({spec.search} search) on {spec.dataset}, by {spec.selection}."]
    if spec.selection == "test":
        lines.append(f"**{ON_TEST}**")
    lines += ["", "Space:", "", *(f"- `{name}`: `{entry}`" for name, entry in spec.space.items()), ""]
    chosen, summary = _selected(log), final_summary(log)
    if chosen is not None:
        lines.append(f"Chosen: {chosen['trial']}.")
        lines += ["", *(f"- `{name}` = {_text(chosen['config'][name])}" for name in spec.space), ""]
    if summary is not None:
        lines.append(f"Test accuracy over {summary['seeds']} seeds, in percent:")
        lines += ["", "| | final | average |", "|---|---|---|"]
        for label, prefix in LEARNER_ROWS:
            cells = [spread(summary.get(f"test/{prefix}{metric}")) for metric in ("accuracy", "average_accuracy")]
            lines.append(f"| {label} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _leaderboard(log: SweepLog) -> Table:
    spec = log.sweep_spec
    jobs = log.of_kind(TRIAL)
    scored = {entry.trial: entry for entry in leaderboard(jobs, spec.objective, spec.split)}
    varied = [name for name in spec.space if len({str(job.config[name]) for job in jobs}) > 1]
    images = "test" if spec.selection == "test" else "validation"
    table = Table(title=f"{images} accuracy in percent", title_justify="left", title_style="", box=None, pad_edge=False)
    settings = [name.partition(".")[2].removesuffix("_weight") for name in varied]
    for heading in ("trial", *settings, "temp.", "average", "final", "forg."):
        table.add_column(heading, justify="left" if heading == "trial" else "right", no_wrap=True)
    unscored = [job.id for job in jobs if job.id not in scored]
    for job_id in [*scored, *unscored]:
        config = log.jobs[job_id].config
        cells = [_text(config[name]) for name in varied]
        if job_id in scored:
            last = scored[job_id].sessions[-1]
            cells += [
                _text(scored[job_id].prediction["aggregation.temperature"]),
                _percent(last["average_accuracy"]),
                _percent(last["accuracy"]),
            ]
            cells.append(_percent(last.get("forgetting")))
        else:
            cells.append(log.jobs[job_id].status)
        best = log.selected is not None and job_id == log.selected["trial"]
        table.add_row(job_id, *cells, style="bold green" if best else None)
    return table


def _test_table(summary: Mapping[str, Any], selection: str) -> Table:
    mark = f" ({ON_TEST.partition(':')[0]})" if selection == "test" else ""
    seeds = summary["seeds"]
    title = f"test accuracy in percent, mean ± std over {seeds} seed{'s' if seeds > 1 else ''}{mark}"
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for _, heading in SHOWN:
        table.add_column(heading, justify="right", no_wrap=True)
    for label, prefix in LEARNER_ROWS:
        table.add_row(label, *(spread(summary.get(f"test/{prefix}{metric}")) for metric, _ in SHOWN))
    return table


def spread(stats: Mapping[str, Any] | None) -> str:
    """Return `mean ± std` in percent, the mean alone where one value has no spread, `-` for nothing."""
    if stats is None:
        return "-"
    mean, std = stats["mean"], stats["std"]
    return _percent(mean) if std is None else f"{_percent(mean)} ± {_percent(std)}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:z.1f}"  # z: no minus before a rounded zero


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
