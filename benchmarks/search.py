"""Searches at equal training cost, rehearsed over tables of real results (`benchmarks.tabulate`).

A rehearsal decides exactly as a sweep does and looks its results up. It has an order of the table's seeds of its own:
the first is the search's, the next ones are the repeats of its race. The truth is the mean over all seeds; the regret
of a choice is what its true accuracy lacks to the best of the grid. Sessions are those that the stage store does not
save, of the search, the baselines and the race together.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Shown

from benchmarks import tabulate
from benchmarks.simulator import Rehearsal
from benchmarks.tabulate import (
    GRID,
    MAIN,
    OTHERS,
    SESSIONS,
    SLOW,
    SLOW_ALONE,
    STREAMS,
    TEMPERATURES,
    Line,
    Rows,
    Stream,
    best_of,
    combinations,
    objective,
    settings_of,
)
from safe.errors import Notice, UserError
from safe.types import Work
from sweeps.ledger.jobs import SEARCH_KINDS, Job, Kind
from sweeps.ledger.ledger import SweepLog
from sweeps.ledger.record import SessionRecord
from sweeps.results.racing import interaction_noise
from sweeps.results.selection import choose
from sweeps.search import tpe
from sweeps.search.history import Observation
from sweeps.search.random_ import draw
from sweeps.spec.combinations import key
from sweeps.spec.configs import own_prediction
from sweeps.spec.options import build_spec
from sweeps.spec.specs import SweepSpec

REPEATS = 200
BUDGETS = (20, 35, 50)  # training sessions in all
RACE_SHARE = 1 / 3  # of a budget, with baselines
BEFORE_RACE = 2  # sessions that race and baselines need beside a search
TIE = 0.001  # of accuracy: choices that differ by less are equally good
TRIALS = 24  # of a search that STOP may end
TOLD = 2_000  # trials, where the time of a proposal is measured
TRAINED = range(SLOW_ALONE)  # settings of prediction of a trial
SPACE = {name: {"grid": list(values)} for name, values in GRID.items()}
SPACE["aggregation.temperature"] = {"grid": list(TEMPERATURES)}
LEARNED = "tpe that learned"
# Another preset, with both weights that cost most in the last place where the slow learner still is good.
POOR = {"slow.offdiag_weight": 1.0, "fast.cross_weight": 6.0}
ALONE: Mapping[str, Mapping[str, Any]] = {
    "random": {"search": "random"},
    "asha over random": {"search": "random", "stop": "asha"},
    "tpe": {"search": "tpe"},
    "staged": {"search": "staged"},
    LEARNED: {"search": "tpe"},
}


class Table:
    """What every combination gives on some classes, seed by seed.

    A run that the table lacks is as far from its own slow learner as with another seed, one that has it, so that the
    truth is the mean of the slow learner over all seeds and of the rest over those that were trained.

    Attributes:
        seeds: those that have the frozen head and all slow learners.
        trained: how many seeds a combination was trained with, by combination.
        truth: mean objective over the seeds at every setting of prediction, by combination.
        best: the highest of a trial or baseline.
        noise: standard deviation of an objective that is neither the combination's nor the seed's.
    """

    def __init__(self, stream: Stream, lines: Sequence[Line]) -> None:
        self.stream = stream
        self._runs: dict[tuple[str, int], Rows] = {}
        slow: dict[tuple[str, int], Rows] = {}
        for line in (line for line in lines if int(line["classes"]) == MAIN):
            settings, run = dict(zip(GRID, settings_of(line), strict=True)), tabulate.rows(line, stream.images)
            if line["kind"] != "slow":
                self._runs["frozen" if line["kind"] == "frozen" else key(settings), int(line["seed"])] = run
            if line["kind"] != "frozen":
                slow[_slow_of(settings), int(line["seed"])] = run
        names, learners = [key(one) for one in combinations()], {_slow_of(one) for one in combinations()}
        self.seeds = sorted(
            seed for name, seed in self._runs if name == "frozen" and all((one, seed) in slow for one in learners)
        )
        have = {name: [seed for seed in self.seeds if (name, seed) in self._runs] for name in names}
        if not all(have.values()):
            raise UserError(f"the table of {stream.name} is not whole; go on with: python -m benchmarks.tabulate")
        self.trained = {name: len(seeds) for name, seeds in have.items()}
        self.truth = {"frozen": [self._mean("frozen", place, self.seeds) for place in range(SLOW_ALONE + 1)]}
        for name in names:
            below = {seed: objective(slow[_slow_of(json.loads(name)), seed], SLOW_ALONE) for seed in self.seeds}
            shift = statistics.fmean(below.values()) - statistics.fmean(below[seed] for seed in have[name])
            self.truth[name] = [self._mean(name, place, have[name]) + shift for place in range(SLOW_ALONE + 1)]
        for name, seed in itertools.product(names, self.seeds):
            if seed not in have[name]:
                there, which = random.Random(f"{name} {seed}").choice(have[name]), _slow_of(json.loads(name))
                self._runs[name, seed] = _moved(self._runs[name, there], slow[which, there], slow[which, seed])
        ranpac = self.truth[key(next(combinations()))][SLOW_ALONE]  # the first combination has no transfer loss
        trials = max(self.truth[name][place] for name in names for place in TRAINED)
        self.best = max(trials, ranpac, self.truth["frozen"][SLOW_ALONE])
        scores = [{seed: objective(self.rows(name, seed), 1) for seed in self.seeds} for name in names]
        self.noise = interaction_noise(scores) or 0.0

    def rows(self, name: str, seed: int) -> Rows:
        """Return what a combination gives with a seed."""
        return self._runs[name, seed]

    def _mean(self, name: str, place: int, seeds: Sequence[int]) -> float:
        return statistics.fmean(objective(self.rows(name, seed), place) for seed in seeds)

    def order(self, repeat: int) -> list[int]:
        """Return the seeds in the order of a rehearsal: the search's, then those of its race."""
        return random.Random(repeat).sample(self.seeds, len(self.seeds))

    def fixed(self) -> dict[str, float]:
        """Return the regret of what needs no search: the preset, a poor one, RanPAC and the frozen head."""
        spec = specification(self.stream.name)
        known = {"preset": spec.base, "poor_preset": {**spec.base, **POOR}}
        known |= {"ranpac": {**spec.base, **dict.fromkeys(SLOW, 0.0), "fast.epochs": 0}}
        known |= {"frozen": {**spec.base, "pet.kind": "none"}}
        return {name: self.regret(config, own_prediction(config)) for name, config in known.items()}

    def regret(self, config: Mapping[str, Any], prediction: Mapping[str, Any]) -> float:
        """Return what a choice lacks to the best of the grid."""
        return self.best - self.truth[row_of(config)][place_of(config, prediction)]


