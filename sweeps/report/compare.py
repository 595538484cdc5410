"""Two sweeps side by side: their answers, what differs between them, and what each had cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from safe.io.progress import duration
from safe.io.tables import Table
from sweeps.ledger.job_log import JobLog
from sweeps.ledger.ledger import SweepLog
from sweeps.report import search_plots
from sweeps.report.answer import ANSWERS, headline, in_words
from sweeps.report.final import session_blocks
from sweeps.report.formatting import Measure, exact, plural
from sweeps.report.gather import Curve, Gathered, curve, last_metric, progress
from sweeps.report.page import Block, Facts, Figure, Missing, Page, Section, Text
from sweeps.report.search import scaled
from sweeps.report.terminal import ON_TEST
from sweeps.results.accounting import work_account
from sweeps.results.statistics import paired_difference
from sweeps.results.summary import verdict
from sweeps.spec.objective import objectives
from sweeps.spec.titles import title_of


def comparison_page(first: SweepLog, second: SweepLog) -> Page:
    """Return two sweeps side by side; differences are the second minus the first."""
    pair = (Gathered(first), Gathered(second))
    names = [gathered.spec.name for gathered in pair]
    return Page(
        title=f"{names[0]} and {names[1]}",
        subtitle=" · ".join(f"{g.spec.name}: {title_of(g.spec)}" for g in pair),
        sections=[part(pair) for part in (answers, by_session, settings, searches, cost)],
        banners=[*_warnings(pair)],
    )


Pair = tuple[Gathered, Gathered]


def _warnings(pair: Pair) -> list[str]:
    """Return what keeps the two from being compared number by number."""
    warnings = [f"{g.spec.name}: {ON_TEST}." for g in pair if g.on_test]
    targets = [g.spec.evaluate_on or g.spec.dataset for g in pair]
    facts = [g.finals[0].sessions[0].provenance if g.finals else {} for g in pair]
    if targets[0] != targets[1]:
        warnings.append(f"The final runs are on different data sets: {targets[0]} and {targets[1]}.")
    else:
        for name, what in (("data_digest", "data"), ("weights_digest", "weights of the backbone")):
            if len({fact[name] for fact in facts if name in fact}) > 1:
                warnings.append(f"The final runs are not on the same {what}: its digest differs.")
    lengths = {len(job.sessions) for g in pair for job in g.finals}
    if len(lengths) > 1:
        warnings.append(f"The streams have different lengths: {' and '.join(map(str, sorted(lengths)))} sessions.")
    return warnings


def answers(pair: Pair) -> Section:
    """The final numbers of both, and their difference where seeds match."""
    facts = [(headline(g)[0], g.spec.name, headline(g)[1]) for g in pair]
    rows, shared = [], _shared_runs(pair)
    for name in ANSWERS:
        stats = [last_metric(g.finals, name) for g in pair]
        if stats == [None, None]:
            continue
        measure, gap = Measure(name), paired(*shared, name)
        word = in_words(verdict(gap, objectives(name)[0].maximise)) if gap else "–"
        rows.append([measure.axis, *map(measure.spread, stats), measure.difference(gap), word])
    blocks: list[Block] = [Facts(facts)]
    if rows:
        told = "the second minus the first, paired by seed and class order, with its 95 % interval"
        caption = f"Test images after the last session, mean ± standard deviation; difference: {told}"
        blocks.append(Table(["", *(g.spec.name for g in pair), "difference", "in words"], rows, caption))
        if len(shared[0]) < 2:
            words = f"They have {plural(len(shared[0]), 'seed')} in common; an interval takes two."
            blocks.append(Text(words, "note"))
        else:
            blocks.append(Text(f"Differences over the {len(shared[0])} seeds that both have.", "note"))
    return Section("answers", "Answers", blocks)


def _shared_runs(pair: Pair) -> tuple[list[JobLog], list[JobLog]]:
    """Return the final runs of both whose seed and class order the other has too, in the same order."""
    first, second = ({(job.config["seed"], job.config["class_order_seed"]): job for job in g.finals} for g in pair)
    both = [key for key in first if key in second]
    return [first[key] for key in both], [second[key] for key in both]


def paired(first: Sequence[JobLog], second: Sequence[JobLog], metric: str) -> dict[str, float] | None:
    """Return the second minus the first with its 95 % interval; None for fewer than two pairs or without the metric."""
    ours, theirs = last_metric(second, metric), last_metric(first, metric)
    if len(first) < 2 or ours is None or theirs is None:
        return None
    return paired_difference(ours["values"], theirs["values"])


def by_session(pair: Pair) -> Section | Missing:
    """Accuracy after every session of both, and of their controls."""
    drawn: list[Curve] = []
    for gathered in pair:
        name = gathered.spec.name
        runs = {name: gathered.finals, f"{name}, control": gathered.controls}
        drawn += [made for label, jobs in runs.items() if (made := curve(label, jobs, "accuracy")) is not None]
    if not drawn:
        return Missing("Accuracy by session", "neither has a finished final run.")
    measure = Measure("accuracy")
    caption = "Test images of all classes so far; bands: one standard deviation."
    blocks = session_blocks(drawn, caption, lambda c, s: measure.write(c.mean[s]))
    return Section("by-session", "Accuracy by session", blocks)


def settings(pair: Pair) -> Section | Missing:
    """The settings in which the chosen configurations and the sweeps themselves differ."""
    sweeps = [_described(g) for g in pair]
    chosen = [g.winner_config for g in pair]
    tables = [
        (title, [[name, *(_cell(side, name) for side in sides)] for name in _differing(sides)])
        for title, sides in (("The sweeps", sweeps), ("The chosen configurations", chosen))
    ]
    head = ["setting", *(g.spec.name for g in pair)]
    blocks: list[Block] = [Table(head, rows, title) for title, rows in tables if rows]
    if not blocks:
        return Missing("Settings that differ", "there are none.")
    return Section("settings", "Settings that differ", blocks)


def _described(gathered: Gathered) -> dict[str, Any]:
    spec = gathered.spec
    left_out = {"name", "base", "space", "created", "concurrency", "target"}
    space = {f"space {name}": entry for name, entry in spec.space.items()}
    return spec.model_dump(mode="json", exclude=left_out) | space


def _differing(sides: Sequence[dict[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for side in sides for name in side)
    return [name for name in names if _cell(sides[0], name) != _cell(sides[1], name)]


def _cell(side: dict[str, Any], name: str) -> str:
    return exact(side[name]) if side.get(name) is not None else "–"


def searches(pair: Pair) -> Section | Missing:
    """The best score so far against training cost, of both."""
    courses = {g.spec.name: progress(g) for g in pair}
    if len({(g.objectives[0].name, g.spec.split) for g in pair}) > 1:
        return Missing("Progress of the searches", "they improve different metrics.")
    if not any(score is not None for made in courses.values() for score in made.scores):
        return Missing("Progress of the searches", "neither has a finished trial.")
    measure = Measure(pair[0].objectives[0].name)
    figure = search_plots.progress(
        {name: scaled(made, measure) for name, made in courses.items()}, f"{pair[0].judged_on} {measure.axis}"
    )
    rows = [
        [name, str(len(made.trials)), str(made.sessions[-1]), measure.write(made.best[-1])]
        for name, made in courses.items()
        if made.trials
    ]
    blocks: list[Block] = [
        Figure("progress-curve", figure, "Marks: finished trials; lines: best so far."),
        Table(["sweep", "trials", "training sessions", f"best {measure.axis}"], rows),
    ]
    return Section("progress", "Progress of the searches", blocks)


def cost(pair: Pair) -> Section:
    """The work accounts of both."""
    accounts = [work_account(g.log) for g in pair]
    rows = [
        ["sessions trained by the search", *(str(a["sessions_trained"]) for a in accounts)],
        ["sessions reused", *(str(a["sessions_reused"]) for a in accounts)],
        ["sessions if every combination were a run", *(str(a["sessions_naive"]) for a in accounts)],
        ["computing of the search", *(duration(a["seconds"]) for a in accounts)],
        ["computing of everything", *(duration(a["total"]["seconds"]) for a in accounts)],
        ["CPU hours of everything", *(f"{a['total']['cpu_hours']:.2f}" for a in accounts)],
        ["GPU hours of everything", *(f"{a['total']['gpu_hours']:.2f}" for a in accounts)],
    ]
    return Section("work", "Work", [Table(["", *(g.spec.name for g in pair)], rows)])
