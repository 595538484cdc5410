"""What the search did: every trial, which setting mattered, and what it had cost by when."""

from __future__ import annotations

from collections.abc import Sequence

from safe.evaluation.metrics import MAIN
from safe.io.tables import Table
from sweeps.ledger.jobs import Kind
from sweeps.report import search_plots
from sweeps.report.axes import Axis, axis
from sweeps.report.formatting import MOST_ROWS, Measure, plural, settings_line
from sweeps.report.gather import Gathered, Progress, Trial, progress
from sweeps.report.page import Block, Figure, Missing, Section, Text
from sweeps.report.words import head_lines
from sweeps.results.importance import DRAWS, edge_words, finished_scores, importances, range_edges
from sweeps.results.importance import importance as reckoned
from sweeps.results.selection import carried_on, measured, varied
from sweeps.results.slow import over_seeds, with_best_head
from sweeps.results.summary import front, optimism_gap
from sweeps.spec.titles import short_name, short_value, status_word
from tracking.recorder import Status


def slow_settings(gathered: Gathered) -> Section | Missing:
    """The slow settings that staged search judged alone."""
    title, spec = "Slow settings judged alone", gathered.spec
    if not gathered.log.of_kind(Kind.SLOW):
        return Missing(title, "only staged search does so.")
    ranked, seeds = with_best_head(gathered.log), over_seeds(gathered.log)
    names = varied(spec.space, [job.config for job in ranked])
    measure, carried = Measure("average_accuracy"), carried_on(gathered.log)
    rows = [
        [
            job.id,
            *(short_value(job.config[name]) for name in names),
            measure.write(measured(job, "slow/average_accuracy", spec.split)),
            str(len(seeds[job.id])),
            "carried on" if job.id in carried else "",
        ]
        for job in ranked[:MOST_ROWS]
    ]
    words = (
        f"{plural(len(ranked), 'setting')} of the slow learner were judged by its own {gathered.judged_on} accuracy "
        "over all sessions, which takes no gradient step after session 1; the better half again with another seed, and "
        "so on, and trials were made of the best. Those that more seeds judged come first, by their mean over these."
    )
    caption = _first_rows("Slow learner alone, best first", len(ranked))
    head = ["setting", *map(short_name, names), measure.axis, "seeds", ""]
    told = [Text(f"{line[0].upper()}{line[1:]}.") for line in head_lines(gathered.log)]
    return Section("slow-settings", title, [Text(words), *told, Table(head, rows, caption)])


def parallel(gathered: Gathered) -> Section | Missing:
    """Every trial as a line across its settings."""
    title, trials = "Trials across their settings", [t for t in gathered.finished if t.score is not None]
    if len(trials) < 2 or not gathered.varied:
        return Missing(title, "it takes two finished trials that differ in a trained setting.")
    measure = Measure(gathered.objectives[0].name)
    columns = [axis(short_name(name), [trial.config[name] for trial in trials]) for name in gathered.varied]
    objective = _plain_axis(measure, [trial.score or 0.0 for trial in trials])
    winner = gathered.winner.id if gathered.winner else None
    figure = search_plots.parallel(columns, objective, [trial.id for trial in trials], winner)
    caption = (
        f"One line a trial, its colour and right end its {gathered.judged_on} {measure.axis}. The table of all trials "
        "is the leaderboard."
    )
    if len(trials) > search_plots.MOST_LINES:
        caption += f" The best {search_plots.MOST_LINES} of {len(trials)} finished trials are drawn."
    return Section("parallel", title, [Figure("parallel-lines", figure, caption)])


def _plain_axis(measure: Measure, values: list[float]) -> Axis:
    low, high = min(values), max(values)
    width = high - low or 1.0
    digits = 1 if width >= 0.02 else 2
    ticks = tuple((i / 4, measure.write(low + i / 4 * (high - low), digits)) for i in range(5)) if high > low else ()
    return Axis(measure.axis, tuple((v - low) / width if high > low else 0.5 for v in values), ticks)


def importance(gathered: Gathered) -> Section | Missing:
    """How much each setting matters, and which ranges should be wider."""
    title = "Importance of each setting"
    settings, scores = finished_scores(gathered.log)
    try:
        # What there is none of is reckoned once more, to say why.
        shares = reckoned(gathered.log) or importances(gathered.spec.parsed_space(), settings, scores)
    except ValueError as why:
        return Missing(title, f"{why}.")
    note = (
        f"PED-ANOVA over {plural(len(scores), 'finished trial')}: how far the values of the best ones are from those "
        f"of all. Lines: 90 % of {DRAWS} bootstraps over the trials."
    )
    rows = [[e.setting, *(f"{100 * value:.0f}" for value in (e.share, e.low, e.high))] for e in shares]
    head = ["setting", "share (%)", "from", "to"]
    blocks: list[Block] = [
        Figure("importance-bars", search_plots.importance(shares), note),
        *(Text(f"{edge_words(entry)}.", "warn") for entry in range_edges(gathered.log)),
        Table(head, rows, "Importance of each setting", folded=True),
    ]
    return Section("importance", title, blocks)


def search_progress(gathered: Gathered) -> Section | Missing:
    """The best score so far against what the search had cost by then."""
    title, course = "Progress of the search", progress(gathered)
    if not any(score is not None for score in course.scores):
        return Missing(title, "no trial is finished yet.")
    measure = Measure(gathered.objectives[0].name)
    figure = search_plots.progress(
        {gathered.spec.name: scaled(course, measure)}, f"{gathered.judged_on} {measure.axis}"
    )
    rows = [[trial, str(cost), measure.write(best)] for trial, cost, best in improvements(course)]
    blocks: list[Block] = [
        Figure(
            "progress-curve", figure, "Each mark is a finished trial, in the order of the search; line: best so far."
        ),
        Table(["improved by", "training sessions", f"best {measure.axis}"], rows, "Improvements", folded=True),
    ]
    return Section("progress", title, blocks)