def _slow_of(settings: Mapping[str, Any]) -> str:
    return key({name: float(settings[name]) for name in SLOW})


def _moved(run: Rows, slow: Rows, to: Rows) -> Rows:
    """Return a run with another slow learner below it, of which it keeps the distance."""
    return [
        [
            [min(max(share - own + other, 0.0), 1.0) for share, own, other in zip(groups, *below, strict=True)]
            for groups in session
        ]
        for session, below in ((run[t], (slow[t][SLOW_ALONE], to[t][SLOW_ALONE])) for t in range(SESSIONS))
    ]


def row_of(config: Mapping[str, Any]) -> str:
    """Return which runs of the table a configuration is; of the slow learner alone any of its fast settings."""
    if config["pet.kind"] == "none":
        return "frozen"
    alone = config["fast.epochs"] == 0
    return key({name: float(GRID[name][0] if alone and name not in SLOW else config[name]) for name in GRID})


def place_of(config: Mapping[str, Any], prediction: Mapping[str, Any]) -> int:
    """Return the place of a setting of prediction in a line."""
    if config["fast.epochs"] == 0 or prediction["aggregation.kind"] == "slow":
        return SLOW_ALONE
    return TEMPERATURES.index(prediction["aggregation.temperature"])


class Lookup:
    """Gives the sessions of a job from the table, and says which of them have to be trained.

    Args:
        order: seed of the table for the search and each repeat of the race; where they run out they begin anew.
    """

    def __init__(self, table: Table, order: Sequence[int]) -> None:
        self._table, self._order = table, order
        self._stages: set[tuple[Any, ...]] = set()

    def __call__(self, job: Job) -> list[SessionRecord]:
        """Return the session records of a job; nothing for what comes after the choice."""
        if job.kind not in (Kind.TRIAL, Kind.SLOW, Kind.BASELINE, Kind.RACE):
            return []
        seed, name = job.config["seed"], row_of(job.config)
        rows = self._table.rows(name, self._order[seed % len(self._order)])
        places = [place_of(job.config, prediction) for prediction in job.predictions]
        records = []
        for session in range(1, SESSIONS + 1):
            new = False
            if name != "frozen" and (session == 1 or job.config["fast.epochs"]):
                slow = _slow_of(job.config)
                stage = (seed, slow) if session == 1 else (seed, name, session)
                new = stage not in self._stages
                self._stages.add(stage)
            records.append(_record(rows[:session], places, self._table.stream.images, new))
        return records


