"""What a sweep gave, as tables for people; from the ledger alone. Percent here, fractions everywhere else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from safe.io.documents import yaml_line
from safe.io.tables import Column, Table
from safe.types import with_split
from sweeps.ledger.folders import FILE_NAME, FOLDER
from sweeps.ledger.jobs import Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.report.learned import learned_lines
from sweeps.report.words import SHOWN, left_words, measure, outcome_lines, percent, race_lines, spread_of
from sweeps.results.finalists import learner_rows, race_summary
from sweeps.results.selection import carried_on, leaderboard, measured, varied
from sweeps.results.slow import over_seeds, with_best_head
from sweeps.results.summary import control_summary, final_summary, front, selected, status_of
from sweeps.spec.objective import objectives
from sweeps.spec.titles import param, prediction_word, short_name, short_value, status_word, title_of, trial_title
from sweeps.spec.typed import typed
from tracking.mlflow_backend import sqlite_path, sqlite_uri
from tracking.mlflow_pages import LOCAL_SERVER, run_page, table_page
from tracking.recorder import Status

__all__ = ["ON_TEST", "describe", "on_test", "print_mlflow", "show", "spread", "title_of", "trial_title"]

ON_TEST = "selected on test: these numbers are optimistic and only serve to reproduce papers"
MOST_ROWS = 20


def show(log: SweepLog, folder: Path, console: Console) -> None:
    """Print the sweep for people: leaderboard, choice, test result beside the control, cost, where everything lies."""
    spec = log.sweep_spec
    about = f" · {spec.dataset} · {spec.search} search · by {spec.selection} · {status_of(log)}"
    console.print(Text.assemble("\n", (spec.name, "bold"), about))
    for words, style in _marks(log):
        console.print(words, style=style)
    for line in race_lines(log):
        console.print(line, highlight=False)
    if log.of_kind(Kind.SLOW):
        console.print(_slow_table(log).on_terminal(console.width))
    if log.of_kind(Kind.TRIAL):
        console.print(_leaderboard(log).on_terminal(console.width))
    for line in _reason_lines(log):
        console.print(line, markup=False, soft_wrap=True)
    if len(objectives(spec.objective)) > 1 and log.selected is not None:
        console.print(_front_table(log).on_terminal(console.width))
    chosen, summary, raced = selected(log), final_summary(log), race_summary(log)
    if raced is not None:
        console.print(_race_table(raced).on_terminal(console.width))
    if chosen is not None:
        settings = ", ".join(f"{name}={_text(chosen['config'][name])}" for name in spec.space)
        console.print(f"chosen: {chosen['trial']}  {settings}", highlight=False)
    if summary is not None:
        table = _test_table(log, summary, control_summary(log))
        console.print(table.on_terminal(console.width))
    for line in outcome_lines(log):
        console.print(line, highlight=False)
    for line in learned_lines(log):
        console.print(line, style="bold", highlight=False)
    if log.model is not None:
        console.print(f"model:   {log.model['words']}", soft_wrap=True, highlight=False)
    console.print(f"results: {folder}", soft_wrap=True, highlight=False)
    if (report := folder / FOLDER / FILE_NAME).is_file():
        console.print(f"report:  {report}", soft_wrap=True, highlight=False)
    if log.tracking is not None:
        print_mlflow(log.tracking, folder, console)


def print_mlflow(tracking: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print where MLflow has it and, where that is no server, the one command that opens it from here."""
    results = folder.absolute().parents[1]
    # People outside a cluster of containers reach its server under another address than the programs within.
    uri = tracking["tracking_uri"]
    database = sqlite_path(uri)
    if database is not None and not database.exists() and (results / database.name).exists():
        uri = sqlite_uri(results / database.name)  # moved with the results
    server = os.environ.get("MLFLOW_PAGE") or uri
    lines = [f"MLflow:  {server}"]
    if not uri.startswith("http"):  # a server shows itself
        lines.append(f"open it with: {typed('ui', folder.name, results=results)}")
    for line in [*lines, *page_lines(tracking, server if server.startswith("http") else LOCAL_SERVER)]:
        console.print(line, soft_wrap=True, highlight=False)


def page_lines(tracking: Mapping[str, Any], server: str) -> list[str]:
    """Return in lines for people where an MLflow server shows the runs of a sweep, and the sweep's own run."""
    pages = (("its runs: ", table_page(tracking)), ("the sweep:", run_page(tracking)))
    return [f"  {words} {server}{page}" for words, page in pages if page]