def scaled(course: Progress, measure: Measure) -> Progress:
    """Return the progress in the unit of its axis."""

    def turned(values: list[float | None]) -> list[float | None]:
        return [None if value is None else measure.scale * value for value in values]

    return Progress(course.trials, course.sessions, turned(course.scores), turned(course.best))


def improvements(course: Progress) -> list[tuple[str, int, float]]:
    """Return (trial, sessions so far, score) of every trial that was the best so far."""
    kept: list[tuple[str, int, float]] = []
    for trial, cost, best in zip(course.trials, course.sessions, course.best, strict=True):
        if best is not None and (not kept or kept[-1][2] != best):
            kept.append((trial, cost, best))
    return kept


def pareto_front(gathered: Gathered) -> Section | Missing:
    """Several objectives: what cannot be improved in one without losing in another."""
    title = "Pareto front"
    if len(gathered.objectives) < 2:
        return Missing(title, "the search has one objective.")
    points = front(gathered.log)
    if not points:
        return Missing(title, "no trial is finished yet.")
    measures = [Measure(wish.name) for wish in gathered.objectives]
    first, second = measures[:2]
    everywhere = [(t.id, *place) for t in gathered.finished if (place := _point(t.values, measures))]
    on_front = [(p.trial, *place) for p in points if (place := _point(p.values, measures))]
    star = _point(gathered.winner.values, measures) if gathered.winner is not None else None
    figure = search_plots.pareto(everywhere, on_front, star, first.axis, second.axis)
    better = " and ".join(f"{'more' if w.maximise else 'less'} {Measure(w.name).title}" for w in gathered.objectives)
    rows = [
        [p.trial, settings_line(p.prediction), *(m.write(v) for m, v in zip(measures, p.values, strict=True))]
        for p in points[:MOST_ROWS]
    ]
    blocks: list[Block] = [
        Figure("pareto-points", figure, f"Better is {better}. Star: chosen, by the first objective."),
        Table(["trial", "prediction", *(m.axis for m in measures)], rows, _first_rows("Pareto front", len(points))),
    ]
    return Section("pareto", title, blocks)


def _point(values: Sequence[float | None], measures: Sequence[Measure]) -> tuple[float, float] | None:
    """Return the first two objectives in the units of their axes, or None where a trial lacks one."""
    first, second = values[:2]
    return None if first is None or second is None else (measures[0].scale * first, measures[1].scale * second)


def optimism(gathered: Gathered) -> Section | Missing:
    """What a choice by the test images would have claimed."""
    title, comparison = "Optimism gap", optimism_gap(gathered.log)
    if comparison is None:
        return Missing(title, "the trials were not judged on the test images after the choice.")
    measure = Measure(gathered.objectives[0].name)
    claimed, honest, gap = (measure.write(comparison[name]) for name in ("claimed", "honest", "gap"))
    unit = " %" if measure.fraction else ""
    words = (
        f"Selecting among the {plural(comparison['trials'], 'trial')} on the test images would have claimed "
        f"{claimed}{unit} {measure.title}; the honest choice has {honest}{unit} there. "
        "Both are states of the search, trained without the held-out images, and judged after the choice was final."
    )
    rows = [
        ["chosen by the test images", comparison["claimed_by"]["trial"], claimed],
        ["chosen honestly", gathered.winner.id if gathered.winner else "", honest],
        ["gap", "", gap],
    ]
    return Section("optimism", title, [Text(words), Table(["choice", "trial", f"test {measure.axis}"], rows)])


def leaderboard(gathered: Gathered) -> Section | Missing:
    """The trials, best first."""
    trials = gathered.trials
    if not trials:
        return Missing("Leaderboard", "no trial has begun.")
    wanted = [wish.name for wish in gathered.objectives]
    shown = dict.fromkeys([*wanted, *MAIN])
    measures = [Measure(name) for name in shown]
    predicted = varied(gathered.predictions, [trial.prediction for trial in trials])
    unfinished = any(trial.status != Status.FINISHED for trial in trials)
    rows = []
    for trial in trials[:MOST_ROWS]:
        values = dict(zip(wanted, trial.values, strict=False)) | trial.metrics
        rows.append(
            [
                trial.id,
                str(trial.rank or "–"),
                *(short_value(trial.config[name]) for name in gathered.varied),
                *(short_value(trial.prediction[name]) if trial.prediction else "–" for name in predicted),
                *(measure.write(values.get(measure.name)) for measure in measures),
                *([_state(trial)] if unfinished else []),
            ]
        )
    winner = gathered.winner.id if gathered.winner else None
    marked = next((index for index, trial in enumerate(trials[:MOST_ROWS]) if trial.id == winner), None)
    head = [
        "trial",
        "rank",
        *map(short_name, [*gathered.varied, *predicted]),
        *(m.axis for m in measures),
        *(["state"] if unfinished else []),
    ]
    caption = _first_rows(f"Trials by {gathered.judged_on} {measures[0].title}, best first", len(trials))
    return Section("leaderboard", "Leaderboard", [Table(head, rows, caption, marked=marked)])


def _state(trial: Trial) -> str:
    if trial.status == Status.FINISHED:
        return "finished"
    reached = f" after session {trial.sessions}" if trial.sessions else ""
    return f"{status_word(trial.status)}{reached}" + (f": {trial.reason}" if trial.reason else "")


def _first_rows(caption: str, count: int) -> str:
    return f"{caption}; the first {MOST_ROWS} of {count}" if count > MOST_ROWS else caption