def _record(rows: Rows, places: Sequence[int], images: int, new: bool) -> SessionRecord:
    alone = {"average_accuracy": objective(rows, SLOW_ALONE), "accuracy": statistics.fmean(rows[-1][SLOW_ALONE])}
    return SessionRecord(
        len(rows),
        SESSIONS,
        "val",
        {f"val/slow/{name}": value for name, value in alone.items()},
        grid=tuple(tuple(rows[-1][place]) for place in places),
        grid_metrics=tuple({} for _ in places),
        counts=(images,) * len(rows),
        work=Work("trained" if new else "reused", 0.0),
    )


@cache
def specification(stream: str) -> SweepSpec:
    """Return the sweep that all rehearsals over a table are variations of."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("\n".join(f"{name}: {entry}" for name, entry in SPACE.items()))
        file.flush()
        return build_spec(
            name="bench-search",
            dataset={"glyphs": "quickstart"}.get(stream, stream),
            overrides=STREAMS[stream].overrides,
            seeds=1,
            trials=len(list(combinations())),
            space=Path(file.name),
            audit=False,
            control=False,
        )


@dataclass(frozen=True)
class Outcome:
    """What a rehearsal came to: sessions trained in all, and the regret of its choice."""

    sessions: int
    regret: float


def rehearse(table: Table, repeat: int, *, learned: Sequence[Mapping[str, Any]] = (), **asked: Any) -> Outcome:
    """Return the outcome of a whole sweep; `asked` changes its specification."""
    log = _log(table, repeat, learned, {"search_seed": repeat, **asked})
    assert log.selected is not None
    chosen = log.jobs[log.selected["trial"]]
    trained = sum(record.trained for job in log.jobs.values() for record in job.sessions)
    return Outcome(trained, table.regret(chosen.config, log.selected["prediction"]))


def raced(table: Table, repeat: int, search: str, budget: int, **asked: Any) -> Outcome:
    """Return the outcome of a sweep whose search, baselines and race together have a budget."""
    race = round(RACE_SHARE * budget)
    more: dict[str, Any] = {"max_sessions": budget - race, "race_sessions": max(1, race - BEFORE_RACE)}
    return rehearse(table, repeat, search=search, trials=affordable(search, budget - race), **more, **asked)


def alone(
    table: Table, repeat: int, budgets: Sequence[int], *, learned: Sequence[Mapping[str, Any]] = (), **asked: Any
) -> list[Outcome]:
    """Return the outcomes of a search without a race that ends at each of some budgets, the largest last.

    What it does up to a budget does not depend on how it goes on, so that one rehearsal has all of them. The trial that
    is under way when a budget is spent comes to its end, as in a sweep.
    """
    more = {"search_seed": repeat, "finalists": 0, "max_sessions": budgets[-1], **asked}
    log, outcomes = _log(table, repeat, learned, more), []
    jobs = [job for job in log.jobs.values() if job.kind in SEARCH_KINDS]
    for budget in budgets:
        spent, done = 0, []
        for job in jobs:
            if spent >= budget:
                break
            done.append(job)
            spent += sum(record.trained for record in job.sessions)
        best = choose((job for job in done if job.kind == Kind.TRIAL), log.sweep_spec.objective, "val")
        if best is not None:
            outcomes.append(Outcome(spent, table.regret(log.jobs[best.trial].config, best.prediction)))
    return outcomes


def _log(table: Table, repeat: int, learned: Sequence[Mapping[str, Any]], asked: Mapping[str, Any]) -> SweepLog:
    own = specification(table.stream.name)
    spec = SweepSpec.model_validate({**own.model_dump(), "round_size": 4, **asked})
    rehearsal = Rehearsal(spec)
    if learned:
        rehearsal.append("learned", trials=list(learned))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # what a sweep tells its user
        return rehearsal.run(Lookup(table, table.order(repeat)))


def lessons_of(stream: Stream, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return what trials on the other classes teach, as far as they are in the table."""
    told = [
        {
            "sweep": "others",
            "settings": dict(zip(GRID, settings_of(line), strict=True)),
            "goodness": [best_of(tabulate.rows(line, stream.images))],
        }
        for line in lines
        if int(line["classes"]) == OTHERS and line["kind"] == "trial"
    ]
    return sorted(told, key=lambda one: float(one["goodness"][0]), reverse=True)