def describe(log: SweepLog) -> str:
    """Return the sweep in a few lines of markdown, for the description of its parent run.

    MLflow folds a description after a few lines, so the answer comes first and the space last.
    """
    spec = log.sweep_spec
    lines = [f"**{title_of(spec)}**: {spec.trials} trials ({spec.search} search), by {spec.selection}."]
    lines += [f"- {line}" for line in race_lines(log)]
    lines += ["", *learned_lines(log)] if log.selected is not None else []
    chosen, summary, control = selected(log), final_summary(log), control_summary(log)
    if summary is not None:
        lines += ["", f"Test accuracy over {summary['seeds']} seeds, in percent{_mark(spec.selection)}:", ""]
        rows = [(label, prefix, summary) for label, prefix in learner_rows(log)]
        for label, prefix, stats in [*rows, *([(_control_label(summary, control), "", control)] if control else [])]:
            final, average = (on_test(stats, prefix + name) for name in ("accuracy", "average_accuracy"))
            lines.append(f"- {label}: final {final}, average over the sessions {average}")
    if chosen is not None:
        settings = ", ".join(f"`{name}` = {_text(chosen['config'][name])}" for name in spec.space)
        lines += ["", f"Chosen: {chosen['trial']}, {settings}"]
    lines += _report_lines(log)
    lines += ["", *(f"- {line}" for line in outcome_lines(log))]
    if log.model is not None:
        lines.append(f"- model: {log.model['words']}")
    lines += ["", *(f"**{words}**" for words, _ in _marks(log))]
    return "\n".join(
        [*lines, "", "Space:", "", *(f"- `{yaml_line({name: entry})[1:-1]}`" for name, entry in spec.space.items())]
    )


def on_test(summary: Mapping[str, Any], metric: str) -> str:
    """Return a metric of final runs or controls on the test images, in percent."""
    return spread(summary.get(with_split("test", metric)))


def spread(stats: Mapping[str, Any] | None) -> str:
    """Return `mean ± std` in percent, the mean alone where one value has no spread, `-` for nothing."""
    if stats is None:
        return "-"
    mean, std = stats["mean"], stats["std"]
    return percent(mean) if std is None else f"{percent(mean)} ± {percent(std)}"


def _marks(log: SweepLog) -> list[tuple[str, str]]:
    """Return what a reader has to know about the selection, with its style."""
    spec = log.sweep_spec
    if spec.selection == "test":
        return [(ON_TEST, "bold yellow")]
    if spec.selection == "first-k":
        return [(f"selected on the held-out images of the first {spec.first_k} sessions alone", "")]
    if spec.selection == "transfer":
        return [(f"selected on {spec.dataset}; final runs and control on {spec.evaluate_on}", "")]
    return [("selected on held-out training images; no test image steered anything", "")]


def _report_lines(log: SweepLog) -> list[str]:
    """Return the way to the report in MLflow, as a link where its ids are known."""
    if log.selected is None:
        return []
    file = f"{FOLDER}/{FILE_NAME}"
    page = run_page(log.tracking or {}, f"/artifacts/{file}").removeprefix("/")
    link = f"[{file}]({page})" if page else f"`{file}`"
    return ["", f"The whole story, with pictures: {link} among the artefacts."]


def _mark(selection: str) -> str:
    return f" ({ON_TEST.partition(':')[0]})" if selection == "test" else ""


def _leaderboard(log: SweepLog) -> Table:
    spec = log.sweep_spec
    jobs = log.candidates()
    scored = {entry.trial: entry for entry in leaderboard(jobs, spec.objective, spec.split)}
    ids = [*scored, *(job.id for job in jobs if job.id not in scored)]
    names = varied(spec.space, [job.config for job in jobs])
    images = "test" if spec.selection == "test" else "validation"
    title = f"{images} accuracy in percent{_mark(spec.selection)}{_cut(ids)}"
    metrics = [Column("temp.", True, 1), *(Column(heading, True) for heading in ("average", "final", "forg."))]
    columns = [Column("trial"), *(Column(short_name(name), True, 2) for name in names), *metrics]
    rows = []
    # Whatever is cut off, the chosen trial is shown: of several objectives it need not be the first by this order.
    for job_id in ids[:MOST_ROWS]:
        config = log.jobs[job_id].config
        unused = "fast." if config["fast.epochs"] == 0 else "\0"  # settings of a learner that a baseline does not have
        cells = ["" if name.startswith(unused) else short_value(config[name]) for name in names]
        if job_id in scored:
            last = scored[job_id].last
            cells.append(prediction_word(scored[job_id].prediction))
            cells += [percent(last.get(metric)) for metric in ("average_accuracy", "accuracy", "forgetting")]
        else:
            cells += [status_word(log.jobs[job_id].status), "", "", ""]
        rows.append([job_id, *cells])
    best = log.selected["trial"] if log.selected else None
    return Table(columns, rows, title, ids.index(best) if best in ids[:MOST_ROWS] else None)


def _reason_lines(log: SweepLog) -> list[str]:
    """Return why runs did not come to their end; how many were stopped early, which is no trouble, in one line."""
    told = [job for job in log.jobs.values() if job.reason and job.status not in (Status.FINISHED, Status.STOPPED)]
    lines = [f"{job.id} {status_word(job.status)}: {job.reason}" for job in told[:MOST_ROWS]]
    lines += [f"... and {len(told) - MOST_ROWS} more: show --json"] if len(told) > MOST_ROWS else []
    reasons = Counter(job.reason for job in log.jobs.values() if job.status == Status.STOPPED)
    return [*lines, *(f"{number} stopped early: {reason}" for reason, number in reasons.items())]


def _slow_table(log: SweepLog) -> Table:
    """Return the slow settings, best first, each with its best head; those that trials were made of are marked."""
    spec = log.sweep_spec
    jobs = log.of_kind(Kind.SLOW)
    ranked, seeds = with_best_head(log), over_seeds(log)
    rows = [*ranked, *(job for job in jobs if job.status != Status.FINISHED)]
    names = varied(spec.space, [job.config for job in rows])
    title = f"slow settings alone, {'test' if spec.split == 'test' else 'validation'} accuracy of the slow learner"
    if len(set(map(len, seeds.values()))) > 1:  # the column has the search's own seed, which all of them have
        title += " with the search's seed; those that more seeds judged come first, by their mean"
    settings = [Column(short_name(name), True, 1) for name in names]
    columns = [Column("setting"), *settings, Column("average", True), Column("seeds", True), Column("")]
    lines = []
    carried = carried_on(log)
    for job in rows[:MOST_ROWS]:
        value = measured(job, "slow/average_accuracy", spec.split) if job in ranked else None
        word = ("carried on" if job.id in carried else "") if job in ranked else status_word(job.status)
        judged = str(len(seeds.get(job.id, ())) or "-")
        lines.append([job.id, *(short_value(job.config[name]) for name in names), percent(value), judged, word])
    return Table(columns, lines, f"{title}{_mark(spec.selection)}{_cut(rows)}")


def _front_table(log: SweepLog) -> Table:
    spec, points = log.sweep_spec, front(log)
    wishes = objectives(spec.objective)
    title = f"Pareto front{_mark(spec.selection)}; chosen by the first objective{_cut(points)}"
    head = ["trial", "temp.", *(f"{wish.name} {'↑' if wish.maximise else '↓'}" for wish in wishes)]
    rows = []
    for point in points[:MOST_ROWS]:
        pairs = zip(wishes, point.values, strict=True)
        values = ["-" if value is None else measure(wish.name, value) for wish, value in pairs]
        rows.append([point.trial, prediction_word(point.prediction), *values])
    return Table(head, rows, title)


def _race_table(raced: Mapping[str, Any]) -> Table:
    """Return the finalists in the order of the ledger, with means over the repeats that each has run."""
    name = raced["metric"].partition("/")[2]
    columns = [Column("finalist"), Column("search", True), Column("race", True), Column("repeats", True), Column("")]
    rows = []
    for one in raced["finalists"]:
        scores = list(one["scores"].values())
        spread = spread_of(name, scores)
        rows.append([one["name"], measure(name, one["search"]), spread, str(len(scores)), left_words(one)])
    names = [one["name"] for one in raced["finalists"]]
    winner = names.index(raced["winner"]) if raced["winner"] in names else None
    return Table(columns, rows, f"race over further seeds, {name.replace('_', ' ')} on the holdout", winner)


def _test_table(log: SweepLog, summary: Mapping[str, Any], control: Mapping[str, Any] | None) -> Table:
    seeds = summary["seeds"]
    over = f"mean ± std over {seeds} seeds" if seeds > 1 else "one seed"
    title = f"test accuracy in percent, {over}{_mark(log.sweep_spec.selection)}"
    rows = [(label, prefix, summary) for label, prefix in learner_rows(log)]
    rows += [] if control is None else [(_control_label(summary, control), "", control)]
    cells = [[label, *(on_test(of, prefix + metric) for metric, _ in SHOWN)] for label, prefix, of in rows]
    return Table(["", *(heading for _, heading in SHOWN)], cells, title)


def _control_label(summary: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    """Return what the control's row is called; it may have another number of seeds, after an interrupt or a failure."""
    seeds = "" if control["seeds"] == summary["seeds"] else f", seeds: {control['seeds']}"
    return f"preset (control{seeds})"


def _cut(rows: Sequence[Any]) -> str:
    return f" (the first {MOST_ROWS} of {len(rows)}; all: show --json)" if len(rows) > MOST_ROWS else ""


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)) and param(value) is value:
        return f"[{', '.join(map(short_value, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(param(value))