def run(console: Console) -> list[dict[str, Any]]:
    """Return the rows of every table (every search at every budget, STOP=auto), and the time of a proposal."""
    every: list[dict[str, Any]] = []
    for stream in STREAMS.values():
        if lines := tabulate.read(stream.table):
            rows = over(stream, lines, console)
            every += [{"table": stream.name, **one} for one in rows]
    _draw(every, Path(os.environ.get("RESULTS") or "results") / "bench" / "search.svg")
    proposal = {"name": f"a proposal of TPE, {TOLD} trials told, rounds of 4", "milliseconds": proposal_ms(TOLD)}
    console.print(proposal)
    return [*every, proposal]


def over(stream: Stream, lines: Sequence[Line], console: Console) -> list[dict[str, Any]]:
    """Return the rows of one table."""
    table, learned = Table(stream, lines), lessons_of(stream, lines)
    rows: list[dict[str, Any]] = []
    for name, asked in ALONE.items():
        if name == LEARNED and not learned:
            continue  # the table has no other classes
        told = learned if name == LEARNED else ()
        groups = [(one,) for one in BUDGETS] if asked["search"] == "staged" else [BUDGETS]
        for budgets in groups:
            more = {**asked, "trials": affordable(asked["search"], budgets[-1])}
            curves = [alone(table, n, budgets, learned=told, **more) for n in range(REPEATS)]
            rows += [
                row(name, each, outcomes) for each, outcomes in zip(budgets, zip(*curves, strict=True), strict=True)
            ]
    for search, budget in itertools.product(("staged", "tpe"), BUDGETS):
        rows.append(row(f"{search} + race", budget, [raced(table, n, search, budget) for n in range(REPEATS)]))
    last, poor = BUDGETS[-1], dict[str, Any](base={**specification(stream.name).base, **POOR})
    for name, rehearsed in {
        "tpe, poor preset": lambda n: alone(table, n, (last,), search="tpe", **poor)[0],
        "staged + race, poor preset": lambda n: raced(table, n, "staged", last, **poor),
        "staged + race, what is near ties": lambda n: raced(table, n, "staged", last, rules=4),
    }.items():
        rows.append(row(name, last, [rehearsed(n) for n in range(REPEATS)]))
    _print(rows, table, console)
    stopped = _stopped(table)
    console.print(stopped)
    facts = {"name": "the table", "combinations": len(table.truth) - 1, "seeds": len(table.seeds)}
    facts |= {f"regret_{name}": 100 * regret for name, regret in table.fixed().items()}
    facts |= {"trained_with_seeds": [min(table.trained.values()), max(table.trained.values())]}
    facts |= {"noise_points": 100 * table.noise, "best_accuracy": table.best, "learned": len(learned)}
    return [*rows, facts, stopped]


def affordable(search: str, sessions: int) -> int:
    """Return the trials that a sweep of so many sessions asks for: a staged one is laid out by their number."""
    combined = len(list(combinations()))
    if search != "staged":
        return combined
    slow = len({_slow_of(settings) for settings in combinations()})
    return min(combined, max(4, (sessions - slow) // (SESSIONS - 1)))


def row(name: str, budget: int, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return sessions, regret in points (mean, its standard error, 90th percentile) and the share of best choices."""
    regrets = [100 * outcome.regret for outcome in outcomes]
    return {
        "name": name,
        "budget": budget,
        "sessions": statistics.fmean(outcome.sessions for outcome in outcomes),
        "repeats": len(outcomes),
        "best_or_tied": statistics.fmean(regret <= 100 * TIE for regret in regrets),
        "regret_points": statistics.fmean(regrets),
        "standard_error": statistics.stdev(regrets) / len(regrets) ** 0.5 if len(regrets) > 1 else 0.0,
        "regret_p90": sorted(regrets)[round(0.9 * (len(regrets) - 1))],
    }


def _stopped(table: Table) -> dict[str, Any]:
    """Return what STOP=auto saves of a staged search of TRIALS trials with its race, and what it costs."""
    asked: dict[str, Any] = {"search": "staged", "trials": TRIALS}
    pairs = [tuple(rehearse(table, n, stop=stop, **asked) for stop in ("auto", "none")) for n in range(REPEATS)]
    return {
        "name": "staged + race, STOP=auto",
        "repeats": REPEATS,
        "sessions_stopped": statistics.fmean(auto.sessions for auto, _ in pairs),
        "sessions_whole": statistics.fmean(whole.sessions for _, whole in pairs),
        "saved": 1 - sum(auto.sessions for auto, _ in pairs) / sum(whole.sessions for _, whole in pairs),
        "regret_stopped_points": 100 * statistics.fmean(auto.regret for auto, _ in pairs),
        "regret_whole_points": 100 * statistics.fmean(whole.regret for _, whole in pairs),
    }


def proposal_ms(told: int) -> float:
    """Return the milliseconds of CPU time that TPE takes for one proposal of a round, the median of five rounds."""
    spec = build_spec(name="bench-tpe", dataset="glyphs", overrides={}, search="tpe", trials=told + 4, seeds=1)
    space = spec.parsed_space()
    seen = [Observation(draw(space, 0, number), (random.Random(number).random(),)) for number in range(told)]
    tried = {key(space.settings(one.settings)) for one in seen}
    seconds = []
    for number in range(5):
        began = time.process_time()
        tpe.suggest(space, f"{number}", seen, tried, 4, lambda settings: bool(spec.trial_config(settings)))
        seconds.append(time.process_time() - began)
    return 1000 * statistics.median(seconds) / 4


def _print(rows: list[dict[str, Any]], table: Table, console: Console) -> None:
    name, noise = table.stream.name, f"noise of a seed {100 * table.noise:.2f}"
    within = f"how often the choice is best or within {100 * TIE:g} points"
    title = f"{name}, {len(table.seeds)} seeds: true regret in points (± standard error), and {within}"
    shown = Shown(title=f"{title}; {REPEATS} repeats, {noise}", title_justify="left", box=None)
    for column in ("search", "budget", "sessions", "regret", "p90", "best or tied"):
        shown.add_column(column, justify="left" if column == "search" else "right")
    for line in rows:
        regret = f"{line['regret_points']:.2f} ± {line['standard_error']:.2f}"
        best = f"{100 * line['best_or_tied']:.0f} %"
        p90 = f"{line['regret_p90']:.2f}"
        shown.add_row(line["name"], str(line["budget"]), f"{line['sessions']:.0f}", regret, p90, best)
    console.print(shown)


def _draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the true regret by sessions, with its standard error, one panel a table and one line a search."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    tables = list(dict.fromkeys(line["table"] for line in rows))
    figure, panels = pyplot.subplots(1, len(tables), figsize=(5 * len(tables), 3.8), squeeze=False)
    names = dict.fromkeys(line["name"] for line in rows if "budget" in line)
    colours = {name: f"C{number}" for number, name in enumerate(names)}  # the same in every panel
    for table, axes in zip(tables, panels[0], strict=True):
        here = [line for line in rows if line["table"] == table and "budget" in line]
        for name in dict.fromkeys(line["name"] for line in here):
            mine = [line for line in here if line["name"] == name]
            columns = ([line[column] for line in mine] for column in ("sessions", "regret_points", "standard_error"))
            style = "-" if name.endswith("race") else "--"
            axes.errorbar(*columns, fmt=style, color=colours[name], marker="o", markersize=3, capsize=2, label=name)
        axes.set_title(table)
        axes.set_xlabel("training sessions, race and baselines included")
        axes.set_ylim(bottom=0)
    panels[0][0].set_ylabel("true regret, points")
    lines = panels[0][0].get_legend_handles_labels()
    panels[0][-1].legend(*lines, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
